//! Measured round-trip times from regions of clients to regions of clusters, and an order by them that does not flap.
//!
//! Each pair has an exponentially weighted moving average. A region of clusters overtakes the one before it only when its average
//! is better by [`HYSTERESIS_PERCENT`]: routes that differ by noise keep their order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// By how much the next one must be better.
pub const HYSTERESIS_PERCENT: u64 = 15;
/// Weight of a new sample, of 256: an eighth, as TCP's smoothed round-trip time (RFC 6298).
const ALPHA: u64 = 32;
/// After this long without a sample a pair counts as unmeasured.
pub const SAMPLE_STALE_MS: i64 = 600_000;

/// The averages, and the orders that follow from them. Kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// By region of clients.
    regions: BTreeMap<String, Measured>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Measured {
    /// By region of clusters.
    averages: BTreeMap<String, Average>,
    /// Best first.
    order: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Average {
    /// Of a microsecond, 1/256.
    scaled: u64,
    at_ms: i64,
}

/// One measured round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Region of clients that it is measured for.
    pub from: &'a str,
    /// Region of the cluster.
    pub to: &'a str,
    /// Microseconds.
    pub rtt_us: u32,
}

impl Latency {
    /// Takes in a sample; says whether an order changed.
    pub fn observe(&mut self, sample: Sample<'_>, now_ms: i64) -> bool {
        let measured = self.regions.entry(sample.from.to_owned()).or_default();
        let fresh = u64::from(sample.rtt_us) * 256;
        let average = measured.averages.entry(sample.to.to_owned()).or_default();
        let stale = now_ms.saturating_sub(average.at_ms) > SAMPLE_STALE_MS;
        average.scaled = if average.at_ms == 0 || stale {
            fresh
        } else {
            (average.scaled * (256 - ALPHA) + fresh * ALPHA) / 256
        };
        average.at_ms = now_ms.max(1);
        measured.settle(now_ms)
    }

    /// Forgets what was not measured for long; says whether an order changed.
    pub fn age(&mut self, now_ms: i64) -> bool {
        let mut changed = false;
        for measured in self.regions.values_mut() {
            changed |= measured.settle(now_ms);
        }
        self.regions.retain(|_, measured| !measured.averages.is_empty());
        changed
    }

    /// Regions of clusters, best first, for the clients of a region; unmeasured ones are not there.
    pub fn order(&self, from: &str) -> Vec<&str> {
        self.regions
            .get(from)
            .map(|measured| measured.order.iter().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// The average of a pair, in microseconds.
    pub fn average_us(&self, from: &str, to: &str) -> Option<u64> {
        Some(self.regions.get(from)?.averages.get(to)?.scaled / 256)
    }
}

impl Measured {
    /// Brings the order up to date by exchanging neighbours: the least change that leaves nobody behind somebody who is worse by more than
    /// the hysteresis.
    fn settle(&mut self, now_ms: i64) -> bool {
        let before = self.order.clone();
        self.averages.retain(|_, average| now_ms.saturating_sub(average.at_ms) <= SAMPLE_STALE_MS);
        self.order.retain(|name| self.averages.contains_key(name));
        let of = |name: &String| self.averages.get(name).map_or(u64::MAX, |average| average.scaled);
        // A new one goes where its average puts it.
        for name in self.averages.keys() {
            if !self.order.contains(name) {
                let place = self.order.iter().position(|other| of(name) < of(other));
                self.order.insert(place.unwrap_or(self.order.len()), name.clone());
            }
        }
        let overtakes = |ahead: &String, behind: &String| {
            of(behind).saturating_mul(100) < of(ahead).saturating_mul(100 - HYSTERESIS_PERCENT)
        };
        // Each exchange undoes one inversion, so that there are at most n*(n-1)/2 of them.
        let mut index = 1;
        while index < self.order.len() {
            if let [ahead, behind] = &self.order[index - 1..=index]
                && overtakes(ahead, behind)
            {
                self.order.swap(index - 1, index);
                index = index.saturating_sub(1).max(1);
            } else {
                index += 1;
            }
        }
        self.order != before
    }
}
