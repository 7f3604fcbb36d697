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
    /// What kube-apiserver prints as Go's values may look as it likes; the rest of the text must be the same.
    #[serde(default)]
    go_values: bool,
}

pub(super) struct Rules(pub(super) Vec<Rule>);

/// What rules make of differences.
pub(super) struct Judged<'a> {
    /// How often each rule was needed.
    pub(super) used: Vec<usize>,
    /// What the rule whose name was asked for is needed for.
    pub(super) shown: Vec<&'a Difference>,
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

    /// The first rule that fits counts. What the rule `shown` is needed for is kept.
    pub(super) fn judge<'a>(&self, differences: &'a [Difference], shown: Option<&str>) -> Judged<'a> {
        let mut judged = Judged { used: vec![0; self.0.len()], shown: Vec::new(), unlisted: Vec::new() };
        for difference in differences {
            match self.0.iter().position(|rule| rule.fits(difference)) {
                Some(place) => {
                    judged.used[place] += 1;
                    if shown.is_some_and(|name| matches(name, &self.0[place].name)) {
                        judged.shown.push(difference);
                    }
                }
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
            && (!self.go_values || differs_in_go_values(difference))
    }
}

fn differs_in_go_values(difference: &Difference) -> bool {
    let (Some(Value::String(real)), Some(Value::String(own))) = (&difference.real, &difference.own) else {
        return false;
    };
    let parts = around_go_values(real);
    let Some((last, parts)) = parts.split_last().filter(|(_, parts)| !parts.is_empty()) else { return false };
    let mut rest = own.as_str();
    for (place, part) in parts.iter().enumerate() {
        let Some(at) = rest.find(part).filter(|at| place > 0 || *at == 0) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The parts of a text between the values in it that Go prints as literals of a type: `[]byte{0x1}`, `map[string]string(nil)`.
fn around_go_values(text: &str) -> Vec<&str> {
    const HEAD: &str = "value: ";
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = text[at..].find(HEAD) {
        at += found + HEAD.len();
        let value = &text[at..];
        let named = value
            .find(|letter: char| !letter.is_ascii_alphanumeric() && !"_.[]*".contains(letter))
            .unwrap_or(0);
        if named > 0
            && value[named..].starts_with(['{', '('])
            && let Some(length) = balanced(&value[named..])
        {
            parts.push(&text[start..at]);
            at += named + length;
            start = at;
        }
    }
    parts.push(&text[start..]);
    parts
}

/// How long a literal is that begins with a brace.
fn balanced(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '(' => depth += 1,
            '}' | ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            // A conversion of a pointer: `(*int)(nil)`.
            let rest = &text[at + letter.len_utf8()..];
            if rest.starts_with('(') {
                return balanced(rest).map(|length| at + letter.len_utf8() + length);
            }
            return Some(at + letter.len_utf8());
        }
    }
    None
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
    use super::{around_go_values, matches};

    #[test]
    fn what_go_prints_is_passed_over() {
        let text = r#"Invalid value: intstr.IntOrString{Type:1, StrVal:"}%"}: no, Invalid value: map[string]string(nil): none"#;
        assert_eq!(around_go_values(text), ["Invalid value: ", ": no, Invalid value: ", ": none"]);
        assert_eq!(around_go_values(r#"Invalid value: "a{b}": no"#).len(), 1);
    }

    #[test]
    fn a_star_is_anything() {
        assert!(matches("/body/*/name", "/body/items/0/name") && matches("a", "a") && matches("*", ""));
        assert!(matches("a*b*c", "a1b2c") && !matches("a*b*c", "a1c2b") && !matches("a", "ab"));
        assert!(!matches("ab*ba", "aba"));
    }
}
