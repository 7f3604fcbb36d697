//! Cluster IPs and node ports of Services: who has which, and who gets which.
//!
//! A Service's cluster IP and node ports are allocated when it is made and stand for its life; they are free again once
//! it is deleted. They are this API's own: members allocate their own for their copies (the controller leaves out what
//! nobody asked for), so that a client of this API sees the stable addresses that Kubernetes promises.
//!
//! What is in use follows from the store: each allocation first takes in what was written since the last one, so
//! nothing leaks when a Service goes in whatever way. Between the choice and the commit a [`Reservation`] holds it.

mod ranges;
mod service;

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;

pub use ranges::{Network, PortRange, Ranges};

use crate::{
    registry::Faults,
    store::{EventKind, Key, ResourceKey, Storage, Stored},
};

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
    reserved: HashSet<Token>,
}

impl Ledger {
    fn catch_up(&mut self, storage: &Storage) {
        let services = ResourceKey::new("", "services");
        if let Some(seen) = self.seen
            && let Ok(events) = storage.changes_after(seen)
        {
            for event in events {
                self.seen = Some(event.revision);
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

    fn is_free(&self, token: Token, for_key: &Key) -> bool {
        !self.reserved.contains(&token) && self.owners.get(&token).is_none_or(|owner| owner == for_key)
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
    ) -> Result<Reservation, Faults> {
        let mut ledger = self.ledger.lock();
        ledger.catch_up(storage);
        let mut choice = service::Choice::new(&self.ranges, |token| ledger.is_free(token, key));
        choice.complete(object, old)?;
        let tokens = choice.chosen;
        ledger.reserved.extend(tokens.iter().copied());
        Ok(Reservation { ledger: Arc::clone(&self.ledger), tokens })
    }
}
