//! Calls from this server to others: webhooks.
//!
//! A [`Server`] is one of them, with its authority, our credentials for it and a few kept connections; [`Destination`] says how it is
//! found. Nothing follows redirects, and what is read of an answer is bounded.

mod client;
mod destination;
mod kubeconfig;
mod pieces;
mod stream;
mod trust;

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use crate::store::Storage;

pub(crate) use client::{Connection, Credentials, RequestBody, Server, Trust, in_pieces, whole};
pub(crate) use destination::{Destination, reachable};
pub(crate) use kubeconfig::{KubeconfigError, from_kubeconfig};

/// Characters of another server's own words that are handed on.
const WORDS_MAX: usize = 1024;

/// The server behind a `clientConfig` of a webhook.
///
/// # Errors
/// When it cannot be called as it is described, in words.
pub(crate) fn configured(config: &Value) -> Result<Server, String> {
    let pem = bundle(config)?;
    Server::new(Destination::read(config)?, Trust::Authority(pem.as_deref()), &Credentials::default())
}

/// The `caBundle` of a configuration, as PEM.
///
/// # Errors
/// When it is none.
pub(crate) fn bundle(config: &Value) -> Result<Option<String>, String> {
    let bundle = config["caBundle"].as_str().filter(|bundle| !bundle.is_empty());
    let pem = bundle.map(|bundle| {
        let bytes =
            BASE64_STANDARD.decode(bundle).map_err(|error| format!("caBundle is no base64: {error}"))?;
        String::from_utf8(bytes).map_err(|_| "caBundle is no PEM".to_owned())
    });
    pem.transpose()
}

/// An answer that is none, as client-go tells it.
pub(crate) fn failure(status: StatusCode, body: &[u8]) -> String {
    if let Some(message) =
        serde_json::from_slice::<Value>(body).ok().as_ref().and_then(|body| body["message"].as_str())
    {
        return message.chars().take(WORDS_MAX).collect();
    }
    let text = String::from_utf8_lossy(body);
    let text = match text.trim() {
        "" => "unknown".to_owned(),
        text => text.chars().take(WORDS_MAX).collect(),
    };
    match status.as_u16() {
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => text,
        404 => "the server could not find the requested resource".to_owned(),
        500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        code => format!(
            "the server responded with the status code {code} but did not return more information: {text}"
        ),
    }
}

/// Rounds of a question to a server that fails, and the first pause: 0.5, 0.75, 1.1, 1.7 s (`webhook.DefaultRetryBackoffWithInitialDelay`).
const ROUNDS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// kube-apiserver's time-out of a review.
pub(crate) const REVIEW_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends a review and reads the answer; asks again what fails on the other side.
///
/// # Errors
/// When there is no answer, in words.
pub(crate) async fn review(
    server: &Server,
    storage: &Storage,
    review: &Value,
    timeout: Duration,
) -> Result<Value, String> {
    let query = format!("timeout={}s", timeout.as_secs_f64());
    let body = Bytes::from(review.to_string());
    let mut pause = FIRST_PAUSE;
    let mut round = 1;
    loop {
        let answer = server.post(&storage.snapshot(), &query, whole(body.clone()), timeout).await;
        let (why, again) = match answer {
            Ok(answer) if answer.status.is_success() => {
                return serde_json::from_slice(&answer.body)
                    .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"));
            }
            Ok(answer) => {
                let again = answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
                (failure(answer.status, &answer.body), again)
            }
            Err(why) => {
                // A connection that was cut is tried again, one that cannot be made is not.
                let again = !why.contains("dial tcp") && !why.contains("tls:");
                (why, again)
            }
        };
        if !again || round == ROUNDS {
            return Err(why);
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.5);
        round += 1;
    }
}
