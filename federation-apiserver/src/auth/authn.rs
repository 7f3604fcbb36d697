//! Authentication: the client certificate of the connection first, then a bearer token, also one among the subprotocols of a WebSocket, else
//! anonymous.

use std::sync::Arc;

use apimachinery::ApiError;
use federation_runtime::pki::Peer;
use http::{HeaderMap, header};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{
    CREDENTIAL_ID, User,
    oidc::{Anonymous, Oidc},
    service_account_tokens::{Identity, ServiceAccountTokens},
    subprotocol,
    token_webhook::TokenWebhook,
    tokens::Tokens,
};

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
    accounts: Option<Arc<ServiceAccountTokens>>,
    others: OtherTokens,
    anonymous: Arc<User>,
}

/// Tokens that others made, in the order in which they are asked.
#[derive(Default)]
pub struct OtherTokens {
    /// OpenID Connect providers.
    pub oidc: Arc<Oidc>,
    /// A server that knows tokens.
    pub webhook: Option<TokenWebhook>,
    /// Whether nobody may come, and where; as authorization says if there is nothing.
    pub anonymous: Option<Anonymous>,
}

impl Authenticator {
    /// An authenticator that knows these static tokens, the tokens of service accounts, and what others know.
    pub fn new(tokens: Tokens, accounts: Option<Arc<ServiceAccountTokens>>, others: OtherTokens) -> Self {
        Self { tokens, accounts, others, anonymous: Arc::new(User::anonymous()) }
    }

    /// The user of a request. As in kube-apiserver a certificate goes before a token; a token that nobody knows is
    /// refused.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        connection: Option<&Arc<User>>,
        path: &str,
    ) -> Result<Arc<User>, ApiError> {
        if let Some(user) = connection {
            return Ok(Arc::clone(user));
        }
        let refused = |why: &str| {
            tracing::debug!(why, "a token was refused");
            ApiError::unauthorized()
        };
        let given = bearer(headers).map(|token| Ok(token.to_owned()));
        match given.or_else(|| subprotocol::token(headers)) {
            Some(Ok(token)) => {
                let found = self.token(&token, &[], Timestamp::now()).await;
                found.map(|identity| identity.user).map_err(|why| refused(&why))
            }
            Some(Err(why)) => Err(refused(why)),
            None if self.others.anonymous.as_ref().is_some_and(|anonymous| !anonymous.admits(path)) => {
                Err(ApiError::unauthorized())
            }
            None => Ok(Arc::clone(&self.anonymous)),
        }
    }

    /// The user of a token, and for which of the audiences it is good: those asked for, or this server's own. The error
    /// says why it is good for none.
    pub async fn token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<Identity, String> {
        let accounts = self.accounts.as_ref();
        let own = accounts.map_or(&[][..], |accounts| accounts.audiences());
        if let Some(user) = self.tokens.find(token) {
            // A static token is good for this server.
            let good: Vec<String> = audiences.iter().filter(|asked| own.contains(asked)).cloned().collect();
            return if audiences.is_empty() || !good.is_empty() {
                Ok(Identity { user, audiences: if audiences.is_empty() { own.to_vec() } else { good } })
            } else {
                Err("[invalid bearer token, the token is not for these audiences]".to_owned())
            };
        }
        // Whoever does not know a token leaves it to the next; what each knows against it is told together.
        let mut told = vec!["invalid bearer token".to_owned()];
        match accounts.and_then(|accounts| accounts.identify(token, audiences, now)) {
            Some(Ok(identity)) => return Ok(identity),
            Some(Err(why)) => told.push(why),
            None => {}
        }
        match Box::pin(self.others.oidc.identify(token, now)).await {
            // A provider's token is good for this server, as a static one is.
            Some(Ok(user)) if audiences.is_empty() || audiences.iter().any(|asked| own.contains(asked)) => {
                let asked = if audiences.is_empty() { own } else { audiences };
                let good = asked.iter().filter(|asked| own.contains(asked)).cloned().collect();
                return Ok(Identity { user, audiences: good });
            }
            Some(Ok(_)) => told.push("the token is not for these audiences".to_owned()),
            Some(Err(why)) => told.push(why),
            None => {}
        }
        if let Some(webhook) = &self.others.webhook {
            match Box::pin(webhook.identify(token, audiences, own)).await {
                Some(Ok(identity)) => return Ok(identity),
                Some(Err(why)) => told.push(why),
                None => {}
            }
        }
        Err(match told.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        })
    }

    /// The service accounts, if this server makes tokens for them.
    pub fn accounts(&self) -> Option<&ServiceAccountTokens> {
        self.accounts.as_deref()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    // What is not text is no token that anybody knows.
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or("Bearer ");
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
