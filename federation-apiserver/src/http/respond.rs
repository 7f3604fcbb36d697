//! Responses: forms, headers, errors.

use std::collections::HashSet;

use apimachinery::{ApiError, numbers::AsGo, order::Ordered};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Serializer, Value};

use super::{
    body::{self, Body},
    negotiate::{Encoding, Format, JSON},
};

/// A response with a body that is known whole.
pub(crate) fn bytes(
    code: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(body::full(content));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, content: impl Into<String>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", content.into())
}

/// A value in the form that was chosen. What has no protobuf form is written as JSON.
pub(crate) fn value(code: StatusCode, format: Format, value: &Value) -> Response<Body> {
    let (content_type, content) = encode(format, value);
    bytes(code, content_type, content)
}

/// JSON on many lines, the last of which does not end: kube-apiserver's `WriteRawJSON`, in which no form can be chosen.
pub(crate) fn raw(code: StatusCode, value: &impl Serialize) -> Response<Body> {
    bytes(code, JSON, on_many_lines(value))
}

/// Writes a value in the form that was chosen.
pub(crate) fn encode(format: Format, value: &Value) -> (&'static str, Vec<u8>) {
    match format.encoding {
        Encoding::Protobuf => {
            if let Ok(bytes) = kube_schema::protobuf::encode_object(value) {
                return (format.content_type(false), bytes);
            }
        }
        Encoding::Yaml => {
            return (format.content_type(false), apimachinery::yaml::to_string(value).into_bytes());
        }
        Encoding::Json => {}
    }
    json(format, &Ordered::new(value))
}

/// Writes an object of a custom kind in the form that was chosen: as JSON its members are in the order of the alphabet, as those of Go's maps.
pub(crate) fn encode_custom(format: Format, value: &Value) -> (&'static str, Vec<u8>) {
    if format.encoding == Encoding::Json { json(format, value) } else { encode(format, value) }
}

fn json(format: Format, value: &impl Serialize) -> (&'static str, Vec<u8>) {
    let mut content = if format.pretty { on_many_lines(value) } else { compact(value) };
    content.push(b'\n');
    (Format { encoding: Encoding::Json, ..format }.content_type(false), content)
}

/// Writes JSON as Go does, on lines of which the last does not end.
fn on_many_lines(value: &impl Serialize) -> Vec<u8> {
    let mut content = Vec::with_capacity(1024);
    let written = value.serialize(&mut Serializer::with_formatter(&mut content, AsGo::pretty()));
    if written.is_err() {
        content.clear();
    }
    content
}

/// Writes JSON as Go does, on one line that does not end.
pub(crate) fn compact(value: &impl Serialize) -> Vec<u8> {
    let mut content = Vec::with_capacity(1024);
    let written = value.serialize(&mut Serializer::with_formatter(&mut content, AsGo::compact()));
    if written.is_err() {
        content.clear();
    }
    content
}

/// An error as its Status.
pub(crate) fn error(format: Format, error: &ApiError) -> Response<Body> {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let format = Format { view: super::negotiate::View::Object, ..format };
    let mut response = value(code, format, &error.to_value());
    if let Some(details) = &error.details
        && details.retry_after_seconds > 0
    {
        response.headers_mut().insert(header::RETRY_AFTER, details.retry_after_seconds.into());
    }
    response
}

/// Characters of all warnings of an answer: kube-apiserver's `truncateAtTotalRunes`. Clients refuse headers that are much longer.
const WARNINGS_LIMIT: usize = 4 << 10;

/// Characters of one warning, where all of them are longer than that: `truncateItemRunes`.
const WARNING_LIMIT: usize = 256;

/// Warning headers, RFC 7234 section 5.5 as KEP-1693 uses it: each text once, and no more of them than kube-apiserver writes.
pub(crate) fn warn<'a>(headers: &mut HeaderMap, warnings: impl IntoIterator<Item = &'a String>) {
    let mut seen = HashSet::new();
    let mut texts: Vec<_> =
        warnings.into_iter().map(String::as_str).filter(|text| seen.insert(*text)).collect();
    if texts.iter().map(|text| text.chars().count()).sum::<usize>() > WARNINGS_LIMIT {
        let mut written = 0;
        texts.retain_mut(|text| {
            *text = beginning(text);
            // The one that reaches the limit is the last.
            let fits = written < WARNINGS_LIMIT;
            written += text.chars().count();
            fits
        });
    }
    for text in texts {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            headers.append(header::WARNING, value);
        }
    }
}

fn beginning(text: &str) -> &str {
    text.char_indices().nth(WARNING_LIMIT).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(warnings: &[String]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        warn(&mut headers, warnings);
        let values = headers.get_all(header::WARNING).iter();
        values.map(|value| value.to_str().expect("ASCII").to_owned()).collect()
    }

    #[test]
    fn a_warning_is_told_once_and_whole() {
        let long = "a".repeat(WARNINGS_LIMIT - 1);
        let warnings = [long.clone(), "b".to_owned(), long.clone()];
        assert_eq!(written(&warnings), [format!("299 - \"{long}\""), "299 - \"b\"".to_owned()]);
    }

    #[test]
    fn many_warnings_are_cut_as_kube_apiserver_cuts_them() {
        let warnings: Vec<_> = (0..100_000).map(|at| format!("{at:06}{}", "x".repeat(500))).collect();
        let told = written(&warnings);
        assert_eq!(told.len(), WARNINGS_LIMIT / WARNING_LIMIT);
        assert_eq!(told[0], format!("299 - \"000000{}\"", "x".repeat(WARNING_LIMIT - 6)));
    }
}
