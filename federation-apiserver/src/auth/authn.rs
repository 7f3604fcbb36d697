//! Authentication: a bearer token first, then the client certificate of the connection, else anonymous.

use apimachinery::ApiError;
use federation_runtime::pki::Peer;
use http::{HeaderMap, header};

use super::{User, tokens::Tokens};

/// The user of a client certificate that TLS has verified.
pub fn from_certificate(der: &[u8]) -> Option<User> {
    let peer = Peer::from_der(der).ok()?;
    (!peer.user.is_empty()).then(|| User::new(peer.user, peer.groups))
}

/// The user of a request. A wrong token is refused even when the connection has a certificate, as in Kubernetes.
pub fn authenticate(
    headers: &HeaderMap,
    connection: Option<&User>,
    tokens: &Tokens,
) -> Result<User, ApiError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().map_err(|_| ApiError::unauthorized())?;
        if let Some((scheme, token)) = value.split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return tokens.find(token.trim()).cloned().ok_or_else(ApiError::unauthorized);
        }
    }
    Ok(connection.cloned().unwrap_or_else(User::anonymous))
}
