//! One page over HTTP/1.1.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Failure, Step, failure};

/// Bytes of a page that are read: what comes after them says nothing more of how users are served.
const PAGE_LIMIT: u64 = 64 * 1024;

pub(crate) struct Got {
    pub(crate) text: String,
    pub(crate) connect: Duration,
    pub(crate) fetch: Duration,
}

/// Gets `path`, with `patience` for all of it.
pub(crate) async fn page(
    server: SocketAddr,
    host: &str,
    path: &str,
    patience: Duration,
) -> Result<Got, Failure> {
    let began = Instant::now();
    let late = |step| failure(step, &format_args!("{server} took longer than {} ms", patience.as_millis()));
    let mut stream = tokio::time::timeout(patience, TcpStream::connect(server))
        .await
        .map_err(|_| late(Step::Connect))?
        .map_err(|error| failure(Step::Connect, &format_args!("{server}: {error}")))?;
    let connect = began.elapsed();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.take(PAGE_LIMIT).read_to_end(&mut bytes).await
    };
    tokio::time::timeout(patience.saturating_sub(connect), exchange)
        .await
        .map_err(|_| late(Step::Fetch))?
        .map_err(|error| failure(Step::Fetch, &format_args!("{server}: {error}")))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let first = text.lines().next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    if !status.is_some_and(|status| status.starts_with(['2', '3'])) {
        let said: String = first.chars().take(80).collect();
        return Err(failure(Step::Fetch, &format_args!("{server} answered {said:?}")));
    }
    Ok(Got { text, connect, fetch: began.elapsed().saturating_sub(connect) })
}
