//! Where the keys stand that were written or asked for last: what the tables do not know yet, and what need not be looked up there again.

use std::collections::{HashMap, VecDeque};

/// Keys that are kept though the tables know them, too: about 150 bytes each.
const KEPT: usize = 4096;

/// The newest states of some keys.
#[derive(Default)]
pub(super) struct Recent {
    /// By key, its newest revision and whether the key went with it.
    keys: HashMap<Vec<u8>, (u64, bool)>,
    /// In the order in which they are forgotten.
    order: VecDeque<(u64, Vec<u8>)>,
}

impl Recent {
    pub(super) fn get(&self, prefix: &[u8]) -> Option<(u64, bool)> {
        self.keys.get(prefix).copied()
    }

    pub(super) fn insert(&mut self, prefix: Vec<u8>, revision: u64, deleted: bool) {
        self.order.push_back((revision, prefix.clone()));
        self.keys.insert(prefix, (revision, deleted));
    }

    /// Forgets the oldest ones of which the tables, which hold everything up to `settled`, know.
    pub(super) fn prune(&mut self, settled: u64) {
        while self.order.len() > KEPT
            && let Some((revision, prefix)) = self.order.pop_front_if(|(revision, _)| *revision <= settled)
        {
            // It may have been written again since.
            if self.keys.get(&prefix).is_some_and(|(newest, _)| *newest == revision) {
                self.keys.remove(&prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tables_do_not_know_is_never_forgotten() {
        let mut recent = Recent::default();
        for revision in 1..=10_000 {
            recent.insert(vec![0, (revision % 200) as u8], revision, false);
            recent.insert(format!("{revision}").into_bytes(), revision, revision % 2 == 0);
            recent.prune(100);
        }
        assert_eq!(recent.get(b"100"), None);
        assert_eq!(recent.get(b"101"), Some((101, false)));
        assert_eq!(recent.get(&[0, 7]), Some((9807, false)));
        recent.prune(10_000);
        assert!(recent.keys.len() <= KEPT && recent.order.len() == KEPT);
        assert_eq!(recent.get(b"10000"), Some((10_000, true)));
        assert_eq!(recent.get(b"101"), None);
    }
}
