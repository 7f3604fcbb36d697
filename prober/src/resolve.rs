//! Names of load balancers to addresses, as users' resolvers have them: asked of the machine's resolvers, or of those that its operator names.
//!
//! What is said counts for as long as its records live, so that a load balancer that moves is probed where users are led. A resolver that is
//! silent, or says that it cannot say, is no word about the load balancer, whose last addresses are probed on; that there is no such name is one.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use federation_core::probe::{Failure, may_be_probed};
use federation_runtime::clock::Instant;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::question::{Question, Said};

/// Where the machine's resolvers stand.
const SYSTEM: &str = "/etc/resolv.conf";
/// The port of resolvers there.
const PORT: u16 = 53;
/// Resolvers that are asked (resolv.conf(5) reads as many).
const RESOLVERS_MAX: usize = 3;
/// After so long without a word of one resolver the next one is asked, too.
const NEXT: Duration = Duration::from_millis(150);
/// A datagram that may be lost is sent again after so long,
const AGAIN: Duration = Duration::from_millis(300);
/// and so often in all.
const TRIES: usize = 3;
/// How long a probe waits for resolvers where the last addresses are known, and at most half of the time that it has.
const PATIENCE: Duration = Duration::from_millis(300);
/// Answers are used for so long at least, be there no address, or none who says: a bound for how often a name is asked for.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Answers are used for so long at most.
const TTL_MAX: Duration = Duration::from_hours(1);
/// How long addresses are probed that no resolver confirms (RFC 8767 section 5 has 1 to 3 days for users).
const STALE_MAX: Duration = Duration::from_hours(24);

/// Remembers what was said. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Inner>);

struct Inner {
    /// None: the machine's.
    given: Vec<SocketAddr>,
    names: Mutex<BTreeMap<String, Entry>>,
}

/// Held by who asks, so that a name is asked for once, whoever else wants it.
type Entry = Arc<tokio::sync::Mutex<Option<Known>>>;

#[derive(Clone)]
struct Known {
    addresses: Result<Vec<IpAddr>, Failure>,
    /// Until then nobody is asked.
    until: Instant,
    /// Until then it is better than nothing.
    stale_until: Instant,
}

impl Resolver {
    /// Asks the resolvers `given`; those of the machine if there are none.
    pub(crate) fn new(given: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Inner { given, names: Mutex::default() }))
    }

    /// Forgets every name but these.
    pub(crate) fn keep(&self, names: &BTreeSet<String>) {
        self.0.names.lock().retain(|name, _| names.contains(name));
    }

    /// The addresses of `host`, a name with the final dot: those that may be probed. Who has no more time than `limit` gives up then.
    ///
    /// # Errors
    /// In words: [`Failure::Refusal`] where a resolver says that there is none, [`Failure::Silence`] where none says anything.
    pub(crate) async fn addresses(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, Failure> {
        let entry = self.0.names.lock().entry(host.to_owned()).or_default().clone();
        let mut known = entry.lock().await;
        let now = Instant::now();
        if let Some(known) = known.as_ref().filter(|known| now < known.until) {
            return known.addresses.clone();
        }
        // It stays known if whoever waits here gives up.
        let last = known.clone().filter(|known| known.addresses.is_ok() && now < known.stale_until);
        let asked = match &last {
            None => self.ask(host).await,
            Some(_) => match tokio::time::timeout(PATIENCE.min(limit / 2), self.ask(host)).await {
                Ok(asked) => asked,
                Err(_) => Err("no resolver answers in time".into()),
            },
        };
        let now = Instant::now();
        let next = match (asked, last) {
            (Ok(Said { mut addresses, ttl }), _) => {
                addresses.retain(|address| may_be_probed(*address));
                let until = now + Duration::from_secs(ttl.into()).clamp(TTL_MIN, TTL_MAX);
                let none = || Failure::Refusal(format!("{host} has no address"));
                let addresses = if addresses.is_empty() { Err(none()) } else { Ok(addresses) };
                Known { addresses, until, stale_until: until + STALE_MAX }
            }
            // Soon again, but not by everybody who waits here.
            (Err(_), Some(last)) => Known { until: now + TTL_MIN, ..last },
            (Err(message), None) => {
                let until = now + TTL_MIN;
                Known {
                    addresses: Err(Failure::Silence(format!("{host}: {message}"))),
                    until,
                    stale_until: until,
                }
            }
        };
        known.insert(next).addresses.clone()
    }

    /// What the first resolver says that says anything.
    async fn ask(&self, host: &str) -> Result<Said, String> {
        let name = &Name::from_ascii(host).map_err(|error| error.to_string())?;
        let resolvers = match self.0.given.as_slice() {
            [] => system(&std::fs::read_to_string(SYSTEM).unwrap_or_default()),
            given => given.to_vec(),
        };
        let mut asked: FuturesUnordered<_> = resolvers
            .into_iter()
            .take(RESOLVERS_MAX)
            .zip(0..)
            .map(|(resolver, place)| async move {
                tokio::time::sleep(NEXT * place).await;
                both(resolver, name).await.map_err(|message| format!("resolver {resolver}: {message}"))
            })
            .collect();
        let mut wrong = "there is no resolver to ask".to_owned();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(said) => return Ok(said),
                Err(message) => wrong = message,
            }
        }
        Err(wrong)
    }
}

