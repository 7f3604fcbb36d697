//! A drill's hypothesis, such as `rto<10s,errors<0.1%,ready>=80%`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Parts of a million that make one percent.
const PER_PERCENT: u64 = 10_000;
/// A bound in milliseconds is at most this: a day.
const MS_MAX: u64 = 86_400_000;

/// Terms that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hypothesis(pub Vec<Term>);

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What is compared.
    pub metric: Metric,
    /// The bound itself is allowed.
    pub inclusive: bool,
    /// Milliseconds for times, parts of a million for shares.
    pub bound: u64,
    /// As written.
    pub text: String,
}

/// What can be bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Milliseconds from the start until no user was failed or sent to a lost cluster any more.
    Rto,
    /// Share of pages that did not come.
    Errors,
    /// Share of the wanted replicas that is ready in the clusters that are left when the time is up.
    Ready,
    /// Milliseconds that a page takes, as a percentile: 50, 95 or 99.
    Duration(u8),
}

impl Metric {
    const KNOWN: [(&'static str, Self); 6] = [
        ("rto", Self::Rto),
        ("errors", Self::Errors),
        ("ready", Self::Ready),
        ("p50", Self::Duration(50)),
        ("p95", Self::Duration(95)),
        ("p99", Self::Duration(99)),
    ];

    /// Whether less is better.
    pub fn is_ceiling(self) -> bool {
        self != Self::Ready
    }

    fn is_share(self) -> bool {
        matches!(self, Self::Errors | Self::Ready)
    }
}

/// What is wrong with a hypothesis.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("term {number} ({term:?}): {message}")]
pub struct Fault {
    /// From 1.
    pub number: usize,
    /// As written.
    pub term: String,
    /// What to write instead.
    pub message: String,
}

impl Term {
    /// Whether a measured value holds against the bound.
    pub fn holds(&self, measured: u64) -> bool {
        match (self.metric.is_ceiling(), self.inclusive) {
            (true, true) => measured <= self.bound,
            (true, false) => measured < self.bound,
            (false, true) => measured >= self.bound,
            (false, false) => measured > self.bound,
        }
    }

    /// Whether `part` of `whole` holds against the bound, exactly. Nothing of nothing is a share of none.
    pub fn holds_share(&self, part: u64, whole: u64) -> bool {
        let (part, bound) = (u128::from(part) * 1_000_000, u128::from(self.bound) * u128::from(whole.max(1)));
        match (self.metric.is_ceiling(), self.inclusive) {
            (true, true) => part <= bound,
            (true, false) => part < bound,
            (false, true) => part >= bound,
            (false, false) => part > bound,
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Hypothesis {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let mut terms: Vec<Term> = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self(terms));
        }
        for (index, part) in text.split(',').enumerate() {
            let fault = |message: String| Fault { number: index + 1, term: part.to_owned(), message };
            let term = term(part.trim()).map_err(fault)?;
            if terms.iter().any(|known| known.metric == term.metric) {
                return Err(fault("it was bounded before".into()));
            }
            terms.push(term);
        }
        Ok(Self(terms))
    }
}

fn term(text: &str) -> Result<Term, String> {
    let at = text
        .find(['<', '>', '='])
        .ok_or("write METRIC OPERATOR VALUE, such as rto<10s, errors<0.1% or ready>=80%")?;
    let (name, rest) = text.split_at(at);
    let name = name.trim().to_ascii_lowercase();
    let metric =
        Metric::KNOWN.iter().find(|(known, _)| *known == name).map(|(_, metric)| *metric).ok_or_else(
            || {
                let known: Vec<&str> = Metric::KNOWN.iter().map(|(name, _)| *name).collect();
                format!("{name:?} is not measured: one of {}", known.join(", "))
            },
        )?;
    let (ceiling, inclusive, value) = if let Some(value) = rest.strip_prefix("<=") {
        (true, true, value)
    } else if let Some(value) = rest.strip_prefix(">=") {
        (false, true, value)
    } else if let Some(value) = rest.strip_prefix('<') {
        (true, false, value)
    } else if let Some(value) = rest.strip_prefix('>') {
        (false, false, value)
    } else {
        return Err("the operator is one of <, <=, >, >=".into());
    };
    if ceiling != metric.is_ceiling() {
        let fitting = if metric.is_ceiling() { "< or <=" } else { "> or >=" };
        return Err(format!("{name} is compared with {fitting}"));
    }
    let bound = if metric.is_share() { share(value.trim()) } else { milliseconds(value.trim()) }?;
    if !inclusive && (if ceiling { bound == 0 } else { bound >= 100 * PER_PERCENT }) {
        return Err("nothing is beyond that: include the bound".into());
    }
    Ok(Term { metric, inclusive, bound, text: text.to_owned() })
}

/// Parts of a million, exactly.
fn share(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix('%').ok_or("the value is a percentage, such as 0.1%")?.trim();
    let bad = || format!("{number:?} is no percentage between 0 and 100 with at most 4 decimals");
    let scaled = decimal(number, 4).ok_or_else(bad)?;
    if scaled > 100 * PER_PERCENT { Err(bad()) } else { Ok(scaled) }
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let digits = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let per_unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(format!("{text:?} is no time: a number with ms, s or m, such as 10s")),
    };
    let scaled = decimal(number.trim(), 3).ok_or_else(|| format!("{number:?} is no number"))?;
    let ms = scaled.checked_mul(per_unit).map(|ms| ms / 1000).filter(|ms| *ms <= MS_MAX);
    ms.ok_or_else(|| "more than a day".into())
}

