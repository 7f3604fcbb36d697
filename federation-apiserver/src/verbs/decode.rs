//! Request bodies: JSON, YAML and protobuf; types and unknown fields.

use std::{borrow::Cow, collections::HashSet};

use apimachinery::{ApiError, FieldError, FieldPath, field::quoted, json::type_name};
use kube_schema::Report;
use serde_json::Value;

use super::{Call, parse_errors, parts, patch, yaml};
use crate::{
    crd::Custom,
    http::{
        negotiate::{APPLY, JSON, PROTOBUF, YAML, content_type},
        query::FieldValidation,
    },
    registry::Kind,
};

/// Unknown fields of objects within an object that are told: as many as of any other.
const UNKNOWN_MAX: usize = 100;

/// Why an object is not taken as one of its kind.
pub(super) enum Undecodable {
    /// It cannot be read as the kind.
    Unreadable {
        /// What was read as what: `Pod in version "v1" cannot be handled as a Pod`.
        subject: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is refused for another reason.
    Refused(ApiError),
}

impl From<Undecodable> for ApiError {
    fn from(error: Undecodable) -> Self {
        match error {
            Undecodable::Unreadable { subject, why } => Self::bad_request(format!("{subject}: {why}")),
            Undecodable::Refused(error) => error,
        }
    }
}

impl From<ApiError> for Undecodable {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

/// An object of `found` kind and version that was to be one of `kind`.
fn unreadable((found, version): (&str, &str), kind: &str, why: String) -> Undecodable {
    let subject = format!("{found} in version {} cannot be handled as a {kind}", quoted(version));
    Undecodable::Unreadable { subject, why }
}

impl Call {
    /// Decodes the body as an object of the URL's kind and checks its types and unknown fields.
    pub(super) fn decode_object(&mut self, validation: FieldValidation) -> Result<Value, ApiError> {
        self.decode_over(None, validation)
    }

    /// The same of what replaces an object. What is wrong with the stored one, because an earlier version of this server took it, is not the
    /// client's error.
    pub(super) async fn decode_replacement(
        &mut self,
        validation: FieldValidation,
    ) -> Result<Value, ApiError> {
        match self.decode_over(None, validation) {
            Err(error) if error.code == 400 => {
                let Ok(current) = self.current() else { return Err(error) };
                let Ok(old) = self.value(&current).await else { return Err(error) };
                self.decode_over(Some(&old), validation)
            }
            outcome => outcome,
        }
    }

    fn decode_over(&mut self, old: Option<&Value>, validation: FieldValidation) -> Result<Value, ApiError> {
        let api_version = self.kind.api_version();
        let mut object = self.decode_body(self.kind.kind)?;
        self.check_kind(&mut object, &api_version, self.kind.kind)?;
        // Of JSON all is told in one walk.
        let twice = if self.is_told_in_order() { Vec::new() } else { self.duplicates(validation)? };
        self.check_fields(&object, old, validation, &twice)?;
        Ok(object)
    }

    /// Decodes the body as an object of another kind than the URL's: a Scale, a Binding.
    pub(super) fn decode_as(
        &mut self,
        api_version: &str,
        kind: &str,
        validation: FieldValidation,
    ) -> Result<Value, ApiError> {
        let mut object = self.decode_body(kind)?;
        self.check_kind(&mut object, api_version, kind)?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let validate = |version| self.shared.schemas().validate(group, version, kind, &object);
        // Of the v1beta1 that are still read, the fields are those of v1.
        let Some(report) = validate(version).or_else(|| validate("v1")) else { return Ok(object) };
        if let Some(first) = report.mismatches.first() {
            return Err(unreadable((kind, version), kind, first.to_string()).into());
        }
        let twice = if self.is_told_in_order() { Vec::new() } else { self.duplicates(validation)? };
        let errors = self.strict_errors(&report, validation, &twice)?;
        self.tell_strictly((kind, version), validation, errors)?;
        Ok(object)
    }

    /// Decodes the body by its Content-Type; an empty body is null.
    pub(crate) fn decode_any(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        self.parse().map_err(|error| match error {
            Unreadable::Format(error) => error,
            Unreadable::Text(error) => ApiError::bad_request(error),
        })
    }

