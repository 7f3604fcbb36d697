//! A crowd of web users: each resolves the name by DNS, keeps the answer for its TTL, and fetches over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

/// Between two fetches of one user.
const PAUSE: Duration = Duration::from_millis(100);
/// A page that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(1);
/// A resolver asks again after this.
const DNS_TIMEOUT: Duration = Duration::from_millis(500);
/// A page is a line; more is not ours. Also the bound of what is read.
const PAGE_LIMIT: u64 = 64 * 1024;

/// What one fetch came to.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// The cluster that answered, or why there was no page.
    pub(crate) outcome: Result<String, String>,
}

/// Every fetch so far, in order of completion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Fetch>>>);

impl Log {
    pub(crate) fn since(&self, start: Instant) -> Vec<Fetch> {
        self.0.lock().iter().filter(|fetch| fetch.at >= start).cloned().collect()
    }

    fn push(&self, fetch: Fetch) {
        self.0.lock().push(fetch);
    }
}

/// Where and what users ask.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) dns: SocketAddr,
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Starts `count` users, who go on until `stop`.
pub(crate) fn start(count: usize, site: &Site, log: &Log, stop: &CancellationToken) -> Result<()> {
    let name = Name::from_ascii(&site.name).with_context(|| format!("{:?} is not a DNS name", site.name))?;
    for index in 0..count {
        let (site, name, log, stop) = (site.clone(), name.clone(), log.clone(), stop.clone());
        // Spread over the pause, so that the crowd does not march in step.
        let offset = PAUSE * u32::try_from(index).unwrap_or(0) / u32::try_from(count.max(1)).unwrap_or(1);
        tokio::spawn(async move {
            tokio::time::sleep(offset).await;
            let mut user = User { site, name, cached: None };
            while !stop.is_cancelled() {
                let at = Instant::now();
                let outcome = user.fetch().await.map_err(|error| format!("{error:#}"));
                if stop.is_cancelled() {
                    return;
                }
                log.push(Fetch { at, took: at.elapsed(), outcome });
                tokio::time::sleep(PAUSE.saturating_sub(at.elapsed())).await;
            }
        });
    }
    Ok(())
}

struct User {
    site: Site,
    name: Name,
    cached: Option<(IpAddr, Instant)>,
}

impl User {
    /// One page: the name of the cluster that served it.
    async fn fetch(&mut self) -> Result<String> {
        let address = match self.cached {
            Some((address, until)) if Instant::now() < until => address,
            _ => {
                let answer = resolve(self.site.dns, &self.name).await.context("resolving")?;
                let first = answer.addresses.first().context("the answer is empty")?;
                self.cached = Some((*first, Instant::now() + answer.ttl));
                *first
            }
        };
        let host = self.name.to_ascii();
        let page = tokio::time::timeout(PATIENCE, get(SocketAddr::new(address, self.site.port), &host))
            .await
            .with_context(|| format!("{address} took longer than {} s", PATIENCE.as_secs()))??;
        page.split_whitespace()
            .find_map(|word| word.strip_prefix("cluster="))
            .map(ToOwned::to_owned)
            .context("the page does not say which cluster it comes from")
    }
}

/// What the DNS said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ttl: Duration,
}

/// Asks one server for the name's addresses, as a resolver does: over UDP, twice if need be.
pub(crate) async fn resolve(server: SocketAddr, name: &Name) -> Result<Answer> {
    let unspecified: SocketAddr =
        if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(unspecified).await?;
    socket.connect(server).await?;
    let mut last = None;
    for _ in 0..2 {
        match tokio::time::timeout(DNS_TIMEOUT, ask(&socket, name)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(anyhow::anyhow!("no answer within {} ms", DNS_TIMEOUT.as_millis())),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("never asked")))
}

async fn ask(socket: &UdpSocket, name: &Name) -> Result<Answer> {
    let id: u16 = rand::random();
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name.clone(), RecordType::A));
    socket.send(&query.to_vec()?).await?;
    let mut buffer = [0u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = Message::from_vec(&buffer[..length])?;
        if answer.metadata.id != id {
            continue;
        }
        if answer.metadata.response_code != ResponseCode::NoError {
            bail!("the server answered {}", answer.metadata.response_code);
        }
        let mut ttl = u32::MAX;
        let mut addresses = Vec::new();
        for record in &answer.answers {
            ttl = ttl.min(record.ttl);
            match &record.data {
                RData::A(address) => addresses.push(IpAddr::V4(address.0)),
                RData::AAAA(address) => addresses.push(IpAddr::V6(address.0)),
                _ => {}
            }
        }
        if addresses.is_empty() {
            bail!("the answer is empty");
        }
        return Ok(Answer { addresses, ttl: Duration::from_secs(u64::from(ttl)) });
    }
}

async fn get(address: SocketAddr, host: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream
        .take(PAGE_LIMIT)
        .read_to_string(&mut page)
        .await
        .with_context(|| format!("reading from {address}"))?;
    if !page.starts_with("HTTP/1.1 200") {
        bail!("{address} answered {:?}", page.lines().next().unwrap_or("nothing"));
    }
    Ok(page)
}