/// A decimal times ten to the power of `places`; no more places than that.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(rest) || rest.len() > places {
        return None;
    }
    format!("{whole}{rest:0<places$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(Metric, bool, u64)>, String> {
        text.parse::<Hypothesis>()
            .map(|found| found.0.iter().map(|term| (term.metric, term.inclusive, term.bound)).collect())
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn terms_are_read_exactly() {
        let expect =
            vec![(Metric::Rto, false, 10_000), (Metric::Errors, false, 1000), (Metric::Ready, true, 800_000)];
        assert_eq!(parse("rto<10s,errors<0.1%,ready>=80%"), Ok(expect));
        assert_eq!(
            parse(" p95 <= 1.5s , rto<2m"),
            Ok(vec![(Metric::Duration(95), true, 1500), (Metric::Rto, false, 120_000)])
        );
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn a_fault_names_its_term_and_what_to_write() {
        for (text, expect) in [
            (
                "rto<10s,speed<1s",
                "term 2 (\"speed<1s\"): \"speed\" is not measured: one of rto, errors, ready, p50, p95, p99",
            ),
            ("rto>10s", "term 1 (\"rto>10s\"): rto is compared with < or <="),
            ("ready<80%", "term 1 (\"ready<80%\"): ready is compared with > or >="),
            ("rto<10", "term 1 (\"rto<10\"): \"10\" is no time: a number with ms, s or m, such as 10s"),
            ("errors<1", "term 1 (\"errors<1\"): the value is a percentage, such as 0.1%"),
            (
                "errors<101%",
                "term 1 (\"errors<101%\"): \"101\" is no percentage between 0 and 100 with at most 4 decimals",
            ),
            ("errors<0%", "term 1 (\"errors<0%\"): nothing is beyond that: include the bound"),
            ("rto=3s", "term 1 (\"rto=3s\"): the operator is one of <, <=, >, >="),
            ("rto<1s,rto<2s", "term 2 (\"rto<2s\"): it was bounded before"),
            (
                "rto<99999999999999999999s",
                "term 1 (\"rto<99999999999999999999s\"): \"99999999999999999999\" is no number",
            ),
            ("rto<99999999999999s", "term 1 (\"rto<99999999999999s\"): more than a day"),
        ] {
            assert_eq!(parse(text), Err(expect.into()), "{text}");
        }
        let ending =
            "term 1 (\"fast\"): write METRIC OPERATOR VALUE, such as rto<10s, errors<0.1% or ready>=80%";
        assert_eq!(parse("fast"), Err(ending.into()));
    }

    #[test]
    fn shares_are_compared_without_rounding() {
        let term = "errors<0.1%".parse::<Hypothesis>().expect("it is one").0.remove(0);
        assert!(term.holds_share(0, 0) && term.holds_share(1, 1001) && !term.holds_share(1, 1000));
        let term = "ready>=80%".parse::<Hypothesis>().expect("it is one").0.remove(0);
        assert!(term.holds_share(4, 5) && !term.holds_share(79, 100));
    }
}