    /// Decodes the body as an object, of whatever kind it says that it is; `kind` is the one that is wanted.
    pub(super) fn decode_body(&self, kind: &str) -> Result<Value, ApiError> {
        let value = match self.parse() {
            Ok(value) => value,
            Err(Unreadable::Format(error)) => return Err(error),
            Err(Unreadable::Text(error)) => return Err(self.unrecognized(kind, &error)),
        };
        if let Some(error) = parse_errors::no_object(&value) {
            let error = format!("couldn't get version/kind; json parse error: {error}");
            return Err(self.unrecognized(kind, &error));
        }
        if let Some(error) = untyped(&value) {
            return Err(self.unrecognized(kind, &error));
        }
        if self.is_unstructured(kind) && value["kind"].as_str().unwrap_or_default().is_empty() {
            let text = String::from_utf8_lossy(&self.body);
            return Err(self.unrecognized(kind, &format!("Object 'Kind' is missing in '{text}'")));
        }
        if let Some(version) = value["apiVersion"].as_str().filter(|version| version.matches('/').count() > 1)
        {
            return Err(self.unrecognized(kind, &format!("unexpected GroupVersion string: {version}")));
        }
        // Null is as good as nothing: Go's zero value.
        Ok(if value.is_null() { serde_json::json!({}) } else { value })
    }

    /// Whether bodies of a kind are read as custom objects: a part of one, such as its Scale, has a type of its own.
    fn is_unstructured(&self, kind: &str) -> bool {
        !self.kind.built_in && kind == self.kind.kind
    }

    /// What a body is refused with that does not even say its kind.
    fn unrecognized(&self, kind: &str, error: &str) -> ApiError {
        let summary = parse_errors::summary(&self.body);
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {error} ({summary})"
        ))
    }

    fn parse(&self) -> Result<Value, Unreadable> {
        let value = self.parse_as_sent()?;
        parts::check(&value).map_err(Unreadable::Format)?;
        Ok(value)
    }

    fn parse_as_sent(&self) -> Result<Value, Unreadable> {
        match content_type(&self.headers).as_deref() {
            None | Some(JSON) => decode_json(&self.body).map_err(|error| {
                Unreadable::Text(format!("couldn't get version/kind; json parse error: {error}"))
            }),
            Some(YAML) => yaml::parse(&self.body).map_err(|error| match error {
                yaml::Unreadable::Text(error) => Unreadable::Text(error),
                yaml::Unreadable::Refused(error) => Unreadable::Format(error),
            }),
            // Custom kinds have no protobuf form, but DeleteOptions and Scale do.
            Some(PROTOBUF) => {
                kube_schema::protobuf::decode(&self.body).map(|(_, value)| value).map_err(|error| match error
                {
                    kube_schema::protobuf::Error::Kind { .. } => Unreadable::Format(unsupported()),
                    _ if !self.body.starts_with(b"k8s\0") => Unreadable::Text(NO_PROTOBUF.to_owned()),
                    other => Unreadable::Format(ApiError::bad_request(other.to_string())),
                })
            }
            Some(_) => Err(Unreadable::Format(unsupported())),
        }
    }

    /// Checks apiVersion and kind; a kind with a type may leave them out.
    pub(super) fn check_kind(
        &self,
        object: &mut Value,
        api_version: &str,
        kind: &str,
    ) -> Result<(), Undecodable> {
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let (mut found_version, mut found_kind) = (text("apiVersion"), text("kind"));
        if found_version.is_empty() && !self.is_unstructured(kind) {
            api_version.clone_into(&mut found_version);
        }
        if found_kind.is_empty() {
            kind.clone_into(&mut found_kind);
        }
        if found_kind != kind || found_version != api_version {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            return Err(self.other_kind(name, (&found_version, &found_kind), (api_version, kind)));
        }
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        Ok(())
    }

