//! Authentication: the client certificate of the connection first, then a bearer token, else anonymous.

use std::sync::Arc;

use apimachinery::ApiError;
use federation_runtime::pki::Peer;
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

use super::{CREDENTIAL_ID, User, tokens::Tokens};

/// The user of a client certificate that TLS has verified.
pub fn from_certificate(der: &[u8]) -> Option<User> {
    let peer = Peer::from_der(der).ok()?;
    if peer.user.is_empty() {
        return None;
    }
    let mut user = User::new(peer.user, peer.groups);
    let id = format!("X509SHA256={}", hex::encode(Sha256::digest(der)));
    user.extra.insert(CREDENTIAL_ID.to_owned(), vec![id]);
    Some(user)
}

/// Tells the users of requests.
pub struct Authenticator {
    tokens: Tokens,
    anonymous: Arc<User>,
}

impl Authenticator {
    /// An authenticator that knows these static tokens.
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens, anonymous: Arc::new(User::anonymous()) }
    }

    /// The user of a request. As in kube-apiserver a certificate goes before a token; a token that nobody knows is
    /// refused.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        connection: Option<&Arc<User>>,
    ) -> Result<Arc<User>, ApiError> {
        if let Some(user) = connection {
            return Ok(Arc::clone(user));
        }
        match bearer(headers) {
            Some(token) => self.token(token).ok_or_else(ApiError::unauthorized),
            None => Ok(Arc::clone(&self.anonymous)),
        }
    }

    /// The user of a token.
    pub fn token(&self, token: &str) -> Option<Arc<User>> {
        self.tokens.find(token)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    // What is not text is no token that anybody knows.
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or("Bearer ");
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
