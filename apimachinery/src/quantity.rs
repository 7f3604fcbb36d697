//! Quantities such as `500m` and `1Gi`: parse, compare, add, print canonically.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// Kubernetes keeps no precision below one nano-unit.
const NANOS: i128 = 1_000_000_000;

/// How a quantity is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    #[default]
    DecimalSi,
}

/// An exact amount in nano-units, rounded up (away from zero) as Kubernetes does. Compared by amount alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text does not match the grammar.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix is not known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// The number has no digits or more than one point.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

impl Quantity {
    /// A whole amount.
    pub const fn from_units(units: i64) -> Self {
        Self { nanos: units as i128 * NANOS, format: Format::DecimalSi }
    }

    /// An amount of thousandths, such as millicores.
    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis as i128 * (NANOS / 1000), format: Format::DecimalSi }
    }

    /// The amount in whole units, rounded up; saturates at the ends of i64.
    pub fn units(self) -> i64 {
        saturate(ceil_div(self.nanos, NANOS))
    }

    /// The amount in thousandths, rounded up; saturates at the ends of i64.
    pub fn millis(self) -> i64 {
        saturate(ceil_div(self.nanos, NANOS / 1000))
    }

    /// The amount in whole thousandths, rounded away from zero.
    #[must_use]
    pub fn rounded_to_millis(self) -> Self {
        const MILLI: i128 = NANOS / 1000;
        let rest = self.nanos % MILLI;
        let up = if rest == 0 { 0 } else { MILLI * rest.signum() - rest };
        Self { nanos: self.nanos.saturating_add(up), ..self }
    }

    /// True for an amount of nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// True for an amount below nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum; saturates. Keeps this quantity's format unless it is zero.
    pub fn saturating_add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn ceil_div(value: i128, by: i128) -> i128 {
    // Away from zero, as inf.RoundUp.
    let quotient = value / by;
    if value % by == 0 { quotient } else { quotient + value.signum() }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            Some(_) => (false, text),
            None => return Err(ParseError::Format),
        };
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseError::Format);
        }
        if fraction.contains('.') {
            return Err(ParseError::Numeric);
        }
        let (base, exponent, format) = suffix_scale(suffix)?;
        let nanos = scaled_nanos(whole, fraction, base, exponent);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// (base, exponent, format) of a suffix.
fn suffix_scale(suffix: &str) -> Result<(i128, i32, Format), ParseError> {
    let decimal = |exponent| Ok((10, exponent, Format::DecimalSi));
    let binary = |exponent| Ok((1024, exponent, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
            let exponent = exponent.parse().map_err(|_| ParseError::Suffix)?;
            Ok((10, exponent, Format::DecimalExponent))
        }
    }
}

/// The number in nano-units, rounded up; amounts beyond the largest count as the largest, as in Kubernetes.
fn scaled_nanos(whole: &str, fraction: &str, base: i128, exponent: i32) -> i128 {
    // Kubernetes caps at 2^63-1 units; one cap in nanos serves the same purpose.
    const CAP: i128 = i64::MAX as i128 * NANOS;
    let mut mantissa: i128 = 0;
    let mut scale: i32 = 0;
    let mut inexact = false;
    for (digit, fractional) in whole.bytes().map(|b| (b, false)).chain(fraction.bytes().map(|b| (b, true))) {
        let digit = i128::from(digit - b'0');
        // 27 digits are more than CAP has; what follows in a fraction can only round up.
        match mantissa.checked_mul(10).and_then(|m| m.checked_add(digit)).filter(|m| *m < CAP * 1_000_000) {
            Some(next) => {
                mantissa = next;
                scale -= i32::from(fractional);
            }
            None if fractional => inexact |= digit != 0,
            None => return CAP,
        }
    }
    let (multiplier, power) = match base {
        1024 => (1024_i128.pow(exponent.unsigned_abs()), scale + 9),
        _ => (1, scale.saturating_add(exponent).saturating_add(9)),
    };
    let Some(mut value) = mantissa.checked_mul(multiplier) else { return CAP };
    if power >= 0 {
        let factor = if power > 37 { None } else { Some(10_i128.pow(power.unsigned_abs())) };
        match (value, factor.and_then(|factor| value.checked_mul(factor))) {
            (0, _) => {}
            (_, Some(scaled)) => value = scaled,
            (_, None) => return CAP,
        }
    } else if power < -37 {
        inexact |= value != 0;
        value = 0;
    } else {
        let divisor = 10_i128.pow(power.unsigned_abs());
        inexact |= value % divisor != 0;
        value /= divisor;
    }
    (value + i128::from(inexact)).min(CAP)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary =
            self.format == Format::BinarySi && self.nanos % NANOS == 0 && self.nanos.abs() >= 1024 * NANOS;
        if binary {
            let mut amount = self.nanos / NANOS;
            let mut step = 0;
            while amount % 1024 == 0 && step + 1 < BINARY.len() {
                amount /= 1024;
                step += 1;
            }
            return write!(f, "{amount}{}", BINARY.get(step).unwrap_or(&""));
        }
        let mut amount = self.nanos;
        let mut step = 0;
        while amount % 1000 == 0 && step + 1 < DECIMAL.len() {
            amount /= 1000;
            step += 1;
        }
        match self.format {
            Format::DecimalExponent if step != 3 => write!(f, "{amount}e{}", step as i32 * 3 - 9),
            _ => write!(f, "{amount}{}", DECIMAL.get(step).unwrap_or(&"")),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.saturating_add(Self { nanos: -other.nanos, format: other.format })
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Self::saturating_add)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        assert_eq!(text.parse::<Quantity>().unwrap().to_string(), canonical, "{text}");
    }

    #[test]
    fn quantities_print_canonically() {
        for (text, canonical) in [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000Ki", "1000Ki"),
            ("100", "100"),
            ("1500", "1500"),
            ("2000", "2k"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("0.5Ki", "512"),
            ("-1.5", "-1500m"),
            ("+1", "1"),
            ("1.", "1"),
            (".5", "500m"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("12E", "9223372036854775807"),
        ] {
            check(text, canonical);
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in ["", "a", "1x", "1.2.3", "-", ".", "1e", "1ki", "Mi", "1 Mi"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_compare_and_add_across_formats() {
        let total: Quantity = ["500m", "1", "1.5"].iter().map(|t| t.parse::<Quantity>().unwrap()).sum();
        assert_eq!(total, "3".parse().unwrap());
        assert!("1Ki".parse::<Quantity>().unwrap() > "1k".parse().unwrap());
        assert_eq!("1500m".parse::<Quantity>().unwrap().units(), 2);
        assert_eq!("1".parse::<Quantity>().unwrap() - "250m".parse().unwrap(), Quantity::from_millis(750));
    }
}