    /// What an object of another kind or version is refused with.
    fn other_kind(
        &self,
        name: &str,
        (found_version, found_kind): (&str, &str),
        (api_version, kind): (&str, &str),
    ) -> Undecodable {
        let (group, version) = found_version.split_once('/').unwrap_or(("", found_version));
        let custom = !self.kind.built_in;
        if custom && !self.is_unstructured(kind) {
            return Undecodable::Refused(ApiError::bad_request(format!(
                "no kind is registered for the type v1.{kind} in scheme {CUSTOM_SCHEME:?}"
            )));
        }
        if custom && found_version != api_version
            || found_kind == kind && (custom || self.shared.schemas().name_of(group, version, kind).is_some())
        {
            return Undecodable::Refused(ApiError::bad_request(format!(
                "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
            )));
        }
        if custom && found_version == api_version {
            let error = FieldError::invalid(&FieldPath::new("kind"), found_kind, &format!("must be {kind}"));
            return Undecodable::Refused(ApiError::invalid(group, found_kind, name, &[error]));
        }
        let refuse = |why: String| unreadable((found_kind, version), kind, why);
        if custom || self.shared.schemas().name_of(group, version, found_kind).is_none() {
            return refuse(format!(
                "no kind {} is registered for version {} in scheme {SCHEME:?}",
                quoted(found_kind),
                quoted(found_version)
            ));
        }
        // Go's name for the package of the internal type.
        let package = match api_version.split_once('/') {
            None => "core",
            Some((group, _)) => group.split('.').next().unwrap_or_default(),
        };
        refuse(format!("converting ({version}.{found_kind}) to ({package}.{kind}): unknown conversion"))
    }

    /// Refuses wrong types.
    fn check_types(&self, object: &Value, report: &Report) -> Result<(), Undecodable> {
        let kind = &*self.kind;
        let Some(first) = report.mismatches.first() else { return Ok(()) };
        if kind.built_in {
            let first = if self.is_told_in_order() { first.told_of(&self.body) } else { first.to_string() };
            return Err(unreadable((kind.kind, kind.version), kind.kind, first));
        }
        let errors: Vec<_> = report
            .mismatches
            .iter()
            .map(|mismatch| {
                let detail = format!("must be of type {}: {:?}", mismatch.expected, mismatch.found);
                FieldError::type_invalid(&FieldPath::new(mismatch.field.as_str()), mismatch.found, &detail)
            })
            .collect();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Err(ApiError::invalid(kind.group, kind.kind, name, &errors).into())
    }

    /// Refuses what a strategic merge patch has left with wrong types, in the words of Go's converter of such objects. What was wrong
    /// with `old` is not the patch's error.
    pub(super) fn check_restored(&self, object: &Value, old: &Value) -> Result<(), ApiError> {
        match self.report(object, Some(old)).iter().flat_map(|report| &report.mismatches).next() {
            Some(first) => Err(ApiError::bad_request(first.restoring())),
            None => Ok(()),
        }
    }

    /// What the schema of a kind that is not custom says of an object, and not of `old` as well.
    fn report(&self, object: &Value, old: Option<&Value>) -> Option<Report> {
        let kind = &*self.kind;
        let validate = |object| self.shared.schemas().validate(kind.group, kind.version, kind.kind, object);
        let mut report = validate(object)?;
        if report != Report::default()
            && let Some(old) = old.and_then(validate)
        {
            report.leave_out(&old);
        }
        Some(report)
    }

    /// Refuses wrong types; refuses, warns of or ignores unknown fields, and those that stand twice in the body. What `old` has is not
    /// news: it is kept here on purpose, and who changes something else must be able to.
    pub(super) fn check_fields(
        &mut self,
        object: &Value,
        old: Option<&Value>,
        validation: FieldValidation,
        twice: &[String],
    ) -> Result<(), Undecodable> {
        if let Some(custom) = self.kind.custom.clone() {
            let validate = |object| self.shared.schemas().validate_metadata(object);
            let mut report = validate(object);
            if report != Report::default()
                && let Some(old) = old
            {
                report.leave_out(&validate(old));
            }
            let embedded = || {
                let known = old.map(|old| self.faults_of_embedded(&custom, old)).unwrap_or_default();
                self.faults_of_embedded(&custom, object).into_iter().find(|fault| !known.contains(fault))
            };
            let told = report.mismatches.first().map(ToString::to_string);
            // What is applied is not decoded: the schema has the last word on it.
            if let Some(why) = told.or_else(|| if patch::applies(self) { None } else { embedded() }) {
                return Err(unreadable((self.kind.kind, self.kind.version), self.kind.kind, why));
            }
            if validation == FieldValidation::Ignore {
                return Ok(());
            }
            let applied = patch::applies(self);
            let unknown_in = |object| {
                // An apply asks the schema of ownership, which takes more, and does not read the result again.
                let mut fields = if applied { Vec::new() } else { custom.unknown(object) };
                fields.extend(self.unknown_in_embedded(&custom, object));
                fields
            };
            let known: HashSet<_> = old.map(unknown_in).into_iter().flatten().collect();
            let own = unknown_in(object).into_iter().filter(|field| !known.contains(field));
            let texts = report.unknown.into_iter().chain(own).map(|field| unknown(&field));
            let all = twice.iter().cloned().chain(texts).collect();
            return self.tell_strictly((self.kind.kind, self.kind.version), validation, all);
        }
        let Some(report) = self.report(object, old) else { return Ok(()) };
        self.check_types(object, &report)?;
        let errors = self.strict_errors(&report, validation, twice)?;
        self.tell_strictly((self.kind.kind, self.kind.version), validation, errors)
    }

