//! The newest zones with the changes that led to them, and what one dns-lb is sent of it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use hub_protocol::zones;
use proto::v1;

/// Changes that are remembered: a dns-lb that is at most this many behind is sent changes instead of everything.
const CHANGES: usize = 64;

/// The newest zones, and what led to them.
pub(super) struct Newest {
    pub(super) whole: Arc<v1::ZoneUpdate>,
    // One after the other, each from the epoch before it; the last one leads to the whole.
    changes: VecDeque<Arc<v1::ZoneUpdate>>,
}

/// What changes for one dns-lb may be made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Base {
    // It takes changes.
    changes: bool,
    // 0: everything is to be sent.
    epoch: u64,
    incarnation: String,
    // Of the last whole update that was sent: what is acknowledged may be of an older hub otherwise.
    whole: Option<u64>,
}

impl Base {
    pub(super) fn of(hello: &v1::DnsHello) -> Self {
        let incarnation = hello.incarnation.clone();
        Self { changes: hello.changes, epoch: hello.epoch, incarnation, whole: None }
    }

    pub(super) fn sent(&mut self, update: &v1::ZoneUpdate) {
        if update.base == 0 {
            (self.epoch, self.whole) = (0, Some(update.epoch));
            self.incarnation.clone_from(&update.incarnation);
        }
    }

    /// An acknowledgement that was under way when everything was sent anew says nothing of that.
    pub(super) fn served(&mut self, epoch: u64) {
        if self.whole.is_none_or(|whole| epoch >= whole) {
            self.epoch = self.epoch.max(epoch);
        }
    }
}

impl Newest {
    pub(super) fn after(before: Option<&Self>, whole: v1::ZoneUpdate) -> Self {
        let change = before.and_then(|before| zones::change(&before.whole, &whole));
        let mut changes = VecDeque::new();
        if let (Some(before), Some(change)) = (before, change) {
            changes.clone_from(&before.changes);
            changes.push_back(Arc::new(change));
            let sets = |change: &v1::ZoneUpdate| -> usize {
                change.zones.iter().map(|zone| zone.records.len() + zone.gone.len()).sum()
            };
            let mut all: usize = changes.iter().map(|change| sets(change)).sum();
            while changes.len() > CHANGES || all > sets(&whole) / 4 && changes.len() > 1 {
                all -= changes.pop_front().map_or(0, |change| sets(&change));
            }
        }
        Self { whole: Arc::new(whole), changes }
    }

    /// What a dns-lb is sent that has `base`. It may be too large to be sent, and so is lent where it is everything.
    pub(super) fn since(&self, base: &Base) -> Cow<'_, v1::ZoneUpdate> {
        let whole = || Cow::Borrowed(self.whole.as_ref());
        // Within what was published here there may be a number of another run, given before the store was restored.
        let is_ours =
            |epoch| epoch == self.whole.epoch || self.changes.iter().any(|change| change.base == epoch);
        if !base.changes
            || self.whole.otherwise.is_some()
            || !is_ours(base.epoch)
            || base.incarnation != self.whole.incarnation
        {
            return whole();
        }
        let mut since = self.changes.iter().skip_while(|change| change.epoch <= base.epoch);
        match since.next() {
            Some(first) if first.base <= base.epoch => {
                Cow::Owned(since.fold(first.as_ref().clone(), |sum, next| zones::join(&sum, next)))
            }
            // It has the newest: what comes back says so.
            None if base.epoch == self.whole.epoch => Cow::Owned(v1::ZoneUpdate {
                epoch: self.whole.epoch,
                incarnation: self.whole.incarnation.clone(),
                base: base.epoch,
                withdrawn: self.whole.withdrawn.clone(),
                ..v1::ZoneUpdate::default()
            }),
            _ => whole(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(epoch: u64) -> v1::ZoneUpdate {
        let record = |n: u64| v1::RecordSet { name: format!("n{n}."), ttl: 5, ..v1::RecordSet::default() };
        let mut records: Vec<v1::RecordSet> = (0..40).map(record).collect();
        records[epoch as usize % 40].ttl = 6;
        let zone = v1::Zone { origin: ".".into(), serial: epoch as u32, records, ..v1::Zone::default() };
        v1::ZoneUpdate { epoch, incarnation: "store".into(), zones: vec![zone], ..v1::ZoneUpdate::default() }
    }

    fn newest(epochs: std::ops::Range<u64>) -> Newest {
        epochs.fold(None, |last, epoch| Some(Newest::after(last.as_ref(), update(epoch)))).expect("some")
    }

    fn hello(epoch: u64) -> Base {
        Base::of(&v1::DnsHello {
            epoch,
            incarnation: "store".into(),
            changes: true,
            ..v1::DnsHello::default()
        })
    }

    #[test]
    fn a_change_leads_from_what_was_acknowledged_to_the_newest() {
        let newest = newest(3..8);
        for epoch in 3..8 {
            let sent = newest.since(&hello(epoch));
            assert_eq!((sent.base, sent.epoch), (epoch, 7));
            let records: usize = sent.zones.iter().map(|zone| zone.records.len()).sum();
            assert!(records as u64 <= 8 - epoch, "{epoch}: {records}");
            let mut whole = update(epoch);
            assert_eq!(zones::apply(&mut whole, &sent), epoch < 7);
            assert_eq!(whole, update(7));
        }
    }

    #[test]
    fn who_is_unknown_or_far_behind_or_of_another_store_gets_everything() {
        let newest = newest(3..60);
        let whole = |base: Base| matches!(newest.since(&base), Cow::Borrowed(update) if update.base == 0);
        assert!(
            whole(hello(0)) && whole(hello(2)) && whole(hello(3)) && whole(hello(60)) && !whole(hello(58))
        );
        assert!(whole(Base { incarnation: "other".into(), ..hello(58) }));
        let sparse =
            [3, 6, 9].into_iter().fold(None, |last, epoch| Some(Newest::after(last.as_ref(), update(epoch))));
        let sparse = sparse.expect("some");
        assert_eq!(
            [6, 7, 9].map(|epoch| sparse.since(&hello(epoch)).base),
            [6, 0, 9],
            "an epoch of another run"
        );
        assert!(whole(Base { changes: false, ..hello(58) }), "a dns-lb that does not know of changes");
        assert!(newest.changes.len() < 12, "{}: they are not more than is worth it", newest.changes.len());
    }

    #[test]
    fn what_was_acknowledged_before_everything_was_sent_anew_is_no_base() {
        let mut base = hello(0);
        base.sent(&update(7));
        base.served(6);
        assert_eq!(base.epoch, 0);
        base.served(7);
        assert_eq!(base.epoch, 7);
    }
}
