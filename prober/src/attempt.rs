//! One probe.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use federation_core::probe::{Ended, Protocol, Target};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

use crate::tls::Tls;
use crate::{grpc, http};

/// Addresses of one target that are tried, at once: a Service has one or a few, unless it is reached by the ports of many nodes, of
/// which these are enough.
const ADDRESSES_MAX: usize = 8;

/// What one address said.
pub(crate) struct Answer {
    /// Why users are not served; none if they are.
    pub(crate) wrong: Option<String>,
    /// Expiry of the certificate that was seen, Unix seconds.
    pub(crate) certificate_not_after: Option<i64>,
}

impl Answer {
    pub(crate) fn of(outcome: Result<(), String>) -> Self {
        Self { wrong: outcome.err(), certificate_not_after: None }
    }
}

/// Probes every address of the target at once, within the check's timeout. One that answers is enough.
pub(crate) async fn attempt(target: &Target, tls: &Tls) -> Ended {
    let begun = Instant::now();
    let limit = Duration::from_millis(target.check.timeout_ms.into());
    let mut asked: FuturesUnordered<_> = target
        .addresses
        .iter()
        .take(ADDRESSES_MAX)
        .map(|address| {
            let address = SocketAddr::new(*address, target.port);
            async move { (address, one(address, target, tls).await) }
        })
        .collect();
    let mut certificate_not_after = None;
    let mut wrong = String::new();
    let all = async {
        while let Some((address, answer)) = asked.next().await {
            certificate_not_after = match (certificate_not_after, answer.certificate_not_after) {
                (Some(one), Some(other)) => Some(i64::min(one, other)),
                (one, other) => one.or(other),
            };
            match answer.wrong {
                None => return true,
                Some(message) if wrong.is_empty() => wrong = format!("{address}: {message}"),
                Some(_) => {}
            }
        }
        false
    };
    let outcome = match tokio::time::timeout(limit, all).await {
        Ok(true) => Ok(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX)),
        Ok(false) if wrong.is_empty() => Err("it has no address".to_owned()),
        Ok(false) => Err(wrong),
        Err(_) if wrong.is_empty() => Err(format!("no answer within {} ms", limit.as_millis())),
        Err(_) => Err(wrong),
    };
    Ended { outcome, certificate_not_after }
}

async fn one(address: SocketAddr, target: &Target, tls: &Tls) -> Answer {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return Answer::of(Err(error.to_string())),
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
