//! Names: what an object, a label or an annotation may be called (RFC 1123, RFC 1035), in Kubernetes' words.

use std::fmt::Write as _;

use crate::addresses::canonical_ip;

/// Longest DNS label, in bytes (RFC 1035 section 2.3.4).
pub const LABEL_MAX_BYTES: usize = 63;
/// Longest DNS subdomain, in bytes.
pub const SUBDOMAIN_MAX_BYTES: usize = 253;
/// The most that keys and values of an object's annotations may hold together, in bytes.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 << 10;
/// Letters of generated suffixes: no vowels and nothing that looks like one, so no words appear.
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters in a generated suffix.
pub const SUFFIX_LEN: usize = 5;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SEARCH_FMT: &str = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
const DNS1035_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_FMT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// What the names of a kind must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// Most kinds: dots allowed, up to 253 bytes.
    Dns1123Subdomain,
    /// Namespaces and kinds whose name becomes one DNS label.
    Dns1123Label,
    /// RBAC kinds: anything that can stand in a URL path.
    PathSegment,
    /// IPAddresses: an address in its one form.
    Address,
}

impl NameRule {
    /// Every fault of a name; empty when it is good.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Dns1123Subdomain => dns1123_subdomain(name),
            Self::Dns1123Label => dns1123_label(name),
            Self::PathSegment => path_segment(name),
            Self::Address => canonical_ip(name).into_iter().collect(),
        }
    }

    /// Every fault of a `generateName`: a trailing dash is good, as more letters follow.
    pub fn check_prefix(self, prefix: &str) -> Vec<String> {
        match prefix.strip_suffix('-') {
            Some(rest) if !matches!(self, Self::PathSegment | Self::Address) => {
                self.check(&format!("{rest}a"))
            }
            _ => self.check(prefix),
        }
    }
}

fn regex_error(message: &str, format: &str, examples: &[&str]) -> String {
    // The doubled space before `or` is Kubernetes' own.
    let mut text = format!("{message} (e.g. ");
    for (index, example) in examples.iter().enumerate() {
        if index > 0 {
            text.push_str(" or ");
        }
        let _ = write!(text, "'{example}', ");
    }
    let _ = write!(text, "regex used for validation is '{format}')");
    text
}

fn too_long(max_bytes: usize) -> String {
    format!("must be no more than {max_bytes} bytes")
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Faults of a DNS-1123 label.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > LABEL_MAX_BYTES {
        faults.push(too_long(LABEL_MAX_BYTES));
    }
    if !is_label(text) && text.split('.').all(is_label) {
        // A subdomain, that is.
        faults.push("must not contain dots".to_owned());
    } else if !is_label(text) {
        faults.push(regex_error(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            LABEL_FMT,
            &["my-name", "123-abc"],
        ));
    }
    faults
}

/// Faults of a DNS-1123 subdomain.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > SUBDOMAIN_MAX_BYTES {
        faults.push(too_long(SUBDOMAIN_MAX_BYTES));
    }
    if !text.split('.').all(is_label) {
        faults.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_FMT,
            &["example.com"],
        ));
    }
    faults
}

/// Faults of a domain that names are looked for in: a DNS-1123 subdomain that may have underscores.
pub fn dns_search(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > SUBDOMAIN_MAX_BYTES {
        faults.push(too_long(SUBDOMAIN_MAX_BYTES));
    }
    // One underscore may be in front; then underscores are as good as hyphens.
    let good = |part: &str| is_label(&part.strip_prefix('_').unwrap_or(part).replace('_', "-"));
    if !text.split('.').all(good) {
        faults.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            SEARCH_FMT,
            &["example.com"],
        ));
    }
    faults
}

/// Faults of a DNS-1035 label.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > LABEL_MAX_BYTES {
        faults.push(too_long(LABEL_MAX_BYTES));
    }
    if !(is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())) {
        faults.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            DNS1035_FMT,
            &["my-name", "abc-123"],
        ));
    }
    faults
}