    /// What is to be said of unknown fields, and of those that stand twice.
    fn strict_errors(
        &self,
        report: &Report,
        validation: FieldValidation,
        twice: &[String],
    ) -> Result<Vec<String>, ApiError> {
        if validation == FieldValidation::Ignore {
            return Ok(Vec::new());
        }
        if self.is_told_in_order() {
            return read(&self.body, |body| kube_schema::strict_faults(body, &report.unknown))
                .map_err(|error| ApiError::bad_request(format!("json parse error: {error}")));
        }
        Ok(twice.iter().cloned().chain(report.unknown.iter().map(|field| unknown(field))).collect())
    }

    /// Why what webhooks or policies made of an object is none of its kind any more.
    pub(crate) fn undecodable(&self, kind: &Kind, object: &Value) -> Option<String> {
        if !object.is_object() {
            return Some("it is no object".to_owned());
        }
        let schemas = self.shared.schemas();
        let report = match kind.custom {
            Some(_) => schemas.validate_metadata(object),
            None => schemas.validate(kind.group, kind.version, kind.kind, object)?,
        };
        report.mismatches.first().map(ToString::to_string)
    }

    /// Why objects within a custom one cannot be read as objects (`objectmeta.Coerce`).
    fn faults_of_embedded(&self, custom: &Custom, object: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        if custom.schema.embeds {
            custom.schema.visit_embedded(&mut object.clone(), &mut |own, path| {
                let mut tell = |name: &str, why: &str| {
                    let path = FieldPath::new(path).child(name);
                    if faults.len() < UNKNOWN_MAX {
                        faults.push(FieldError::invalid(&path, own[name].clone(), why).to_string());
                    }
                };
                for name in ["apiVersion", "kind"] {
                    if own.get(name).is_some_and(|value| !value.is_string()) {
                        tell(name, "must be a string");
                    }
                }
                if let Some(first) = self.shared.schemas().validate_metadata(own).mismatches.first() {
                    tell("metadata", &first.to_string());
                }
            });
        }
        faults
    }

    /// Fields that the metadata of objects within a custom one does not know.
    fn unknown_in_embedded(&self, custom: &Custom, object: &Value) -> Vec<String> {
        let mut unknown = Vec::new();
        if custom.schema.embeds {
            custom.schema.visit_embedded(&mut object.clone(), &mut |own, path| {
                let found = self.shared.schemas().validate_metadata(own).unknown;
                let room = UNKNOWN_MAX.saturating_sub(unknown.len());
                unknown.extend(found.iter().take(room).map(|field| format!("{path}.{field}")));
            });
        }
        unknown
    }

    /// Whether the body is the JSON of an object with a Go type: its unknown fields and those that stand there twice are told as they
    /// come.
    fn is_told_in_order(&self) -> bool {
        let json = matches!(content_type(&self.headers).as_deref(), None | Some(JSON));
        json && self.kind.custom.is_none() && !self.body.is_empty()
    }

    /// What is to be said of fields that stand twice in the body. Protobuf has none.
    pub(super) fn duplicates(&self, validation: FieldValidation) -> Result<Vec<String>, ApiError> {
        if validation == FieldValidation::Ignore || self.body.is_empty() {
            return Ok(Vec::new());
        }
        match content_type(&self.headers).as_deref() {
            Some(YAML | APPLY) => {
                let twice = yaml::duplicates(&self.body);
                if validation == FieldValidation::Strict && !twice.is_empty() {
                    return Ok(vec![format!("yaml: unmarshal errors:\n  {}", twice.join("\n  "))]);
                }
                Ok(twice)
            }
            Some(kind) if kind != JSON && !kind.ends_with("patch+json") => Ok(Vec::new()),
            _ => {
                let twice = read(&self.body, kube_schema::duplicate_fields)
                    .map_err(|error| ApiError::bad_request(format!("json parse error: {error}")))?;
                Ok(twice.iter().map(|path| format!("duplicate field {}", quoted(path))).collect())
            }
        }
    }

