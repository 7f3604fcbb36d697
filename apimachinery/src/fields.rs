//! Field selectors: `metadata.name=x,status.phase!=Running`.

use std::collections::BTreeMap;
use std::fmt;

/// The selectable fields of one object, by path.
pub type Fields = BTreeMap<String, String>;

/// One term of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The field's path.
    pub field: String,
    /// The value, unescaped.
    pub value: String,
    /// True for `=` and `==`, false for `!=`.
    pub equal: bool,
}

/// A field selector; all its terms must hold. None at all selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The terms, in the order given.
    pub terms: Vec<Term>,
}

/// Why a field selector cannot be used; the texts are Kubernetes' own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A term has no operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole selector.
        selector: String,
        /// The term that has no operator.
        term: String,
    },
    /// A backslash escapes something other than a comma, an equals sign or itself.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A comma or an equals sign is not escaped; told as its number, as Go prints runes.
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(u32),
    /// The kind does not offer the field.
    #[error("field label not supported: {0}")]
    NotSupported(String),
}

impl FieldSelector {
    /// Parses the form of `?fieldSelector=`.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut terms = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let not_understood =
                || FieldSelectorError::Term { selector: text.to_owned(), term: term.to_owned() };
            let (field, value, equal) = split_term(term).ok_or_else(not_understood)?;
            let value = unescape(value)?;
            // No field and no value is no term, as in Kubernetes.
            if !(field.is_empty() && value.is_empty()) {
                terms.push(Term { field: field.to_owned(), value, equal });
            }
        }
        Ok(Self { terms })
    }

    /// True when no object can fail the selector.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Refuses fields that the kind does not offer.
    pub fn check_supported(&self, supported: &[&str]) -> Result<(), FieldSelectorError> {
        match self.terms.iter().find(|term| !supported.contains(&term.field.as_str())) {
            Some(term) => Err(FieldSelectorError::NotSupported(term.field.clone())),
            None => Ok(()),
        }
    }

    /// The value that `field` must equal, if a term says so: a list of one name is a get.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }

    /// Whether the fields are selected; an absent field counts as the empty text.
    pub fn matches(&self, fields: &Fields) -> bool {
        self.terms
            .iter()
            .all(|term| (fields.get(&term.field).map_or("", String::as_str) == term.value) == term.equal)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(text.get(start..index).unwrap_or_default());
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(text.get(start..).unwrap_or_default());
    terms
}

fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    let at = term.find("!=").into_iter().chain(term.find('=')).min()?;
    let (field, rest) = term.split_at(at);
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(value) = rest.strip_prefix(operator) {
            return Some((field, value, equal));
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => return Err(FieldSelectorError::Escape(format!("\\{next}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c.into())),
            other => out.push(other),
        }
    }
    Ok(out)
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn terms_are_joined_by_and() {
        let selector = FieldSelector::parse("metadata.name=x,status.phase!=Running").unwrap();
        assert!(selector.matches(&fields(&[("metadata.name", "x"), ("status.phase", "Failed")])));
        assert!(!selector.matches(&fields(&[("metadata.name", "x"), ("status.phase", "Running")])));
        assert_eq!(selector.required_value("metadata.name"), Some("x"));
        assert_eq!(selector.required_value("status.phase"), None);
        assert!(FieldSelector::parse("").unwrap().is_everything());
        assert!(FieldSelector::parse("a==b").unwrap().matches(&fields(&[("a", "b")])));
        assert!(FieldSelector::parse("spec.nodeName=").unwrap().matches(&Fields::new()));
    }

    #[test]
    fn separators_are_escaped() {
        let selector = FieldSelector::parse(r"a=b\,c\=d\\e").unwrap();
        assert_eq!(selector.terms[0].value, r"b,c=d\e");
        assert_eq!(selector.to_string(), r"a=b\,c\=d\\e");
        assert!(FieldSelector::parse(r"a=\b").is_err());
    }

    #[test]
    fn unknown_fields_and_nonsense_are_named() {
        let selector = FieldSelector::parse("spec.color=red").unwrap();
        assert_eq!(
            selector.check_supported(&["metadata.name"]).unwrap_err().to_string(),
            "field label not supported: spec.color"
        );
        assert_eq!(
            FieldSelector::parse("a=b,c").unwrap_err().to_string(),
            "invalid selector: 'a=b,c'; can't understand 'c'"
        );
    }
}
