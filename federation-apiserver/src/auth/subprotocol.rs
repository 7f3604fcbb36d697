//! Tokens among the subprotocols of a WebSocket: a browser can send no other header with one (`websocket.ProtocolAuthenticator`).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};

use crate::http::websocket;

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The subprotocols that a client names, all of them in order.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// The subprotocols that are no tokens.
pub(crate) fn others(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    named(headers).filter(|name| !name.is_empty() && !name.starts_with(PREFIX))
}

/// The token of a client that asks for a WebSocket, if it sends one; the error says why it is none.
pub(super) fn token(headers: &HeaderMap) -> Option<Result<String, &'static str>> {
    if !websocket::is_asked(headers) {
        return None;
    }
    let mut tokens = named(headers).filter_map(|name| name.strip_prefix(PREFIX));
    let encoded = tokens.next()?;
    if tokens.next().is_some() {
        return Some(Err("multiple base64.bearer.authorization tokens specified"));
    }
    let Ok(token) = URL_SAFE_NO_PAD.decode(encoded) else {
        return Some(Err("invalid base64.bearer.authorization token encoding"));
    };
    let Ok(token) = String::from_utf8(token) else {
        return Some(Err("invalid base64.bearer.authorization token"));
    };
    if token.is_empty() {
        return None;
    }
    // Who names subprotocols expects one of them in the answer, and the token is not told again.
    Some(if others(headers).next().is_some() { Ok(token) } else { Err("missing additional subprotocol") })
}

/// Takes tokens away from what is handed on.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if !named(headers).any(|name| name.starts_with(PREFIX)) {
        return;
    }
    let left = others(headers).collect::<Vec<_>>().join(",");
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(left) = HeaderValue::from_str(&left)
        && !left.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, left);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(protocols: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        headers.insert("connection", HeaderValue::from_static("Upgrade"));
        for value in protocols {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_stands_beside_a_subprotocol() {
        let sent = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("se?cret"));
        assert_eq!(token(&headers(&[&format!("a, {sent}")])), Some(Ok("se?cret".to_owned())));
        assert_eq!(token(&headers(&[&sent, "a"])), Some(Ok("se?cret".to_owned())));
        assert_eq!(token(&headers(&[&sent])), Some(Err("missing additional subprotocol")));
        assert_eq!(
            token(&headers(&[&sent, &sent, "a"])),
            Some(Err("multiple base64.bearer.authorization tokens specified"))
        );
        assert_eq!(
            token(&headers(&[&format!("{PREFIX}?, a")])),
            Some(Err("invalid base64.bearer.authorization token encoding"))
        );
        assert_eq!(token(&headers(&["a"])), None);
        let mut plain = headers(&[&sent, "a"]);
        plain.remove("upgrade");
        assert_eq!(token(&plain), None, "it asks for no WebSocket");
    }

    #[test]
    fn a_token_is_not_handed_on() {
        let sent = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("secret"));
        let mut given = headers(&[&format!("a, {sent}"), "b"]);
        strip(&mut given);
        assert_eq!(given[SEC_WEBSOCKET_PROTOCOL], "a,b");
        let mut only = headers(&[&sent]);
        strip(&mut only);
        assert!(!only.contains_key(SEC_WEBSOCKET_PROTOCOL));
    }
}
