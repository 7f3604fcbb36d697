//! Telling secondaries that a zone has changed (RFC 1996).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::shutdown::Shutdown;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use super::transfers::now;
use super::tsig::{Key, Session};
use crate::publish::Published;
use crate::udp::Rng;
use crate::wire::{Class, Name, Type};

/// How often it is looked whether a zone has changed.
const POLL: Duration = Duration::from_millis(100);
/// How long a secondary has to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between the first two tries; it doubles up to [`WAIT_MAX`] (RFC 1996 section 3.6 suggests 60 s from the start).
const WAIT_MIN: Duration = Duration::from_secs(1);
/// While a secondary is away it is told this often.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Whom to tell, `[KEY@]ADDRESS:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// The key to sign with.
    pub key: Option<Name>,
    /// Of the secondary.
    pub address: SocketAddr,
}

/// Not a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write ADDRESS:PORT, or KEY@ADDRESS:PORT with the name of a key of --tsig-key-file")]
pub struct NotifyError;

impl FromStr for Notify {
    type Err = NotifyError;

    fn from_str(text: &str) -> Result<Self, NotifyError> {
        let (key, address) = match text.split_once('@') {
            Some((key, address)) => {
                let key = format!("{}.", key.trim_end_matches('.').to_ascii_lowercase());
                (Some(Name::parse(&key).map_err(|_| NotifyError)?), address)
            }
            None => (None, text),
        };
        Ok(Self { key, address: address.parse().map_err(|_| NotifyError)? })
    }
}

/// Tells the secondary at `address` of each new serial of each zone until it has acknowledged it, or `shutdown`.
pub async fn notify(
    published: Arc<Published>,
    address: SocketAddr,
    key: Option<Arc<Key>>,
    mut rng: Rng,
    shutdown: Shutdown,
) {
    // Zones that are served: as many entries as there are zones.
    let mut known: HashMap<Name, u32> = HashMap::new();
    let (mut wait, mut next) = (WAIT_MIN, Instant::now());
    let mut told: Vec<(Name, u32)> = Vec::new();
    while !shutdown.started() {
        let zones: Vec<(Name, u32)> = {
            let snapshot = published.snapshot();
            snapshot.zones.zones.iter().map(|zone| (zone.origin.clone(), zone.serial)).collect()
        };
        known.retain(|name, _| zones.iter().any(|(origin, _)| origin == name));
        let news: Vec<(Name, u32)> =
            zones.into_iter().filter(|(origin, serial)| known.get(origin) != Some(serial)).collect();
        // What is newer than the last try need not wait for the next.
        if !news.is_empty() && (news != told || Instant::now() >= next) {
            if news != told {
                wait = WAIT_MIN;
            }
            for (origin, serial) in &news {
                let told = tokio::select! {
                    told = tell(address, key.clone(), origin, *serial, rng.next_u64() as u16) => told,
                    () = shutdown.wait() => return,
                };
                match told {
                    Ok(()) => {
                        tracing::debug!(secondary = %address, zone = %origin, serial, "the secondary knows");
                        known.insert(origin.clone(), *serial);
                    }
                    Err(error) => {
                        tracing::warn!(secondary = %address, zone = %origin, serial, %error, "NOTIFY failed");
                    }
                }
            }
            told = news.into_iter().filter(|(origin, serial)| known.get(origin) != Some(serial)).collect();
            next = Instant::now() + wait;
            wait = (wait * 2).min(WAIT_MAX);
        }
        tokio::select! {
            () = sleep(POLL) => {}
            () = shutdown.wait() => return,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    #[error("no answer")]
    Silence,
    #[error("refused with code {0}: does it know us as the zone's primary?")]
    Refused(u8),
}

async fn tell(
    address: SocketAddr,
    key: Option<Arc<Key>>,
    origin: &Name,
    serial: u32,
    id: u16,
) -> Result<(), TellError> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    // Opcode 4, authoritative; one question, and as a hint the SOA with its serial and nothing else of interest (RFC 1996 section 3.7).
    let mut message = vec![0, 0, 0x24, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
    message.extend_from_slice(origin.wire());
    for number in [Type::SOA.0, Class::IN.0, 0xc00c, Type::SOA.0, Class::IN.0, 0, 0, 22] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message.extend_from_slice(&[0, 0]);
    for number in [serial, 0, 0, 0, 0] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    if let Some(key) = key {
        Session::request(key).sign(&mut message, now());
    }
    socket.send(&message).await?;
    let mut answer = [0; 512];
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let received = timeout(left, socket.recv(&mut answer)).await.map_err(|_| TellError::Silence)?;
        let length = received?;
        match answer.get(..length).and_then(<[u8]>::first_chunk::<4>) {
            Some([a, b, flags, code]) if [*a, *b] == id.to_be_bytes() && flags & 0xf8 == 0xa0 => {
                return if code.trailing_zeros() >= 4 {
                    Ok(())
                } else {
                    Err(TellError::Refused(code & 0x0f))
                };
            }
            _ => {}
        }
    }
}
