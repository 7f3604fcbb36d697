//! Query strings, and the option structs that Kubernetes reads from them.

use apimachinery::{
    ApiError, FieldError, FieldPath, fields::FieldSelector, labels::Selector, status::Reason,
};
use serde_json::Value;

/// A decoded query string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d`.
    pub(crate) fn parse(text: &str) -> Self {
        Self(
            text.split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (percent_decode(name, true), percent_decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a parameter; none if it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let first = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        first.filter(|value| !value.is_empty())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The one name that a field selector confines a collection to: authorization asks for that object then.
    pub(crate) fn only_name(&self) -> Option<String> {
        let selector = FieldSelector::parse(self.get("fieldSelector")?).ok()?;
        selector.required_value("metadata.name").map(str::to_owned)
    }

    /// A boolean as Go's conversion reads it: present and neither `0` nor `false`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.all(name)
            .next()
            .is_some_and(|value| !matches!(value, "0" | "false" | "False" | "FALSE" | "f" | "F"))
    }

    fn flag_if_set(&self, name: &str) -> Option<bool> {
        self.all(name).next().map(|_| self.flag(name))
    }

    /// A number; none if it is not given. An empty one is given.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        self.all(name)
            .next()
            .map(|text| {
                text.parse::<i64>().map_err(|error| {
                    let why = match error.kind() {
                        PosOverflow | NegOverflow => "value out of range",
                        _ => "invalid syntax",
                    };
                    ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
                })
            })
            .transpose()
    }
}

/// Undoes percent-encoding; in queries, `+` is a space. What is not UTF-8 becomes U+FFFD.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'+' if plus_is_space => out.push(b' '),
            b'%' => match (digit(bytes.get(at)), digit(bytes.get(at + 1))) {
                (Some(high), Some(low)) => {
                    out.push((high * 16 + low) as u8);
                    at += 2;
                }
                _ => out.push(byte),
            },
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    /// Not older than the resourceVersion.
    NotOlderThan,
    /// Exactly the snapshot at the resourceVersion.
    Exact,
}

/// `metav1.ListOptions`, checked as `ValidateListOptions` does.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    /// Labels that objects must have.
    pub labels: Selector,
    /// Fields that objects must have.
    pub fields: FieldSelector,
    /// Most objects in one page; 0 for all.
    pub limit: usize,
    /// Token of the next page.
    pub continuation: Option<String>,
    /// The version asked for, as it was written; none is the newest.
    pub version_text: Option<String>,
    /// How it binds.
    pub version_match: Option<VersionMatch>,
    /// Whether changes are asked for rather than a list.
    pub watch: bool,
    /// Whether a watch may carry bookmarks.
    pub bookmarks: bool,
    /// Whether a watch begins with the present state and a bookmark that ends it.
    pub send_initial_events: Option<bool>,
    /// How long a watch lasts; below zero it is over before it begins.
    pub timeout_seconds: Option<i64>,
}