/// The resolvers of a `resolv.conf`; the machine's own where it names none.
fn system(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next());
        address?.parse::<IpAddr>().ok()
    });
    let mut resolvers: Vec<SocketAddr> = named.map(|address| SocketAddr::new(address, PORT)).collect();
    if resolvers.is_empty() {
        resolvers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
    }
    resolvers
}

/// The addresses of both families. One family is enough where there are some; that there are none, both must say.
async fn both(resolver: SocketAddr, name: &Name) -> Result<Said, String> {
    let of = |kind| one(resolver, Question::new(name, kind));
    match tokio::join!(of(RecordType::A), of(RecordType::AAAA)) {
        (Ok(v4), Ok(v6)) => Ok(v4.and(v6)),
        (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.addresses.is_empty() => Ok(some),
        (Err(message), _) | (_, Err(message)) => Err(message),
    }
}

async fn one(resolver: SocketAddr, question: Question) -> Result<Said, String> {
    let words = |error: std::io::Error| error.to_string();
    let any: SocketAddr = if resolver.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
    // A socket of its own, so that the port is hard to guess, and from elsewhere nothing is heard.
    let socket = UdpSocket::bind(any).await.map_err(words)?;
    socket.connect(resolver).await.map_err(words)?;
    let mut buffer = [0; 4096];
    for _ in 0..TRIES {
        socket.send(question.octets()).await.map_err(words)?;
        let answer = async {
            loop {
                let length = socket.recv(&mut buffer).await.map_err(words)?;
                if let Some(answer) = question.read(buffer.get(..length).unwrap_or_default()) {
                    return answer;
                }
            }
        };
        match within(AGAIN, answer).await {
            Some(Ok(Some(said))) => return Ok(said),
            Some(Ok(None)) => return by_tcp(resolver, &question).await,
            Some(Err(message)) => return Err(message),
            None => {}
        }
    }
    Err("no answer".into())
}

/// For an answer that no datagram takes (RFC 7766).
async fn by_tcp(resolver: SocketAddr, question: &Question) -> Result<Said, String> {
    let words = |error: std::io::Error| error.to_string();
    let asked = async {
        let mut stream = TcpStream::connect(resolver).await.map_err(words)?;
        let octets = question.octets();
        let framed = [&(octets.len() as u16).to_be_bytes()[..], octets].concat();
        stream.write_all(&framed).await.map_err(words)?;
        let mut answer = vec![0; stream.read_u16().await.map_err(words)?.into()];
        stream.read_exact(&mut answer).await.map_err(words)?;
        match question.read(&answer) {
            Some(Ok(Some(said))) => Ok(said),
            Some(Err(message)) => Err(message),
            Some(Ok(None)) | None => Err("what came by TCP is no answer".into()),
        }
    };
    within(AGAIN * TRIES as u32, asked).await.unwrap_or_else(|| Err("no answer by TCP".into()))
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_resolvers_are_read_or_else_it_is_one_itself() {
        let text = "# nameserver 192.0.2.9\nsearch a.test\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver x\n";
        let read: Vec<String> = system(text).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(system("options edns0"), [SocketAddr::from(([127, 0, 0, 1], 53))]);
    }
}
