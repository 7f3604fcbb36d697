//! How far back whole states are told: kube-apiserver's compaction of etcd, as a rule without a clock.

/// What is forgotten at each tick: what was old at the tick before. So a state is told for one to two intervals after it was the newest one.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// The newest revision at the last tick.
    noted: u64,
    /// Older states are forgotten.
    floor: u64,
    ticks: u64,
}

impl Compaction {
    /// An interval is over, in which `newest` was the last revision.
    pub(super) fn tick(&mut self, newest: u64) {
        self.floor = self.noted;
        self.noted = newest;
        self.ticks += 1;
    }

    /// The oldest revision whose state is told.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The interval that it is now.
    pub(super) fn interval(&self) -> u64 {
        self.ticks
    }

    /// Whether what began in this interval is forgotten, even if nothing was written since. kube-apiserver writes down each compaction, so that
    /// no revision stays the newest one for longer than an interval.
    pub(super) fn is_over(&self, interval: u64) -> bool {
        interval.saturating_add(2) <= self.ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_the_newest_two_ticks_ago_is_the_oldest() {
        let mut compaction = Compaction::default();
        let mut floors = Vec::new();
        for newest in [10, 20, 20, 50] {
            compaction.tick(newest);
            floors.push(compaction.floor());
        }
        assert_eq!(floors, [0, 10, 20, 20]);
    }

    #[test]
    fn an_interval_is_over_after_the_next_one() {
        let mut compaction = Compaction::default();
        let first = compaction.interval();
        compaction.tick(1);
        let second = compaction.interval();
        assert!(!compaction.is_over(first));
        compaction.tick(1);
        assert!(compaction.is_over(first) && !compaction.is_over(second));
        // That of a server before a restart may not have come yet.
        assert!(!compaction.is_over(u64::MAX));
    }
}