/// Faults of a name that only has to fit in a URL path.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// Faults of a qualified name (a label key): an optional DNS subdomain and `/`, then up to 63 bytes.
pub fn qualified_name(text: &str) -> Vec<String> {
    let shape = |prefix: &str| {
        format!(
            "{prefix}{}",
            regex_error(
                "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
                QUALIFIED_FMT,
                &["MyName", "my.name", "123-abc"],
            )
        )
    };
    let mut faults = Vec::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(
                    dns1123_subdomain(prefix).into_iter().map(|fault| format!("prefix part {fault}")),
                );
            }
            name
        }
        _ => {
            return vec![
                shape("a valid label key ")
                    + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            ];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX_BYTES {
        faults.push(format!("name part {}", too_long(LABEL_MAX_BYTES)));
    }
    if !is_qualified_part(name) {
        faults.push(shape("name part "));
    }
    faults
}

/// Faults of a label key.
pub fn label_key(text: &str) -> Vec<String> {
    qualified_name(text)
}

/// Faults of an annotation key: a label key whose case does not matter.
pub fn annotation_key(text: &str) -> Vec<String> {
    qualified_name(&text.to_lowercase())
}

/// Faults of a label value: up to 63 bytes, empty allowed.
pub fn label_value(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > LABEL_MAX_BYTES {
        faults.push(too_long(LABEL_MAX_BYTES));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        faults.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            LABEL_VALUE_FMT,
            &["MyValue", "my_value", "12345"],
        ));
    }
    faults
}

/// Makes a name from `generateName` and random bytes; the prefix is cut so that the name fits 63 bytes.
pub fn generated_name(prefix: &str, random: [u8; SUFFIX_LEN]) -> String {
    let mut end = prefix.len().min(LABEL_MAX_BYTES - SUFFIX_LEN);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix.get(..end).unwrap_or_default().to_owned();
    for byte in random {
        let letter = SUFFIX_ALPHABET.get(usize::from(byte) % SUFFIX_ALPHABET.len()).copied().unwrap_or(b'b');
        name.push(char::from(letter));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_kubernetes() {
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns1123_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
    }

    #[test]
    fn good_names_pass() {
        for name in ["a", "0", "a-b", "a.b-c.d"] {
            assert!(dns1123_subdomain(name).is_empty(), "{name}");
        }
        for key in ["app", "example.com/My_Name.1", "A"] {
            assert!(label_key(key).is_empty(), "{key}");
        }
        for value in ["", "MyValue", "my_value", "1"] {
            assert!(label_value(value).is_empty(), "{value}");
        }
        assert!(annotation_key("Example.COM/Key").is_empty());
        assert!(NameRule::PathSegment.check("system:masters").is_empty());
    }

    #[test]
    fn an_address_is_called_by_itself() {
        assert!(NameRule::Address.check("fe80::42:1dff:fe84:f9e2").is_empty());
        assert_eq!(NameRule::Address.check("10.0.0.01"), ["must not have leading 0s"]);
        assert!(!NameRule::Address.check_prefix("10.0.0.").is_empty());
    }

    #[test]
    fn bad_names_fail() {
        for name in ["", "-a", "a-", "a..b", "a_b", "Ä"] {
            assert!(!dns1123_subdomain(name).is_empty(), "{name}");
        }
        for key in ["", "a/b/c", "a/", "-a", "A.com/b", "a b"] {
            assert!(!label_key(key).is_empty(), "{key}");
        }
        assert!(!dns1035_label("1a").is_empty());
        assert!(!label_value("a b").is_empty());
        assert!(!NameRule::PathSegment.check("a/b").is_empty());
    }

    #[test]
    fn a_generate_name_may_end_in_a_dash() {
        assert!(NameRule::Dns1123Subdomain.check_prefix("web-").is_empty());
        assert!(!NameRule::Dns1123Subdomain.check_prefix("Web-").is_empty());
    }

    #[test]
    fn generated_names_fit_a_label_and_have_no_vowels() {
        let name = generated_name(&"x".repeat(100), [0, 1, 2, 26, 255]);
        assert_eq!(name.len(), 63);
        assert!(name.ends_with("bcd9q"), "{name}");
        assert_eq!(generated_name("web-", [0; 5]), "web-bbbbb");
    }
}
