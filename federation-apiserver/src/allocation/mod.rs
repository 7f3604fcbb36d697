//! Cluster IPs and node ports of Services: who has which, and who gets which.
//!
//! A Service's cluster IP and node ports are allocated when it is made and stand for its life; they are free again once
//! it is deleted. They are this API's own: members allocate their own for their copies (the controller leaves out what
//! nobody asked for), so that a client of this API sees the stable addresses that Kubernetes promises.
//!
//! What is in use follows from the store: each allocation first takes in what was written since the last one, so
//! nothing leaks when a Service goes in whatever way. Between the choice and the commit a [`Reservation`] holds it.
//! IPAddresses follow the Services (`housekeeping/ip_addresses.rs`); those that others make take their addresses out.

mod ranges;
mod service;
pub(crate) mod service_cidrs;

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;

pub use ranges::{Network, PortRange, Ranges};

use crate::{
    registry::ErrorList,
    store::{EventKind, Key, ResourceKey, Storage, Stored},
};

/// The label that tells who keeps an IPAddress, and what it says of this server's own.
pub(crate) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "ipallocator.k8s.io";

/// The resource of IPAddresses.
pub(crate) fn addresses() -> ResourceKey {
    ResourceKey::new("networking.k8s.io", "ipaddresses")
}

/// Whether an IPAddress is one that this server keeps for a Service.
pub(crate) fn is_ours(address: &Stored) -> bool {
    address.meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// One thing that only one Service can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Token {
    Address(Ipv4Addr),
    /// Node port and protocol.
    Port(u16, &'static str),
}

/// Who has what.
#[derive(Default)]
struct Ledger {
    /// Writes up to this revision are in; none before the first.
    seen: Option<u64>,
    owners: HashMap<Token, Key>,
    /// Addresses that others have taken out, by IPAddresses of their own.
    held: HashSet<Ipv4Addr>,
    reserved: HashSet<Token>,
}

impl Ledger {
    fn catch_up(&mut self, storage: &Storage) {
        let (services, addresses) = (ResourceKey::new("", "services"), addresses());
        if let Some(seen) = self.seen
            && let Ok(events) = storage.changes_after(seen)
        {
            for event in events {
                self.seen = Some(event.revision);
                if event.object.key.resource == addresses {
                    self.hold(&event.object, event.kind != EventKind::Deleted);
                }
                if event.object.key.resource != services {
                    continue;
                }
                if let Some(previous) = &event.previous {
                    self.forget(previous);
                }
                if event.kind != EventKind::Deleted {
                    self.learn(&event.object);
                }
            }
            return;
        }
        let snapshot = storage.snapshot();
        self.owners.clear();
        self.held.clear();
        for stored in snapshot.range(&addresses, None, None) {
            self.hold(&stored, true);
        }
        for stored in snapshot.range(&services, None, None) {
            self.learn(&stored);
        }
        self.seen = Some(snapshot.revision());
    }

    fn learn(&mut self, stored: &Stored) {
        for token in tokens_of(stored) {
            self.owners.insert(token, stored.key.clone());
        }
    }

    fn forget(&mut self, stored: &Stored) {
        for token in tokens_of(stored) {
            if self.owners.get(&token) == Some(&stored.key) {
                self.owners.remove(&token);
            }
        }
    }

    fn hold(&mut self, stored: &Stored, is_there: bool) {
        let Ok(address) = stored.key.name.parse() else { return };
        if is_there && !is_ours(stored) {
            self.held.insert(address);
        } else {
            self.held.remove(&address);
        }
    }

    fn is_free(&self, token: Token, for_key: &Key) -> bool {
        if self.reserved.contains(&token) {
            return false;
        }
        match (self.owners.get(&token), token) {
            (Some(owner), _) => owner == for_key,
            (None, Token::Address(address)) => !self.held.contains(&address),
            (None, Token::Port(..)) => true,
        }
    }
}

fn tokens_of(stored: &Stored) -> Vec<Token> {
    stored.value().map(|value| service::tokens(&value)).unwrap_or_default()
}

/// Gives out addresses and ports. Clones share the ledger.
#[derive(Clone)]
pub(crate) struct Allocator {
    ranges: Ranges,
    ledger: Arc<Mutex<Ledger>>,
}

/// Holds what was chosen until the write is done.
pub(crate) struct Reservation {
    ledger: Arc<Mutex<Ledger>>,
    tokens: Vec<Token>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        for token in &self.tokens {
            ledger.reserved.remove(token);
        }
    }
}

impl Allocator {
    /// An allocator that knows nothing yet.
    pub(crate) fn new(ranges: Ranges) -> Self {
        Self { ranges, ledger: Arc::default() }
    }

    /// Completes a Service with what it needs and has not: addresses, families, node ports.
    pub(crate) fn complete(
        &self,
        storage: &Storage,
        key: &Key,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reservation, ErrorList> {
        let mut ledger = self.ledger.lock();
        ledger.catch_up(storage);
        let own = self.ranges.cluster_ips;
        let further = service_cidrs::ready(&storage.snapshot()).into_iter().filter(|other| *other != own);
        let networks: Vec<_> = std::iter::once(own).chain(further).collect();
        let mut choice = service::Choice::new(&self.ranges, &networks, |token| ledger.is_free(token, key));
        choice.complete(object, old)?;
        let tokens = choice.chosen;
        ledger.reserved.extend(tokens.iter().copied());
        Ok(Reservation { ledger: Arc::clone(&self.ledger), tokens })
    }
}
