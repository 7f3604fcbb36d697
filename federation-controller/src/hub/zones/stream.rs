//! One DNS server's stream: what it says, and what it is sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use federation_runtime::clock::Instant;
use hub_protocol::zones;
use proto::v1;

use super::Zones;
use super::history::{Base, Newest};

impl Zones {
    /// A stream begins, of a dns-lb with that identity.
    pub(crate) fn open(&self, identity: String) -> Stream {
        Stream {
            zones: self.clone(),
            number: self.0.next_stream.fetch_add(1, Ordering::Relaxed),
            newest: self.0.newest.subscribe(),
            identity,
            instance: String::new(),
            base: None,
            pieces: false,
            update_max: zones::UPDATE_MAX,
            is_withheld: false,
            connected: Instant::now(),
        }
    }
}

/// One dns-lb's stream, whatever carries it. It ends when it is dropped.
pub(crate) struct Stream {
    zones: Zones,
    number: u64,
    pub(super) newest: watch::Receiver<Option<Arc<Newest>>>,
    identity: String,
    instance: String,
    // What it has, as far as changes may be made of it. Nothing is sent before it says hello.
    pub(super) base: Option<Base>,
    // It takes a large update in pieces.
    pieces: bool,
    // Octets of an update that it takes in pieces.
    update_max: usize,
    // The last update for it was larger than it takes, and was not sent.
    is_withheld: bool,
    connected: Instant,
}

impl Stream {
    /// Takes a message in, from a dns-lb at that address.
    pub(crate) fn said(&mut self, message: v1::DnsMessage, peer: Option<IpAddr>) {
        match message.message {
            Some(v1::dns_message::Message::Hello(hello)) => {
                self.zones.served(self.number, &hello.instance, 0);
                self.zones.opened(self.number, &hello, peer);
                self.zones.0.ahead.server(&hello.instance, hello.epoch, &hello.incarnation);
                self.base = Some(Base::of(&hello));
                self.pieces = hello.pieces;
                self.instance = hello.instance;
                self.newest.mark_changed();
            }
            Some(v1::dns_message::Message::Served(served)) => {
                self.zones.served(self.number, &self.instance, served.epoch);
                if let Some(base) = &mut self.base {
                    base.served(served.epoch);
                }
            }
            Some(v1::dns_message::Message::Votes(votes)) => {
                self.zones.voted(&self.identity, &self.instance, &votes.votes);
            }
            None => {}
        }
    }

    /// What is to be sent now. An update that is larger than this dns-lb takes is not sent: it keeps what it has, and later changes of that
    /// may be small enough.
    pub(crate) fn next(&mut self) -> Option<v1::ZoneUpdate> {
        let base = self.base.as_mut()?;
        if !self.newest.has_changed().unwrap_or(false) {
            return None;
        }
        let newest = self.newest.borrow_and_update().clone()?;
        let update = newest.since(base);
        let (octets, most) =
            (zones::size(&update), if self.pieces { self.update_max } else { zones::MESSAGE_MAX });
        let (was_withheld, instance) = (self.is_withheld, &self.instance);
        self.is_withheld = octets > most;
        if self.is_withheld {
            self.zones.0.metrics.zone_updates_withheld.inc();
            if !was_withheld {
                let what_to_do = if self.pieces { "remove hostnames or Services" } else { "update it" };
                tracing::error!(
                    instance,
                    octets,
                    most,
                    what_to_do,
                    "the zones are larger than this DNS server takes: it is not sent them, and keeps what it has"
                );
            }
            return None;
        }
        if was_withheld {
            tracing::info!(instance, octets, "the zones are sent to this DNS server again");
        }
        base.sent(&update);
        Some(update.into_owned())
    }

    /// An update as this dns-lb takes it.
    pub(super) fn messages(&self, update: v1::ZoneUpdate) -> Vec<v1::ZoneUpdate> {
        if self.pieces { zones::cut(update, zones::PIECE) } else { vec![update] }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.zones.gone(self.number);
        let seconds = self.connected.elapsed().as_secs();
        tracing::info!(instance = self.instance, seconds, "a DNS server left");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing;

    /// Zones of more than one piece.
    pub(in super::super) fn large(epoch: u64) -> v1::ZoneUpdate {
        let record = v1::RecordSet { name: "x".repeat(2 * zones::PIECE), ..v1::RecordSet::default() };
        let zone = v1::Zone { records: vec![record], ..v1::Zone::default() };
        v1::ZoneUpdate { epoch, zones: vec![zone], ..v1::ZoneUpdate::default() }
    }

    #[tokio::test]
    async fn the_size_of_the_zones_is_measured_and_large_ones_go_in_pieces_to_who_takes_them() {
        let machine = testing::machine().await;
        machine.zones.publish(large(7));
        assert!(machine.zones.0.metrics.zone_update_bytes.get() > zones::PIECE as i64);
        for pieces in [true, false] {
            let mut stream = machine.zones.open("dns".into());
            let hello = v1::DnsHello { instance: "a".into(), pieces, ..v1::DnsHello::default() };
            let message = Some(v1::dns_message::Message::Hello(hello));
            stream.said(v1::DnsMessage { message }, None);
            let next = stream.next().expect("there is something to send");
            assert_eq!(stream.messages(next).len(), if pieces { 3 } else { 1 });
        }
    }

    #[tokio::test]
    async fn zones_that_are_larger_than_a_dns_server_takes_are_not_sent_and_changes_of_what_it_has_are() {
        let machine = testing::machine().await;
        let withheld = || machine.zones.0.metrics.zone_updates_withheld.get();
        let records = |count: u32| -> Vec<v1::RecordSet> {
            let record = |n| v1::RecordSet { name: format!("name-{n}."), ttl: 5, ..v1::RecordSet::default() };
            (0..count).map(record).collect()
        };
        let publish = |epoch, count| {
            let zone = v1::Zone { origin: ".".into(), records: records(count), ..v1::Zone::default() };
            let incarnation = "store".into();
            machine.zones.publish(v1::ZoneUpdate {
                epoch,
                incarnation,
                zones: vec![zone],
                ..v1::ZoneUpdate::default()
            });
        };
        let opened = || {
            let mut stream = machine.zones.open("dns".into());
            stream.update_max = 1000;
            let hello = v1::DnsHello { changes: true, pieces: true, ..v1::DnsHello::default() };
            stream.said(v1::DnsMessage { message: Some(v1::dns_message::Message::Hello(hello)) }, None);
            stream
        };
        let next = |stream: &mut Stream| stream.next().map(|update| (update.base, update.epoch));
        publish(5, 60);
        let mut early = opened();
        assert_eq!(next(&mut early), Some((0, 5)));
        let served = v1::dns_message::Message::Served(v1::ZoneServed { epoch: 5 });
        early.said(v1::DnsMessage { message: Some(served) }, None);

        // All of it is too large; what has changed is not.
        publish(6, 90);
        let mut late = opened();
        assert_eq!((next(&mut early), withheld()), (Some((5, 6)), 0));
        assert_eq!((next(&mut late), withheld()), (None, 1));
        publish(7, 20);
        assert_eq!((next(&mut late), withheld()), (Some((0, 7)), 1));
    }
}