impl ListOptions {
    /// Reads and checks the options of a list or watch. What is no value of its type is told first.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let refused = |error: String| ApiError::bad_request(error);
        let mut options = Self {
            labels: Selector::parse(query.get("labelSelector").unwrap_or_default())
                .map_err(|error| refused(error.to_string()))?,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())
                .map_err(|error| refused(error.to_string()))?,
            // Below zero means none, as for kube-apiserver.
            limit: usize::try_from(query.number("limit")?.unwrap_or_default().max(0)).unwrap_or(usize::MAX),
            continuation: query.get("continue").map(str::to_owned),
            version_text: query.get("resourceVersion").map(str::to_owned),
            version_match: None,
            watch: query.flag("watch"),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.flag_if_set("sendInitialEvents"),
            timeout_seconds: query.number("timeoutSeconds")?,
        };
        let mut how = query.get("resourceVersionMatch");
        // `SetListOptionsDefaults`: a watch from the beginning sends what is there, and ends that with a bookmark for those who take some.
        let from_start = matches!(options.version_text.as_deref(), None | Some("0"));
        if options.watch && from_start && how.is_none() && options.send_initial_events.is_none() {
            options.send_initial_events = Some(true);
            how = Some("NotOlderThan");
        }
        let errors = if options.watch { options.watch_faults(how) } else { options.list_faults(how) };
        if !errors.is_empty() {
            return Err(invalid(&errors));
        }
        options.version_match = match how {
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some("Exact") => Some(VersionMatch::Exact),
            _ => None,
        };
        Ok(options)
    }

    /// `ValidateListOptions` of a list; `how` is its resourceVersionMatch.
    fn list_faults(&self, how: Option<&str>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(how) = how {
            let path = FieldPath::new("resourceVersionMatch");
            let mut forbid = |why: &str| errors.push(FieldError::forbidden(&path, why));
            if self.version_text.is_none() {
                forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if self.continuation.is_some() {
                forbid("resourceVersionMatch is forbidden when continue is provided");
            }
            if !matches!(how, "Exact" | "NotOlderThan") {
                errors.push(FieldError::not_listed(&path, how, &["Exact", "NotOlderThan", ""]));
            }
            if how == "Exact" && self.version_text.as_deref() == Some("0") {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(FieldError::forbidden(&path, why));
            }
        }
        if self.send_initial_events.is_some() {
            let path = FieldPath::new("sendInitialEvents");
            errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
        }
        errors
    }

    /// The same of a watch.
    fn watch_faults(&self, how: Option<&str>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let path = FieldPath::new("resourceVersionMatch");
        let mut forbid = |why: &str| errors.push(FieldError::forbidden(&path, why));
        if self.send_initial_events.is_some() && how != Some("NotOlderThan") {
            forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        let Some(how) = how else { return errors };
        if self.send_initial_events.is_none() {
            forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        if how != "NotOlderThan" {
            errors.push(FieldError::not_listed(&path, how, &["NotOlderThan"]));
        }
        if self.continuation.is_some() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        errors
    }

    /// Whether no certain version is asked for: whichever is at hand will do.
    pub(crate) fn any_version(&self) -> bool {
        self.version_text.as_deref() == Some("0")
    }

    /// The version that a list asks for.
    pub(crate) fn list_version(&self) -> Result<Option<u64>, ApiError> {
        self.version().map_err(|why| ApiError::bad_request(format!("invalid resource version: {why}")))
    }

    /// The version that a watch asks for. kube-apiserver has no word for one that is none.
    pub(crate) fn watch_version(&self) -> Result<Option<u64>, ApiError> {
        self.version().map_err(|why| ApiError::new(500, Reason::Unknown, why))
    }

    fn version(&self) -> Result<Option<u64>, String> {
        self.version_text.as_deref().map(parse_version).transpose()
    }
}

/// Reads a resourceVersion, or says what is wrong with it.
fn parse_version(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(version) if digits => Ok(version),
        _ => {
            let why = if digits { "value out of range" } else { "invalid syntax" };
            Err(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
            ))
        }
    }
}

fn invalid(errors: &[FieldError]) -> ApiError {
    ApiError::invalid("meta.k8s.io", "ListOptions", "", errors)
}

/// What happens to fields that no schema knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Nothing.
    Ignore,
    /// A Warning header each.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    /// Do everything but store.
    pub dry_run: bool,
    /// Who writes, for field ownership; none if not said.
    pub field_manager: Option<String>,
    /// What happens to unknown fields.
    pub field_validation: FieldValidation,
    /// Take fields over from other managers (apply only).
    pub force: bool,
}

impl WriteOptions {
    /// Reads and checks the options of a write; `kind` is the option kind's name, for messages.
    pub(crate) fn parse(query: &Query, kind: &str) -> Result<Self, ApiError> {
        Self::parse_with(query, kind, Vec::new())
    }

