//! Which differences are known, and why they are.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::compare::Difference;

/// What may differ. Patterns have `*` for anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) name: String,
    /// Why it is so.
    pub(super) reason: String,
    /// Cases, `FILE/NAME`; all if not given.
    #[serde(default)]
    cases: Vec<String>,
    /// Places in answers.
    paths: Vec<String>,
    /// What kube-apiserver must say there, as JSON; `-` for nothing.
    #[serde(default)]
    kube: Option<String>,
    /// What federation-apiserver must say there, as JSON; `-` for nothing.
    #[serde(default)]
    own: Option<String>,
}

pub(super) struct Rules(pub(super) Vec<Rule>);

/// What rules make of differences.
pub(super) struct Judged<'a> {
    /// How often each rule was needed.
    pub(super) used: Vec<usize>,
    pub(super) unlisted: Vec<&'a Difference>,
}

impl Rules {
    pub(super) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let rules: Vec<Rule> =
            serde_saphyr::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
        for (place, rule) in rules.iter().enumerate() {
            ensure!(
                rules[..place].iter().all(|other| other.name != rule.name),
                "two rules are called {}",
                rule.name
            );
        }
        Ok(Self(rules))
    }

    /// The first rule that fits counts.
    pub(super) fn judge<'a>(&self, differences: &'a [Difference]) -> Judged<'a> {
        let mut judged = Judged { used: vec![0; self.0.len()], unlisted: Vec::new() };
        for difference in differences {
            match self.0.iter().position(|rule| rule.fits(difference)) {
                Some(place) => judged.used[place] += 1,
                None => judged.unlisted.push(difference),
            }
        }
        judged
    }

    /// Rules that were not needed.
    pub(super) fn idle(&self, used: &[usize]) -> Vec<&str> {
        self.0.iter().zip(used).filter(|(_, used)| **used == 0).map(|(rule, _)| rule.name.as_str()).collect()
    }
}

impl Rule {
    fn fits(&self, difference: &Difference) -> bool {
        let says = |pattern: &Option<String>, value: &Option<Value>| match pattern {
            None => true,
            Some(pattern) => {
                matches(pattern, &value.as_ref().map_or_else(|| "-".to_owned(), Value::to_string))
            }
        };
        (self.cases.is_empty() || self.cases.iter().any(|pattern| matches(pattern, &difference.case)))
            && self.paths.iter().any(|pattern| matches(pattern, &difference.path))
            && says(&self.kube, &difference.real)
            && says(&self.own, &difference.own)
    }
}

/// Whether a text fits a pattern with `*`.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_anything() {
        assert!(matches("/body/*/name", "/body/items/0/name") && matches("a", "a") && matches("*", ""));
        assert!(matches("a*b*c", "a1b2c") && !matches("a*b*c", "a1c2b") && !matches("a", "ab"));
        assert!(!matches("ab*ba", "aba"));
    }
}