    fn tell_strictly(
        &mut self,
        (kind, version): (&str, &str),
        validation: FieldValidation,
        errors: Vec<String>,
    ) -> Result<(), Undecodable> {
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => self.warnings.extend(errors),
            FieldValidation::Strict if errors.is_empty() => {}
            FieldValidation::Strict => {
                let why = format!("strict decoding error: {}", errors.join(", "));
                return Err(unreadable((kind, version), kind, why));
            }
        }
        Ok(())
    }
}

/// What Go says of an object whose apiVersion or kind is no text.
pub(super) fn untyped(object: &Value) -> Option<String> {
    ["apiVersion", "kind"].into_iter().find_map(|name| {
        let other = object.get(name).filter(|value| !value.is_null() && !value.is_string())?;
        let found = type_name(other);
        Some(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go struct field .{name} of type string"
        ))
    })
}

pub(super) fn unknown(field: &str) -> String {
    format!("unknown field {}", quoted(field))
}

/// Why a body is no value.
enum Unreadable {
    /// Its format is none of those that are taken, or says itself what is wrong.
    Format(ApiError),
    /// It is no JSON.
    Text(String),
}

const NO_PROTOBUF: &str =
    "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";

/// Where kube-apiserver registers its kinds, as its messages say.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

/// The same of the Scales of custom kinds.
const CUSTOM_SCHEME: &str = "k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go:781";

fn unsupported() -> ApiError {
    ApiError::unsupported_media_type(&[JSON, YAML, PROTOBUF])
}

/// Parses JSON, or says where it is wrong.
pub(super) fn decode_json(bytes: &[u8]) -> Result<Value, String> {
    read(bytes, parse_errors::parsed)
}

/// Reads a JSON text: as it is, else as Go reads it.
fn read<T, E>(bytes: &[u8], by: impl Fn(&[u8]) -> Result<T, E>) -> Result<T, E> {
    by(bytes).or_else(|error| match as_go_reads(bytes) {
        Some(text) => by(text.as_bytes()),
        None => Err(error),
    })
}

/// The text that Go sees where it reads U+FFFD: in place of what is not UTF-8, and of a surrogate whose other half is missing.
/// `None` if there is nothing of the kind.
fn as_go_reads(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    let mut mended = String::new();
    // What comes before it is in `mended`.
    let (mut from, mut at) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        // A backslash that is escaped itself begins nothing.
        let (length, is_lone) = match unit(at) {
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => (12, false),
            Some(0xD800..=0xDFFF) => (6, true),
            _ => (2, false),
        };
        if is_lone {
            mended.push_str(text.get(from..at)?);
            mended.push_str("\\ufffd");
            from = at + length;
        }
        at += length;
    }
    if from == 0 && matches!(text, Cow::Borrowed(_)) {
        return None;
    }
    mended.push_str(text.get(from..)?);
    Some(mended)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_text_is_read_as_go_reads_it() {
        let check = |text: &[u8], expect: &str| {
            assert_eq!(decode_json(text), Ok(json!({"a": expect})), "{}", String::from_utf8_lossy(text));
        };
        check(br#"{"a": "\ud800"}"#, "\u{FFFD}");
        check(br#"{"a": "\uDC00x\uD83D"}"#, "\u{FFFD}x\u{FFFD}");
        check(br#"{"a": "\ud83d\ude00\ud800\u0041"}"#, "\u{1F600}\u{FFFD}A");
        check(br#"{"a": "\\ud800\ud800"}"#, "\\ud800\u{FFFD}");
        check(b"{\"a\": \"\xff\\ud800\"}", "\u{FFFD}\u{FFFD}");
        assert_eq!(as_go_reads(br#"{"a": "\ud83d\ude00 \\ud800"}"#), None);
        assert!(decode_json(br#"{"a": "\ud8"#).is_err() && decode_json(br#"{"a": "\x"}"#).is_err());
    }
}
