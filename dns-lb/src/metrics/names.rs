//! Counters of balanced names: how often each was answered, with which cluster.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;

use super::ClusterSlot;
use crate::wire::Name;

/// Clusters of a name that are counted apart, less one: a name with more counts the rest under `(other)`. With it a name's cells are one
/// cache line.
const CELLS: usize = 8;
/// A cell's count is its low bits, 48 of them: enough for 90 years at 100,000 a second.
const COUNT: u64 = (1 << TAG) - 1;
/// Above them is which cluster's it is, counted from 1; 0: the cell is free.
const TAG: u32 = 48;

/// Index of a name's counters. The first is of names that have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameSlot(u16);

impl NameSlot {
    /// Of names that are not balanced.
    pub const NONE: Self = Self(0);
    /// Of balanced names beyond the bound.
    pub(super) const OTHER: Self = Self(1);
}

/// Balanced names in order of appearance, up to a bound. A name keeps its slot while the process lives, whatever the epoch.
#[derive(Debug)]
pub(super) struct NameSlots {
    max: usize,
    known: RwLock<HashMap<Name, NameSlot>>,
}

impl NameSlots {
    /// Room for `max` names.
    pub(super) fn new(max: usize) -> Self {
        // Slots are 16 bits, and two of them are no name's.
        Self { max: max.min(usize::from(u16::MAX) - 1), known: RwLock::default() }
    }

    /// How many slots counters need.
    pub(super) fn count(&self) -> usize {
        if self.max == 0 { 0 } else { self.max + 2 }
    }

    /// The slot of `name`, which is balanced.
    pub(super) fn slot(&self, name: &Name) -> NameSlot {
        if self.max == 0 {
            return NameSlot::NONE;
        }
        if let Some(&slot) = self.known.read().get(name) {
            return slot;
        }
        let mut known = self.known.write();
        let next = known.len();
        if next >= self.max {
            return known.get(name).copied().unwrap_or(NameSlot::OTHER);
        }
        *known.entry(name.clone()).or_insert(NameSlot(next as u16 + 2))
    }

    /// Every name with its slot, in no order.
    pub(super) fn names(&self) -> Vec<(String, NameSlot)> {
        self.known.read().iter().map(|(name, &slot)| (name.to_string(), slot)).collect()
    }
}

/// One name's cells: each has a cluster and a count in one number, so that whoever reads it finds them together.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; CELLS]);

/// The counters of one thread, or of one kind of connections.
#[derive(Debug)]
pub(super) struct NameCounters(Box<[Line]>);

impl NameCounters {
    /// Counters at zero, for so many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self((0..slots).map(|_| Line::default()).collect())
    }

    /// An answer about the name of `slot` names `cluster`. `alone`: nobody else writes here.
    #[inline]
    pub(super) fn bump(&self, slot: NameSlot, cluster: ClusterSlot, alone: bool) {
        if slot == NameSlot::NONE {
            return;
        }
        let Some(Line(cells)) = self.0.get(slot.0 as usize) else { return };
        let tag = u64::from(cluster.0) + 1;
        let Some((last, own)) = cells.split_last() else { return };
        for cell in own {
            let held = cell.load(Relaxed);
            match held >> TAG {
                0 if alone => cell.store(tag << TAG | 1, Relaxed),
                0 => match cell.compare_exchange(0, tag << TAG | 1, Relaxed, Relaxed) {
                    Ok(_) => {}
                    Err(taken) if taken >> TAG == tag => {
                        cell.fetch_add(1, Relaxed);
                    }
                    Err(_) => continue,
                },
                found if found == tag && alone => cell.store(held + 1, Relaxed),
                found if found == tag => {
                    cell.fetch_add(1, Relaxed);
                }
                _ => continue,
            }
            return;
        }
        if alone {
            last.store(last.load(Relaxed) + 1, Relaxed);
        } else {
            last.fetch_add(1, Relaxed);
        }
    }

    /// The counts of a name by cluster; none: of clusters beyond those that are counted apart.
    pub(super) fn read(&self, slot: NameSlot) -> impl Iterator<Item = (Option<ClusterSlot>, u64)> {
        let cells = self.0.get(slot.0 as usize).map(|Line(cells)| cells.as_slice()).unwrap_or_default();
        let held = cells.iter().map(|cell| cell.load(Relaxed)).filter(|held| held & COUNT > 0);
        held.map(|held| {
            ((held >> TAG).checked_sub(1).map(|cluster| ClusterSlot(cluster as u16)), held & COUNT)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn counts(counters: &NameCounters, slot: NameSlot) -> BTreeMap<Option<u16>, u64> {
        counters.read(slot).map(|(cluster, count)| (cluster.map(|slot| slot.0), count)).collect()
    }

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let slots = NameSlots::new(2);
        let slot = |text: &str| slots.slot(&Name::parse(text).expect("a name"));
        let (a, b) = (slot("a.test."), slot("b.test."));
        assert!(a != b && ![NameSlot::NONE, NameSlot::OTHER].contains(&a));
        assert_eq!(
            (slot("c.test."), slot("d.test."), slot("a.test.")),
            (NameSlot::OTHER, NameSlot::OTHER, a)
        );
        assert_eq!((slots.count(), slots.names().len()), (4, 2));
        let none = NameSlots::new(0);
        assert_eq!((none.slot(&Name::parse("a.test.").expect("a name")), none.count()), (NameSlot::NONE, 0));
    }

    #[test]
    fn clusters_beyond_a_line_are_counted_together() {
        for alone in [true, false] {
            let counters = NameCounters::new(3);
            for cluster in 0..10 {
                for _ in 0..=cluster {
                    counters.bump(NameSlot(2), ClusterSlot(cluster), alone);
                }
            }
            let mut expected: BTreeMap<_, _> =
                (0..7).map(|cluster| (Some(cluster), u64::from(cluster) + 1)).collect();
            expected.insert(None, 8 + 9 + 10);
            assert_eq!(counts(&counters, NameSlot(2)), expected, "alone: {alone}");
            assert_eq!(counts(&counters, NameSlot::OTHER), BTreeMap::new());
            counters.bump(NameSlot::NONE, ClusterSlot(0), alone);
            assert_eq!(counts(&counters, NameSlot::NONE), BTreeMap::new());
        }
    }

    #[test]
    fn nothing_is_lost_where_several_write() {
        let counters = NameCounters::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000_u16 {
                        counters.bump(NameSlot(2), ClusterSlot(n % 5), false);
                    }
                });
            }
        });
        let expected = (0..5).map(|cluster| (Some(cluster), 8000)).collect();
        assert_eq!(counts(&counters, NameSlot(2)), expected);
    }
}
