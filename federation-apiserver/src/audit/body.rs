//! Bodies as the audit log sees them.

use std::{
    io::Read as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Record, Stage};
use crate::http::{
    Body, body,
    negotiate::{PROTOBUF, YAML, content_type},
};

/// Inflated bytes of an answer that are recorded at most: a list of everything must not be doubled in memory without end.
const INFLATED_MAX: u64 = 64 << 20;

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

/// Reads the body of an answer that is known whole, and puts it back.
pub(crate) async fn whole(response: Response<Body>) -> (Response<Body>, Value) {
    let (head, body) = response.into_parts();
    // It cannot fail: the body's error type has no values.
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let zipped = head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
    let value = if zipped {
        let mut inflated = Vec::new();
        match GzDecoder::new(&*bytes).take(INFLATED_MAX).read_to_end(&mut inflated) {
            Ok(_) => value_of(&head.headers, &inflated),
            Err(_) => Value::Null,
        }
    } else {
        value_of(&head.headers, &bytes)
    };
    (Response::from_parts(head, body::full(bytes)), value)
}

/// Lets the record of a watch end with its body.
pub(crate) fn until_end(response: Response<Body>, record: Arc<Record>) -> Response<Body> {
    response.map(|inner| Recorded { inner, record }.boxed_unsync())
}

struct Recorded {
    inner: Body,
    record: Arc<Record>,
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.record.write_detached(Stage::ResponseComplete);
    }
}
