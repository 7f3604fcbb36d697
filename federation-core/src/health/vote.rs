//! Votes about users' access to a cluster, and how long each counts.

use std::collections::BTreeMap;
use std::fmt;

use super::quorum::{Quorum, of_services, tally};

/// Milliseconds after which a vote counts no longer, if its target is probed at the default interval. Probers repeat what they say
/// every 3 s, so that two reports may be lost.
pub const VOTE_LIFE_MS: i64 = 10_000;
/// Probers of one cluster whose votes are kept: every DNS server that may be connected, the controller, and some that have gone.
pub const VOTERS_MAX: usize = 512;

/// Who looks from outside whether users are served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Voter {
    /// The controller's own prober: it sees the members over the hub's own link.
    Controller,
    /// A DNS server. All that show one certificate's name have one vote together.
    Dns {
        /// The name in the certificate: who the federation says that it is.
        identity: String,
        /// Its instance's name: who it says that it is.
        instance: String,
    },
    /// The agent of another member, by that Cluster's name.
    Peer(String),
}

impl fmt::Display for Voter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => formatter.write_str("controller"),
            Self::Dns { instance, .. } => write!(formatter, "dns/{instance}"),
            Self::Peer(cluster) => write!(formatter, "agent/{cluster}"),
        }
    }
}

/// What a prober says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No probe ever succeeded from there: that says more about the check than about the cluster, and counts for nothing.
    #[default]
    Unproven,
    /// Users are served.
    Up,
    /// They are not.
    Down,
    /// It fails, but so does everything else that is probed from there: the prober doubts itself, and this counts for nothing.
    Doubted,
}

/// The newest word of one prober on one Service in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// What it says.
    pub outcome: Outcome,
    /// Failures in a row.
    pub failures: u32,
    /// When its last probe ended, by the hub's clock, Unix milliseconds.
    pub at_ms: i64,
    /// Round trip of the last probe that succeeded, microseconds.
    pub rtt_us: u32,
    /// Why the last probe failed; empty if it did not.
    pub message: String,
    /// Earliest expiry of a certificate that was seen, Unix seconds.
    pub certificate_not_after: Option<i64>,
}

/// Votes on one cluster, by Service (`namespace/name`) and voter. Only about Services that somebody is asked to probe.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    services: BTreeMap<String, BTreeMap<Voter, Vote>>,
    /// For how long a vote counts, by Service.
    lives_ms: BTreeMap<String, i64>,
}

impl Votes {
    /// Says what is probed now, with the milliseconds for which votes on it count. Votes on anything else are forgotten.
    pub(super) fn expect(&mut self, lives_ms: BTreeMap<String, i64>) {
        self.services.retain(|service, _| lives_ms.contains_key(service));
        self.lives_ms = lives_ms;
    }

    pub(super) fn put(&mut self, voter: &Voter, service: &str, vote: Vote) {
        if !self.lives_ms.contains_key(service) {
            return;
        }
        let votes = self.services.entry(service.to_owned()).or_default();
        if votes.len() >= VOTERS_MAX && !votes.contains_key(voter) {
            return;
        }
        // A word from long after this one is of a clock that has been set back since: it would stand for ever.
        let newest = votes
            .get(voter)
            .is_none_or(|known| known.at_ms <= vote.at_ms || known.at_ms - vote.at_ms > VOTE_LIFE_MS);
        if newest {
            votes.insert(voter.clone(), vote);
        }
    }

    /// Forgets of every vote how much later than now it is.
    pub(super) fn not_after(&mut self, now_ms: i64) {
        for vote in self.services.values_mut().flat_map(BTreeMap::values_mut) {
            vote.at_ms = vote.at_ms.min(now_ms);
        }
    }

    /// Drops what is too old to be told of: ten lives.
    pub(super) fn forget_old(&mut self, now_ms: i64) {
        for (service, votes) in &mut self.services {
            let life_ms = self.lives_ms.get(service).copied().unwrap_or(VOTE_LIFE_MS);
            votes.retain(|_, vote| now_ms.saturating_sub(vote.at_ms) <= life_ms.saturating_mul(10));
        }
    }

    /// What the probers say of a Service. `silent`: heartbeats are, and with them the hub's own link may be; then the controller's
    /// failing probe is the same word once more, and does not count.
    pub(super) fn of(&self, service: &str, silent: bool, now_ms: i64) -> Quorum {
        let (mut ups, mut downs) = (0, 0);
        for (voter, vote) in self.counting(service, now_ms) {
            match vote.outcome {
                Outcome::Up => ups += 1,
                Outcome::Down if silent && *voter == Voter::Controller => {}
                _ => downs += 1,
            }
        }
        tally(ups, downs)
    }

    /// The votes on a Service that count. DNS servers of one identity have one vote together, since instances' names cost nothing: it
    /// is Up if one of them sees users served.
    fn counting(&self, service: &str, now_ms: i64) -> BTreeMap<&Voter, &Vote> {
        let mut counting = BTreeMap::new();
        let mut servers: BTreeMap<&str, (&Voter, &Vote)> = BTreeMap::new();
        for (voter, vote) in self.services.get(service).into_iter().flatten() {
            if !matches!(vote.outcome, Outcome::Up | Outcome::Down) || !self.is_fresh(service, vote, now_ms) {
                continue;
            }
            let Voter::Dns { identity, .. } = voter else {
                counting.insert(voter, vote);
                continue;
            };
            let word = servers.entry(identity).or_insert((voter, vote));
            if vote.outcome == Outcome::Up && word.1.outcome != Outcome::Up {
                *word = (voter, vote);
            }
        }
        counting.extend(servers.into_values());
        counting
    }

    /// What they say of the cluster.
    pub(super) fn together(&self, silent: bool, now_ms: i64) -> Quorum {
        of_services(self.services.keys().map(|service| self.of(service, silent, now_ms)))
    }

    /// Whether nobody sees users served without a failure since: it may be about to fall.
    pub(super) fn wavers(&self, now_ms: i64) -> bool {
        let mut counted = false;
        for (service, votes) in &self.services {
            for vote in votes.values().filter(|vote| self.is_fresh(service, vote, now_ms)) {
                if vote.outcome == Outcome::Up && vote.failures == 0 {
                    return false;
                }
                counted |= matches!(vote.outcome, Outcome::Up | Outcome::Down);
            }
        }
        counted
    }

    /// Services that are probed.
    pub(super) fn services(&self) -> impl Iterator<Item = &str> {
        self.lives_ms.keys().map(String::as_str)
    }

    /// Everything, with whether it counts.
    pub(super) fn iter(&self, now_ms: i64) -> impl Iterator<Item = (&str, &Voter, &Vote, bool)> {
        self.services.iter().flat_map(move |(service, votes)| {
            let counting = self.counting(service, now_ms);
            votes
                .iter()
                .map(move |(voter, vote)| (service.as_str(), voter, vote, counting.contains_key(voter)))
        })
    }

    fn life_ms(&self, service: &str) -> i64 {
        self.lives_ms.get(service).copied().unwrap_or(VOTE_LIFE_MS)
    }

    fn is_fresh(&self, service: &str, vote: &Vote, now_ms: i64) -> bool {
        now_ms.saturating_sub(vote.at_ms) <= self.life_ms(service)
    }
}
