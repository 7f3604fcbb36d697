//! Hands a request on to another server (`kube-aggregator/pkg/apiserver/handler_proxy.go`).

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use super::{External, SERVICES};
use crate::{
    auth::{User, subprotocol},
    http::{Body, body, respond},
    outbound::{RequestBody, Server},
    store::{Key, Snapshot},
    validation::holds,
};

/// A request that goes to another server.
pub(crate) struct Forwarded {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
    /// The client's connection, if it may become something else.
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) peer: Option<IpAddr>,
}

const REMOTE_USER: &str = "x-remote-user";
const REMOTE_UID: &str = "x-remote-uid";
const REMOTE_GROUP: &str = "x-remote-group";
const REMOTE_EXTRA: &str = "x-remote-extra-";

/// Headers of one connection, which the next one does not inherit, whether it names them or not.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Sends a request and gives what comes back, as it comes.
pub(crate) async fn forward(
    snapshot: &Snapshot,
    external: &External,
    user: &User,
    request: Forwarded,
) -> Response<Body> {
    let Ok(server) = external.server.as_ref().map(Arc::clone) else {
        return unavailable("service unavailable");
    };
    if !is_available(snapshot, external) {
        return unavailable("service unavailable");
    }
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let Forwarded { method, mut headers, body, upgrade, peer, .. } = request;
    let protocol = headers.get(header::UPGRADE).cloned();
    let protocol = protocol.filter(|_| upgrade.is_some());
    settle_headers(&mut headers, user, peer);
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    if let (Some(protocol), Some(client)) = (protocol, upgrade) {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(header::UPGRADE, protocol);
        return match server.upgrade(snapshot, &target, request).await {
            Ok(response) => upgraded(response, client),
            Err(why) => unavailable(&why),
        };
    }
    match server.send(snapshot, &target, request).await {
        Ok((response, connection)) => answered(response, server, connection),
        Err(why) => unavailable(&why),
    }
}

/// Whether the last check found the server well.
fn is_available(snapshot: &Snapshot, external: &External) -> bool {
    let stored = snapshot.get(&Key::new(SERVICES.clone(), "", external.name.as_str()));
    let object = stored.and_then(|stored| stored.value().ok());
    object.is_some_and(|object| holds(&object, "Available"))
}

fn unavailable(why: &str) -> Response<Body> {
    let mut response = respond::text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Takes out what is for this server only, and says who asks.
fn settle_headers(headers: &mut HeaderMap, user: &User, peer: Option<IpAddr>) {
    subprotocol::strip(headers);
    let taken: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with("x-remote-") || name.starts_with("impersonate-")
        })
        .cloned()
        .chain(of_this_connection(headers))
        .chain([header::AUTHORIZATION, header::HOST])
        .collect();
    for name in taken {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            headers.append(name, header_value(value));
        }
    };
    add(REMOTE_USER, &user.name);
    if !user.uid.is_empty() {
        add(REMOTE_UID, &user.uid);
    }
    for group in &user.groups {
        add(REMOTE_GROUP, group);
    }
    for (key, values) in &user.extra {
        for value in values {
            add(&format!("{REMOTE_EXTRA}{}", escape(key)), value);
        }
    }
    if let Some(peer) = peer {
        let before = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let chain = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
        if let Ok(chain) = HeaderValue::from_str(&chain) {
            headers.insert("x-forwarded-for", chain);
        }
    }
}

/// The headers that this connection's two ends have for each other (RFC 9110, section 7.6.1).
fn of_this_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let named = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    let named = named.flat_map(|value| value.split(','));
    let named = named.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
    named.chain(HOP_BY_HOP).collect()
}

/// A text as Go writes it into a header: UTF-8 as it is, and spaces for what would end the line. A name or group is never left out, since
/// the other server would decide about somebody else.
fn header_value(text: &str) -> HeaderValue {
    let bytes: Vec<u8> = text
        .trim()
        .bytes()
        .map(|byte| if byte.is_ascii_control() && byte != b'\t' { b' ' } else { byte })
        .collect();
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A key in the name of a header: what no name may hold, and what stands for it, is written in percent (`headerKeyEscape`).
fn escape(key: &str) -> String {
    key.bytes().fold(String::with_capacity(key.len()), |mut text, byte| {
        if byte != b'%' && (byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte)) {
            text.push(char::from(byte));
        } else {
            let _infallible = write!(text, "%{byte:02X}");
        }
        text
    })
}

fn answered(
    response: Response<Incoming>,
    server: Arc<Server>,
    connection: crate::outbound::Connection,
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    for name in of_this_connection(&head.headers) {
        head.headers.remove(name);
    }
    head.extensions.clear();
    Response::from_parts(head, pieces(body, server, connection))
}

/// The body as it comes; then the connection is kept for others.
fn pieces(body: Incoming, server: Arc<Server>, connection: crate::outbound::Connection) -> Body {
    if body.is_end_stream() {
        server.keep(connection);
        return body::empty();
    }
    body::stream(stream::unfold((body, Some((server, connection))), |(mut body, mut kept)| async move {
        loop {
            match body.frame().await {
                // Trailers are nothing that Kubernetes has.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((data, (body, kept)));
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "another server's answer broke off");
                    return None;
                }
                None => {
                    if let Some((server, connection)) = kept.take() {
                        server.keep(connection);
                    }
                    return None;
                }
            }
        }
    }))
}

/// Joins both connections, once both sides have agreed.
fn upgraded(mut response: Response<Incoming>, client: OnUpgrade) -> Response<Body> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = response.into_parts();
        for name in of_this_connection(&head.headers) {
            head.headers.remove(name);
        }
        let data = http_body_util::BodyStream::new(body);
        let pieces = futures::StreamExt::filter_map(data, |frame| async { frame.ok()?.into_data().ok() });
        return Response::from_parts(head, body::stream(pieces));
    }
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        match tokio::try_join!(client, server) {
            Ok((client, server)) => {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                    tracing::debug!(%error, "an upgraded connection ended badly");
                }
            }
            Err(error) => tracing::debug!(%error, "a connection could not be upgraded"),
        }
    });
    let (head, _) = response.into_parts();
    let mut answer: Response<Body> = Response::new(body::empty());
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    answer
}

/// The body of a request as it goes on.
pub(crate) fn request_body<B>(body: B) -> RequestBody
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<crate::http::BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_say_himself_who_he_is() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "admin"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-a", "b"),
            ("authorization", "Bearer secret"),
            ("impersonate-user", "other"),
            ("accept", "application/json"),
            ("connection", "close, X-Hop"),
            ("proxy-authorization", "Basic secret"),
            ("proxy-connection", "keep-alive"),
            ("x-hop", "1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut user = User::new("ann", vec!["devs".into(), "ops".into()]);
        user.extra.insert("example.com/scopes".into(), vec!["x".into()]);
        user.groups.push("über\r\nx-remote-user: root".into());
        settle_headers(&mut headers, &user, "10.0.0.1".parse().ok());
        let mut told: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        told.sort();
        assert_eq!(
            told,
            [
                "accept: application/json",
                "x-forwarded-for: 10.0.0.1",
                "x-remote-extra-example.com%2fscopes: x",
                "x-remote-group: devs",
                "x-remote-group: ops",
                "x-remote-group: system:authenticated",
                "x-remote-group: über  x-remote-user: root",
                "x-remote-user: ann",
            ]
        );
    }
}
