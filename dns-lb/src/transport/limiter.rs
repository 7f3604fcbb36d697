//! Limits on connections: how many there may be, and how long one may be idle.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of connections.
    ///
    /// Each holds at most an unfinished query (64 KiB, and 4 KiB read beyond it) and unsent answers (16 KiB, and one more answer of
    /// 64 KiB): 1024 of them 148 MiB when every client does its worst, which none can for longer than `idle`. A connection that waits for
    /// a query holds next to nothing. TLS adds some 20 KiB to each.
    pub connections: usize,
    /// Maximum number of connections of one client: an IPv4 address or an IPv6 /64.
    pub per_client: usize,
    /// How long a client may be silent, and may take to finish a query or to read answers (RFC 7766 section 6.2.3: "of the order of a
    /// few seconds"). A tenth of it while three in four connections are taken.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, per_client: 128, idle: Duration::from_secs(10) }
    }
}

/// Counts the connections of one transport.
#[derive(Debug)]
pub struct ConnectionLimiter {
    limits: Limits,
    permits: Arc<Semaphore>,
    // Only connected clients: never more entries than connections.
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    client: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimiter {
    /// A limiter without connections.
    pub fn new(limits: Limits) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        Arc::new(Self { limits, permits, clients: Mutex::default() })
    }

    /// Waits until there is room for one more: beyond the limit clients wait in the kernel's queue.
    pub async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().acquire_owned().await.ok()
    }

    /// Room for one more, if there is any.
    pub fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// Uses `permit` for a connection of `client`. `None` if the client has reached its limit.
    pub fn admit(self: &Arc<Self>, permit: OwnedSemaphorePermit, client: IpAddr) -> Option<ConnectionPermit> {
        let client = network(client);
        let mut clients = self.clients.lock();
        let count = clients.entry(client).or_insert(0);
        if *count >= self.limits.per_client.max(1) {
            return None;
        }
        *count += 1;
        drop(clients);
        Some(ConnectionPermit { limiter: self.clone(), client, _permit: permit })
    }

    /// Whether at least three quarters of the connections are in use.
    pub fn is_crowded(&self) -> bool {
        self.permits.available_permits() * 4 <= self.limits.connections
    }

    /// How long a client may be silent now.
    pub fn idle_timeout(&self) -> Duration {
        if self.is_crowded() { self.limits.idle / 10 } else { self.limits.idle }
    }

    /// How long a client may take for one message now, either way: where others wait, who sends an octet now and then stays no longer than who sends none.
    pub fn message_timeout(&self) -> Duration {
        self.idle_timeout()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut clients = self.limiter.clients.lock();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// What counts as one client.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(connections: usize, per_client: usize) -> Arc<ConnectionLimiter> {
        ConnectionLimiter::new(Limits { connections, per_client, idle: Duration::from_secs(10) })
    }

    fn enter(limiter: &Arc<ConnectionLimiter>, client: &str) -> Option<ConnectionPermit> {
        let client = client.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        limiter.try_acquire().and_then(|permit| limiter.admit(permit, client))
    }

    #[test]
    fn a_client_is_an_address_or_a_64() {
        let limiter = limiter(10, 2);
        let inside: Vec<_> =
            ["192.0.2.1", "::ffff:192.0.2.1"].iter().filter_map(|c| enter(&limiter, c)).collect();
        assert!(enter(&limiter, "192.0.2.1").is_none());
        let others: Vec<_> =
            ["192.0.2.2", "2001:db8::1", "2001:db8::2"].iter().filter_map(|c| enter(&limiter, c)).collect();
        assert_eq!((inside.len(), others.len()), (2, 3));
        assert!(enter(&limiter, "2001:db8::3").is_none() && enter(&limiter, "2001:db8:0:1::3").is_some());
        drop(inside);
        assert!(enter(&limiter, "192.0.2.1").is_some());
        drop(others);
        assert!(limiter.clients.lock().is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn a_crowd_makes_patience_short() {
        let limiter = limiter(4, 4);
        let mut inside: Vec<_> = (0..2).filter_map(|_| enter(&limiter, "192.0.2.1")).collect();
        assert_eq!(limiter.idle_timeout(), Duration::from_secs(10));
        inside.extend(enter(&limiter, "192.0.2.1"));
        assert_eq!(
            (limiter.idle_timeout(), limiter.message_timeout()),
            (Duration::from_secs(1), Duration::from_secs(1))
        );
        inside.extend(enter(&limiter, "192.0.2.1"));
        assert!(enter(&limiter, "192.0.2.2").is_none(), "it is full");
    }
}
