//! Agents and DNS servers that know a newer epoch than this hub: the counter continues above it. If this store gave that epoch, the store was
//! restored from a backup.

use federation_core::health::Voter;
use federation_runtime::tasks;

use super::queue::{Priority, Queue};
use crate::act::events::Recorder;
use crate::epoch::Epochs;
use crate::hub::sessions::Sessions;
use crate::observe::{Key, World};
use crate::traffic::Traffic;

/// Keeps the epochs above everything that anybody was told. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ahead {
    pub(crate) world: World,
    pub(crate) epochs: Epochs,
    pub(crate) sessions: Sessions,
    pub(crate) queue: Queue<Key>,
    pub(crate) traffic: Traffic,
    pub(crate) recorder: Recorder,
}

impl Ahead {
    /// A cluster's agent was told an epoch, by a store of that incarnation; empty if it does not know. `heard_of_us` says whether it has been
    /// connected to this run of the controller. Heartbeats say it again, should the write fail.
    pub(crate) fn agent(&self, cluster: &str, newest: u64, incarnation: &str, heard_of_us: bool) {
        if !self.epochs.is_ahead(newest, heard_of_us) && !self.epochs.is_note_due() {
            return;
        }
        // What another store's hub told it says nothing of this one.
        let same = incarnation.is_empty() || incarnation == self.sessions.incarnation();
        if same && self.epochs.is_ahead(newest, heard_of_us) {
            self.suspect(cluster, newest);
        }
        self.raise(newest);
    }

    /// A DNS server serves zones of an epoch. Where our own store gave it, it takes nothing older from anybody: the zones are published anew
    /// above it. Those of another store are its operator's to give up.
    pub(crate) fn server(&self, instance: &str, served: u64, incarnation: &str) {
        if incarnation != self.sessions.incarnation() {
            return;
        }
        // Nothing could be published above a number that no hub has given: one server's broken disk would stop every other's answers.
        if !self.epochs.is_plausible(served) {
            tracing::error!(instance, served, "the epoch that a DNS server says it serves is not believed");
            return;
        }
        self.traffic.above(served);
        // It may have another name since it was told, so that only a number which nobody has yet shows anything.
        if self.epochs.is_ahead(served, true) {
            let voter = Voter::Dns { identity: String::new(), instance: instance.to_owned() };
            self.suspect(&voter.to_string(), served);
            self.raise(served);
        }
    }

    fn raise(&self, newest: u64) {
        let (epochs, sessions, traffic) = (self.epochs.clone(), self.sessions.clone(), self.traffic.clone());
        tasks::spawn(async move {
            match epochs.raise(newest).await {
                Ok(()) => {
                    sessions.set_epoch(epochs.current());
                    traffic.poke();
                }
                Err(error) => tracing::error!(%error, "the epoch could not be raised"),
            }
        });
    }

    /// The store was restored from a backup: nothing is taken away because of what it says now, until a person confirms it.
    fn suspect(&self, who: &str, newest: u64) {
        let ours = self.epochs.current();
        match self.epochs.suspect(who, newest) {
            Ok(true) => {
                tracing::error!(
                    who,
                    epoch = newest,
                    ours,
                    "somebody was told a newer epoch than ours: the store was restored from a backup; nothing is taken away until an operator confirms what it says (fedctl unfreeze)"
                );
                self.sessions.void_permits(ours.saturating_add(1));
                if let (Some(object), Some(reason)) = (self.world.cluster(who), self.epochs.restored()) {
                    self.recorder.cluster(&object, "Warning", "StoreRestored", &reason);
                }
                self.look_at_all();
            }
            Ok(false) => {}
            Err(error) => tracing::error!(who, %error, "an epoch that somebody was told is not believed"),
        }
    }

    /// Decides everything again.
    pub(crate) fn look_at_all(&self) {
        for key in self.world.keys() {
            self.queue.add(key, Priority::Normal);
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use crate::machine::{Machine, Word};
    use crate::testing::{self, until};

    #[tokio::test]
    async fn a_dns_server_that_serves_more_than_was_given_shows_that_the_store_was_restored() {
        let machine = testing::machine().await;
        let mut stream = machine.dns_connected();
        let (ours, told) = (machine.epoch(), machine.epoch() + 50_000);
        let mut hello = |epoch, incarnation: &str| {
            let hello = v1::DnsHello {
                instance: "one".into(),
                incarnation: incarnation.into(),
                epoch,
                ..v1::DnsHello::default()
            };
            stream.said(v1::DnsMessage { message: Some(v1::dns_message::Message::Hello(hello)) });
        };
        hello(ours, "store");
        hello(told, "of another federation");
        assert_eq!((machine.epoch(), machine.restored()), (ours, None));
        hello(told, "store");
        assert!(machine.restored().is_some_and(|reason| reason.contains("dns/one was told epoch")));
        until(|| machine.epoch() >= told).await;
    }

    /// A controller that publishes zones.
    async fn publishing() -> Machine {
        let machine = testing::machine().await;
        for collection in machine.declare(&["services"]) {
            machine.observe(&collection, Word::Synced);
        }
        machine.start(1);
        until(|| machine.traffic.last().is_some()).await;
        machine
    }

    #[tokio::test]
    async fn zones_are_published_on_though_a_dns_server_says_a_number_that_no_hub_has_given() {
        let machine = publishing().await;
        let hello = v1::DnsHello {
            instance: "one".into(),
            incarnation: "store".into(),
            epoch: u64::MAX - 1,
            ..v1::DnsHello::default()
        };
        machine
            .dns_connected()
            .said(v1::DnsMessage { message: Some(v1::dns_message::Message::Hello(hello)) });
        assert_eq!(machine.restored(), None);
        // What a server can serve is still published above.
        let told = machine.epoch() + 1;
        machine.traffic.above(told);
        until(|| machine.traffic.last().is_some_and(|last| last.epoch > told)).await;
    }

    #[tokio::test]
    async fn zones_are_published_above_what_is_served_though_the_epochs_were_not_raised_then() {
        let machine = publishing().await;
        let told = machine.epoch() + 50_000;
        machine.traffic.above(told);
        until(|| machine.traffic.last().is_some_and(|last| last.epoch > told)).await;
    }
}
