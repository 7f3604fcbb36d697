//! Semantic versions (semver.org 2.0.0), as Kubernetes compares them.

use std::cmp::Ordering;

use super::{Outcome, overflow};
use crate::{Value, error::EvalError};

/// A part of a pre-release; numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

/// A version: `1.2.3-rc.1+build`. What is built does not count in comparisons.
#[derive(Debug, Clone)]
pub struct Semver {
    numbers: [u64; 3],
    release: Vec<Part>,
    text: String,
}

impl Semver {
    /// Parses a version. If it is normalised, a leading `v` goes, missing numbers are zero, and so do leading zeros.
    fn parse(text: &str, normalised: bool) -> Option<Self> {
        let rest = if normalised { text.strip_prefix('v').unwrap_or(text) } else { text };
        let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
        let (core, release) =
            rest.split_once('-').map_or((rest, None), |(core, release)| (core, Some(release)));
        let mut parts: Vec<&str> = core.split('.').collect();
        if normalised {
            parts.resize(parts.len().max(3), "0");
        }
        let number = |part: &str| {
            let zeros = part.len() > 1 && part.starts_with('0');
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            (digits && (normalised || !zeros)).then(|| part.parse::<u64>().ok()).flatten()
        };
        let numbers: Vec<u64> = parts.into_iter().map(number).collect::<Option<_>>()?;
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let part = |part: &str| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            match (word(part), digits) {
                (true, true) if part.len() == 1 || !part.starts_with('0') => {
                    part.parse().ok().map(Part::Number)
                }
                (true, false) => Some(Part::Word(part.to_owned())),
                _ => None,
            }
        };
        let release: Vec<Part> =
            release.map_or(Some(Vec::new()), |release| release.split('.').map(part).collect())?;
        if build.is_some_and(|build| !build.split('.').all(word)) {
            return None;
        }
        let numbers: [u64; 3] = numbers.try_into().ok()?;
        Some(Self { numbers, release, text: text.to_owned() })
    }
}

impl std::fmt::Display for Semver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        let released = self.release.is_empty().cmp(&other.release.is_empty());
        self.numbers.cmp(&other.numbers).then(released).then_with(|| self.release.cmp(&other.release))
    }
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Semver {}

pub(super) fn call(name: &str, _: bool, values: &[Value]) -> Option<Outcome> {
    use Value::{Bool, Int, String};
    let number = |own: &Semver, at: usize| {
        let number = own.numbers.get(at).copied().unwrap_or_default();
        i64::try_from(number).map(Int).map_err(|_| overflow())
    };
    let normalised = |rest: &[Value]| matches!(rest, [Bool(true)]);
    Some(match (name, values) {
        ("semver", [String(text), rest @ ..]) => Semver::parse(text, normalised(rest))
            .map(|version| Value::Semver(version.into()))
            .ok_or_else(|| EvalError::failed(format!("{text:?} is no semantic version"))),
        ("isSemver", [String(text), rest @ ..]) => Ok(Bool(Semver::parse(text, normalised(rest)).is_some())),
        ("major", [Value::Semver(own)]) => number(own, 0),
        ("minor", [Value::Semver(own)]) => number(own, 1),
        ("patch", [Value::Semver(own)]) => number(own, 2),
        ("isLessThan", [Value::Semver(own), Value::Semver(other)]) => Ok(Bool(own < other)),
        ("isGreaterThan", [Value::Semver(own), Value::Semver(other)]) => Ok(Bool(own > other)),
        ("compareTo", [Value::Semver(own), Value::Semver(other)]) => Ok(Int(own.cmp(other) as i64)),
        _ => return None,
    })
}
