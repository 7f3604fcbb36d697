//! Bodies as the audit log sees them.

use std::{future::ready, io::Read as _, sync::Arc};

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AuditContext, Stage};
use crate::http::{
    Body, body,
    negotiate::{PROTOBUF, YAML, content_type},
};

/// Bytes of an answer that is recorded, inflated if it is compressed. What is larger goes out unread: parsed it takes many times its size, and a list
/// of everything must not take memory without end.
const RECORDED_MAX_BYTES: usize = 64 << 20;

/// What a body says, whatever its form; null if it says nothing that can be read.
pub(crate) fn value_of(headers: &HeaderMap, bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    match content_type(headers).as_deref() {
        Some(PROTOBUF) => kube_schema::protobuf::decode(bytes).map(|(_, value)| value).unwrap_or_default(),
        Some(kind) if kind == YAML || kind.ends_with("+yaml") => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| serde_saphyr::from_str(text).ok())
            .unwrap_or_default(),
        _ => serde_json::from_slice(bytes).unwrap_or_default(),
    }
}

/// The names in a body: its metadata and nothing else, which is found many times faster than the whole is read.
pub(crate) fn names_in(headers: &HeaderMap, bytes: &[u8]) -> Value {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        metadata: Value,
    }
    let is_object = || bytes.trim_ascii_start().starts_with(b"{");
    let is_json = || content_type(headers).is_none_or(|kind| kind.ends_with("json"));
    match serde_json::from_slice(bytes) {
        Ok(Named { metadata }) if is_object() && is_json() => json!({"metadata": metadata}),
        _ => value_of(headers, bytes),
    }
}

/// Reads the body of an answer that ends, and puts it back. What is too large to be recorded says nothing.
pub(crate) async fn whole(response: Response<Body>) -> (Response<Body>, Value) {
    let (head, mut body) = response.into_parts();
    let (mut pieces, mut size) = (Vec::new(), 0);
    // It cannot fail: the body's error type has no values.
    while size <= RECORDED_MAX_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Ok(data) = frame.into_data() {
            size += data.len();
            pieces.push(data);
        }
    }
    if size > RECORDED_MAX_BYTES {
        let rest = body.into_data_stream().filter_map(|data| ready(data.ok()));
        let all = stream::iter(pieces).chain(rest);
        return (Response::from_parts(head, body::stream(all)), Value::Null);
    }
    let bytes = if pieces.len() == 1 {
        pieces.remove(0)
    } else {
        let mut whole = Vec::with_capacity(size);
        for piece in &pieces {
            whole.extend_from_slice(piece);
        }
        Bytes::from(whole)
    };
    let zipped = head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
    let value = if zipped {
        let mut inflated = Vec::new();
        match GzDecoder::new(&*bytes).take(RECORDED_MAX_BYTES as u64).read_to_end(&mut inflated) {
            Ok(_) => value_of(&head.headers, &inflated),
            Err(_) => Value::Null,
        }
    } else {
        value_of(&head.headers, &bytes)
    };
    (Response::from_parts(head, body::full(bytes)), value)
}

/// Lets the record of a watch end with its body.
pub(crate) fn until_end(response: Response<Body>, record: Arc<AuditContext>) -> Response<Body> {
    response.map(|inner| body::keeping(inner, Open(record)))
}

/// The record of an answer that is not at its end.
struct Open(Arc<AuditContext>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.write_detached(Stage::ResponseComplete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn recorded(pieces: Vec<Bytes>) -> (usize, Value) {
        let (response, value) = whole(Response::new(body::stream(stream::iter(pieces)))).await;
        let sent = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        (sent.unwrap_or_default().len(), value)
    }

    #[tokio::test]
    async fn an_answer_goes_out_as_it_came_and_is_read_up_to_a_bound() {
        assert_eq!(recorded(Vec::new()).await, (0, Value::Null));
        assert_eq!(recorded(vec![r#"{"a":1}"#.into()]).await, (7, json!({"a": 1})));
        assert_eq!(recorded(vec![r#"{"a""#.into(), ":1}".into()]).await, (7, json!({"a": 1})));
        // One text of so many bytes, in quotes.
        let text = |bytes: usize| {
            let mut pieces: Vec<Bytes> = vec![Bytes::from(vec![b'x'; 1 << 20]); bytes >> 20];
            pieces.insert(0, "\"".into());
            pieces.push("\"".into());
            pieces
        };
        let (sent, value) = recorded(text(3 << 20)).await;
        assert_eq!((sent, value.as_str().map(str::len)), ((3 << 20) + 2, Some(3 << 20)));
        assert_eq!(recorded(text(RECORDED_MAX_BYTES)).await, (RECORDED_MAX_BYTES + 2, Value::Null));
    }
}
