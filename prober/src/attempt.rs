//! One probe.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use federation_core::probe::{Ended, Failure, Protocol, Target};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

use crate::resolve::Resolver;
use crate::tls::Tls;
use crate::{grpc, http};

/// Addresses of one target that are tried, at once: a Service has one or a few, unless it is reached by the ports of many nodes, of
/// which these are enough.
const ADDRESSES_MAX: usize = 8;

/// What one address said.
pub(crate) struct Answer {
    /// Why users are not served; none if they are.
    pub(crate) wrong: Option<Failure>,
    /// Expiry of the certificate that was seen, Unix seconds.
    pub(crate) certificate_not_after: Option<i64>,
}

impl Answer {
    /// Of somebody who answered.
    pub(crate) fn of(outcome: Result<(), String>) -> Self {
        Self { wrong: outcome.err().map(Failure::Refusal), certificate_not_after: None }
    }
}

/// Probes every address of the target at once, within the check's timeout. One that answers is enough. Where the target is a name, its addresses
/// are found first, which may take as long; the round trip is a connection's alone.
pub(crate) async fn attempt(target: &Target, tls: &Tls, resolver: &Resolver) -> Ended {
    let limit = Duration::from_millis(target.check.timeout_ms.into());
    let addresses = match addresses(target, limit, resolver).await {
        Ok(addresses) => addresses,
        Err(failure) => return Ended { outcome: Err(failure), certificate_not_after: None },
    };
    let begun = Instant::now();
    let mut asked: FuturesUnordered<_> = addresses
        .iter()
        .take(ADDRESSES_MAX)
        .map(|address| {
            let address = SocketAddr::new(*address, target.port);
            async move { (address, one(address, target, tls).await) }
        })
        .collect();
    let mut certificate_not_after = None;
    let mut wrong: Option<Failure> = None;
    let all = async {
        while let Some((address, answer)) = asked.next().await {
            certificate_not_after = match (certificate_not_after, answer.certificate_not_after) {
                (Some(one), Some(other)) => Some(i64::min(one, other)),
                (one, other) => one.or(other),
            };
            match answer.wrong {
                None => return true,
                Some(Failure::Silence(message)) => {
                    wrong.get_or_insert_with(|| Failure::Silence(format!("{address}: {message}")));
                }
                // A word outweighs silence.
                Some(Failure::Refusal(message)) if !matches!(wrong, Some(Failure::Refusal(_))) => {
                    wrong = Some(Failure::Refusal(format!("{address}: {message}")));
                }
                Some(Failure::Refusal(_)) => {}
            }
        }
        false
    };
    let outcome = match tokio::time::timeout(limit, all).await {
        Ok(true) => Ok(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX)),
        Ok(false) => Err(wrong.unwrap_or_else(|| Failure::Refusal("it has no address".into()))),
        // Another address may yet have answered.
        Err(_) => Err(Failure::Silence(match wrong {
            Some(Failure::Silence(message) | Failure::Refusal(message)) => message,
            None => format!("no answer within {} ms", limit.as_millis()),
        })),
    };
    Ended { outcome, certificate_not_after }
}

async fn addresses<'t>(
    target: &'t Target,
    limit: Duration,
    resolver: &Resolver,
) -> Result<Cow<'t, [IpAddr]>, Failure> {
    let Some(host) = &target.host else { return Ok(Cow::Borrowed(&target.addresses)) };
    match tokio::time::timeout(limit, resolver.addresses(host, limit)).await {
        Ok(found) => found.map(Cow::Owned),
        Err(_) => {
            Err(Failure::Silence(format!("{host}: no resolver answers within {} ms", limit.as_millis())))
        }
    }
}

async fn one(address: SocketAddr, target: &Target, tls: &Tls) -> Answer {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            return Answer::of(Err(error.to_string()));
        }
        // No route, and the like: a word of the network, not of whom it leads to.
        Err(error) => {
            let wrong = Some(Failure::Silence(error.to_string()));
            return Answer { wrong, certificate_not_after: None };
        }
    };
    match &target.check.protocol {
        Protocol::Tcp => Answer::of(Ok(())),
        Protocol::Http(get) => Answer::of(http::get(stream, address, get).await),
        Protocol::Https { get, verify } => match tls.connect(stream, address, &get.host, *verify).await {
            Err(message) => Answer::of(Err(message)),
            Ok((stream, certificate_not_after)) => {
                let answered = http::get(stream, address, get).await;
                Answer { certificate_not_after, ..Answer::of(answered) }
            }
        },
        Protocol::Grpc { service, host } => Answer::of(grpc::check(stream, address, service, host).await),
    }
}