    /// Those of a patch: an apply names its manager, and nothing else takes fields over.
    pub(crate) fn of_patch(query: &Query, applies: bool) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        if applies && query.get("fieldManager").is_none() {
            errors.push(FieldError::required(&FieldPath::new("fieldManager"), "is required for apply patch"));
        }
        if !applies && query.get("force").is_some() {
            let message = "may not be specified for non-apply patch";
            errors.push(FieldError::forbidden(&FieldPath::new("force"), message));
        }
        Self::parse_with(query, "PatchOptions", errors)
    }

    fn parse_with(query: &Query, kind: &str, mut errors: Vec<FieldError>) -> Result<Self, ApiError> {
        let field_manager = query.get("fieldManager").map(str::to_owned);
        if let Some(manager) = &field_manager {
            let path = FieldPath::new("fieldManager");
            if manager.len() > 128 {
                errors.push(FieldError::too_long(&path, 128));
            }
            for (position, letter) in manager.char_indices().filter(|(_, letter)| letter.is_control()) {
                let message =
                    format!("invalid character U+{:04X} (at position {position})", u32::from(letter));
                errors.push(FieldError::invalid(&path, manager.as_str(), &message));
            }
        }
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let path = FieldPath::new("fieldValidation");
                errors.push(FieldError::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        if errors.is_empty() {
            Ok(Self { dry_run, field_manager, field_validation, force: query.flag("force") })
        } else {
            Err(ApiError::invalid("meta.k8s.io", kind, "", &errors))
        }
    }
}

/// Whether the only known value, `All`, was given.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<_> = values.collect();
    if values.iter().any(|value| *value != "All") {
        // All of them are one value: a list.
        let mut error = FieldError::not_supported(&FieldPath::new("dryRun"), "", &["All"]);
        error.message = format!("Unsupported value: {}: supported values: \"All\"", Value::from(values));
        errors.push(error);
        return false;
    }
    !values.is_empty()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn selectors_come_percent_encoded() {
        let query = Query::parse("labelSelector=app%20in%20%28a%2Cb%29&watch=1&limit=5");
        assert_eq!(query.get("labelSelector"), Some("app in (a,b)"));
        assert!(query.flag("watch"));
        assert_eq!(ListOptions::parse(&query).unwrap().limit, 5);
    }

    #[test]
    fn a_match_without_a_version_is_refused() {
        let error = ListOptions::parse(&Query::parse("resourceVersionMatch=Exact")).unwrap_err();
        assert_eq!(error.code, 422);
        let error =
            ListOptions::parse(&Query::parse("resourceVersionMatch=Exact&resourceVersion=0")).unwrap_err();
        assert_eq!(error.code, 422);
    }

    #[test]
    fn an_empty_number_is_none() {
        for name in ["limit", "timeoutSeconds"] {
            let error = ListOptions::parse(&Query::parse(&format!("{name}="))).unwrap_err();
            assert_eq!(
                (error.code, error.message.as_str()),
                (400, r#"strconv.ParseInt: parsing "": invalid syntax"#)
            );
        }
    }

    #[test]
    fn a_version_that_is_none_is_a_fault_of_whoever_reads_it() {
        let options = |query: &str| ListOptions::parse(&Query::parse(query)).unwrap();
        let why = r#"resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#;
        let error = options("resourceVersion=x").list_version().unwrap_err();
        assert_eq!((error.code, error.message), (400, format!("invalid resource version: {why}")));
        let error = options("watch=1&resourceVersion=x").watch_version().unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (500, why));
        let error = options("resourceVersion=99999999999999999999").list_version().unwrap_err();
        assert!(error.message.ends_with("value out of range"), "{error}");
        assert_eq!(options("resourceVersion=7").list_version().unwrap(), Some(7));
    }

    #[test]
    fn what_is_no_number_is_told_before_what_does_not_go_together() {
        let told = |query: &str| ListOptions::parse(&Query::parse(query)).unwrap_err();
        assert_eq!(told("limit=x&resourceVersionMatch=Nope").code, 400);
        let error = told("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact");
        let fields = error.to_value()["details"]["causes"].as_array().map_or(0, Vec::len);
        assert_eq!((error.code, fields), (422, 2));
        assert_eq!(told("watch=1&continue=x").code, 422, "a watch from the beginning lists first");
        assert!(ListOptions::parse(&Query::parse("watch=1&continue=x&resourceVersion=5")).is_ok());
    }

    #[test]
    fn initial_events_need_not_older_than() {
        let error = ListOptions::parse(&Query::parse("watch=true&sendInitialEvents=true")).unwrap_err();
        assert_eq!(error.code, 422);
        let query = Query::parse("watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
        assert_eq!(ListOptions::parse(&query).unwrap().send_initial_events, Some(true));
    }
}
