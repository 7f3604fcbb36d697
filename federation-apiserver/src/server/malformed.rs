//! Requests that Go's HTTP server sends away by itself, before any handler sees them (`net/http.Server`).

use http::{HeaderValue, Response, StatusCode, Version, header, request};

use crate::http::{Body, respond};

/// What a request is answered with that no handler is to see. `by_wire` tells that it came over a network, where it must name its host
/// (RFC 9112, section 3.2).
pub(super) fn refused(head: &request::Parts, by_wire: bool) -> Option<Response<Body>> {
    let is_named = head.headers.contains_key(header::HOST) || head.uri.authority().is_some();
    let why = if !is_escaped_well(head.uri.path()) {
        "400 Bad Request"
    } else if by_wire && head.version == Version::HTTP_11 && !is_named {
        "400 Bad Request: missing required Host header"
    } else {
        return None;
    };
    let mut response = respond::text(StatusCode::BAD_REQUEST, why.to_owned());
    if head.version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Some(response)
}

/// Whether each `%` of a path is followed by two hexadecimal digits.
fn is_escaped_well(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn what_is_malformed_is_refused() {
        let status = |path: &str, host: Option<&str>| {
            let mut request = Request::get(path);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            refused(&head, true).map(|response| response.status().as_u16())
        };
        assert_eq!(status("/api/v1", Some("h")), None);
        assert_eq!(status("https://h/api", None), None);
        assert_eq!(status("/api/v1", None), Some(400));
        for (path, expect) in
            [("/a%zz", Some(400)), ("/a%4", Some(400)), ("/a%", Some(400)), ("/a%2Fb%41?q=%zz", None)]
        {
            assert_eq!(status(path, Some("h")), expect, "{path}");
        }
        let (head, ()) = Request::get("/api").body(()).unwrap().into_parts();
        assert!(refused(&head, false).is_none(), "a caller in this process names none");
    }
}
