//! What a voter sees of clusters, and since when, derived from its prober's votes on Services.

use std::collections::BTreeMap;

use proto::v1;

/// What is seen of each cluster that is probed. Bounded by the number of clusters.
#[derive(Debug, Default)]
pub struct Sight {
    /// By name: whether it is down, and since when.
    clusters: BTreeMap<String, (bool, u64)>,
}

impl Sight {
    /// Takes in what the prober says of everything that it probes, at `now` in milliseconds.
    ///
    /// Where one Service answers its users, the failure of another is its own. A failure that the prober doubts because nothing else answers
    /// is one here: words are only told to others, and whoever reaches those is not cut off. What never answered says nothing.
    pub fn note(&mut self, now: u64, votes: &[v1::ProbeVote]) {
        let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
        for vote in votes {
            let down = match vote.state() {
                v1::ProbeState::Up => false,
                v1::ProbeState::Down | v1::ProbeState::Doubted => true,
                v1::ProbeState::Unproven => continue,
            };
            let together = seen.entry(&vote.cluster).or_insert(down);
            *together &= down;
        }
        self.clusters.retain(|name, _| seen.contains_key(name.as_str()));
        for (name, down) in seen {
            match self.clusters.get_mut(name) {
                Some((before, _)) if *before == down => {}
                Some(known) => *known = (down, now),
                None => {
                    self.clusters.insert(name.to_owned(), (down, now));
                }
            }
        }
    }

    /// What to say of it at `now`.
    pub fn seen(&self, now: u64) -> Vec<v1::Seen> {
        let seen = |(name, (down, since)): (&String, &(bool, u64))| v1::Seen {
            cluster: name.clone(),
            down: *down,
            for_ms: now.saturating_sub(*since),
        };
        self.clusters.iter().map(seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(service: &str, cluster: &str, state: v1::ProbeState) -> v1::ProbeVote {
        v1::ProbeVote {
            service: service.into(),
            cluster: cluster.into(),
            state: state.into(),
            ..v1::ProbeVote::default()
        }
    }

    #[track_caller]
    fn check(sight: &Sight, now: u64, expected: &[(&str, bool, u64)]) {
        let seen = sight.seen(now);
        let seen: Vec<_> = seen.iter().map(|seen| (seen.cluster.as_str(), seen.down, seen.for_ms)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_cluster_is_down_for_as_long_as_nothing_there_answers() {
        use v1::ProbeState::{Doubted, Down, Unproven, Up};
        let mut sight = Sight::default();
        sight.note(1000, &[vote("a", "taiwan", Up), vote("b", "taiwan", Down), vote("a", "tokyo", Unproven)]);
        check(&sight, 3000, &[("taiwan", false, 2000)]);
        sight.note(4000, &[vote("a", "taiwan", Down), vote("b", "taiwan", Down)]);
        sight.note(5000, &[vote("a", "taiwan", Doubted), vote("b", "taiwan", Doubted)]);
        check(&sight, 6000, &[("taiwan", true, 2000)]);
        sight.note(7000, &[vote("a", "taiwan", Up), vote("b", "taiwan", Down)]);
        check(&sight, 7000, &[("taiwan", false, 0)]);
        sight.note(8000, &[]);
        check(&sight, 8000, &[]);
    }
}
