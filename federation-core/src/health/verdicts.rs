//! The state machine of all clusters' verdicts.

use std::collections::BTreeMap;

use crate::api::Verdict;

use super::mass::Freeze;
use super::member::Member;
use super::view::{Change, Report, Served, View};
use super::vote::{Outcome, Vote, Voter};
use super::{Options, Quorum, is_bad};

/// What is heard of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The agent's heartbeat.
    Heartbeat {
        /// The member's own API server answers the agent.
        api_ok: bool,
        /// What it said if not.
        message: String,
    },
    /// The agent's stream ended.
    SessionLost,
}

/// The verdicts on all clusters.
#[derive(Clone, Debug)]
pub struct Verdicts {
    options: Options,
    clusters: BTreeMap<String, Member>,
    last_step_ms: i64,
    freeze: Option<Freeze>,
}

impl Verdicts {
    /// A machine that starts at `now_ms`, without clusters.
    pub fn new(options: Options, now_ms: i64) -> Self {
        Self { options, clusters: BTreeMap::new(), last_step_ms: now_ms, freeze: None }
    }

    /// Takes a cluster in; one that is known already stays as it is. Silence counts after the grace.
    pub fn add(&mut self, cluster: &str, now_ms: i64) {
        if !self.clusters.contains_key(cluster) {
            self.clusters.insert(cluster.to_owned(), Member::new(&self.options, now_ms));
        }
    }

    /// Takes a cluster in with the verdict that an earlier run of the controller left. A bad one stands, with its time; any other
    /// starts as `Unknown`, because nobody has seen the cluster since.
    pub fn restore(&mut self, cluster: &str, verdict: Verdict, since_ms: i64, now_ms: i64) {
        let known = self.clusters.contains_key(cluster);
        self.add(cluster, now_ms);
        if known || !is_bad(verdict) {
            return;
        }
        if let Some(member) = self.clusters.get_mut(cluster) {
            member.restored(verdict, since_ms, now_ms);
        }
    }

    /// Survivors say that they took over what ran in a cluster, because they agreed that users are not served there. Its heartbeats alone do
    /// not make it healthy before a quorum of probers has judged it, as long as such a quorum can be waited for; see
    /// [`Options::unseen_hold_ms`]. Names that are not known do nothing.
    pub fn doubt(&mut self, cluster: &str, now_ms: i64) {
        if let Some(member) = self.clusters.get_mut(cluster) {
            member.doubt(now_ms);
        }
    }

    /// Forgets a cluster that left the federation.
    pub fn remove(&mut self, cluster: &str) {
        self.clusters.remove(cluster);
    }

    /// Notes what was heard; the verdict changes at the next [`Self::step`]. Unknown names are taken in.
    pub fn observe(&mut self, now_ms: i64, cluster: &str, signal: Signal) {
        self.add(cluster, now_ms);
        let rise = self.options.rise.max(1);
        let fall = self.options.fall.max(1);
        let Some(member) = self.clusters.get_mut(cluster) else { return };
        match signal {
            Signal::SessionLost => member.head_start = 1,
            Signal::Heartbeat { api_ok, message } => {
                member.last_heartbeat_ms = Some(now_ms);
                member.silent_from_ms = now_ms;
                member.head_start = 0;
                if api_ok {
                    member.good = member.good.saturating_add(1).min(rise);
                    member.api_bad = 0;
                    member.api_message.clear();
                } else {
                    member.good = 0;
                    member.api_bad = member.api_bad.saturating_add(1).min(fall);
                    member.api_message = message;
                }
            }
        }
    }

    /// Says what is probed: by cluster and Service (`namespace/name`), the milliseconds for which a vote counts. Votes on anything
    /// else, and on clusters that are not known, are dropped.
    pub fn expect_votes(&mut self, mut lives_ms: BTreeMap<String, BTreeMap<String, i64>>) {
        for (name, member) in &mut self.clusters {
            member.votes.expect(lives_ms.remove(name).unwrap_or_default());
        }
    }

    /// Notes what a prober says of a Service in a cluster; the verdict changes at the next [`Self::step`]. Older words than the last
    /// one of the same voter are dropped.
    pub fn vote(&mut self, voter: &Voter, cluster: &str, service: &str, vote: Vote) {
        if let Some(member) = self.clusters.get_mut(cluster) {
            member.votes.put(voter, service, vote);
        }
    }

    /// Draws conclusions; gives what changed, by cluster name. See [`Self::frozen`] before acting on it.
    pub fn step(&mut self, now_ms: i64) -> Vec<Change> {
        self.follow_clock_back(now_ms);
        self.forgive_own_stall(now_ms);
        let options = self.options;
        let mut changes = Vec::new();
        for (name, member) in &mut self.clusters {
            member.votes.forget_old(now_ms);
            member.given_up &= is_bad(member.verdict) || member.is_suspect(&options, now_ms);
            let users_before = member.users_served();
            let Some(turn) = member.conclude(&options, now_ms) else { continue };
            let from = member.take(&turn, users_before, &options, now_ms);
            changes.push(Change {
                cluster: name.clone(),
                from,
                to: turn.to,
                rule: turn.rule,
                reason: turn.reason,
            });
        }
        self.freeze_or_thaw(now_ms);
        changes
    }

    /// The clusters that the freeze named; none while nothing is frozen.
    pub fn frozen_clusters(&self) -> &[String] {
        self.freeze.as_ref().map(|freeze| freeze.clusters.as_slice()).unwrap_or_default()
    }

    /// Why nothing may move now.
    pub fn frozen(&self) -> Option<&str> {
        self.freeze.as_ref().map(|freeze| freeze.reason.as_str())
    }

    /// Ends a freeze by an operator's word; what is down is down. The word is about every cluster that the freeze named, those that
    /// were only about to fall included: no freeze is found for them again until they have been well. Says what the freeze named; none
    /// if there was no freeze.
    pub fn thaw(&mut self, now_ms: i64) -> Option<Vec<String>> {
        let freeze = self.freeze.take()?;
        for name in &freeze.clusters {
            if let Some(member) = self.clusters.get_mut(name) {
                member.given_up = true;
            }
        }
        self.count_anew(now_ms);
        Some(freeze.clusters)
    }

    /// Nothing could move until now: what is bad counts from now.
    fn count_anew(&mut self, now_ms: i64) {
        for member in self.clusters.values_mut().filter(|member| is_bad(member.verdict)) {
            member.since_ms = member.since_ms.max(now_ms);
            member.fell_ms = None;
        }
    }

    /// What is known of a cluster.
    pub fn view(&self, cluster: &str) -> Option<View> {
        self.clusters.get(cluster).map(Member::view)
    }

    /// What is known of all clusters, by name.
    pub fn views(&self) -> impl Iterator<Item = (&str, View)> {
        self.clusters.iter().map(|(name, member)| (name.as_str(), member.view()))
    }

    /// Everything that was said of each cluster, by name.
    pub fn reports(&self, now_ms: i64) -> impl Iterator<Item = (&str, Report)> {
        self.clusters.iter().map(move |(name, member)| (name.as_str(), member.report(&self.options, now_ms)))
    }

    /// What the quorum says of users of each Service that is probed, by cluster and Service; none where there is no quorum.
    pub fn served(&self, now_ms: i64) -> BTreeMap<String, BTreeMap<String, Served>> {
        let of = |member: &Member| {
            let silent = member.is_silent(&self.options, now_ms);
            let services = member.votes.services();
            services
                .filter_map(|service| Some((service.to_owned(), served(member, service, silent, now_ms)?)))
                .collect()
        };
        self.clusters.iter().map(|(name, member)| (name.clone(), of(member))).collect()
    }

    /// When [`Self::step`] must be called at the latest, in Unix milliseconds. Never later than one heartbeat after the last step,
    /// because that is how stalls of this process are told from silence of the others.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let options = &self.options;
        let nearest = self
            .clusters
            .values()
            .filter_map(|member| member.deadline_ms(options))
            .filter(|deadline| *deadline > self.last_step_ms)
            .min();
        (!self.clusters.is_empty()).then(|| {
            let beat = self.last_step_ms.saturating_add(options.heartbeat_ms);
            nearest.map_or(beat, |nearest| nearest.min(beat)).max(self.last_step_ms.saturating_add(1))
        })
    }

    /// A clock that was set back: nothing that is remembered is later than now, or silence, votes and bad verdicts would stand still for
    /// as long as it was set back. What it is not known how long it lasted, lasts from now.
    fn follow_clock_back(&mut self, now_ms: i64) {
        // Who steps and who observes may be a little out of order.
        if now_ms.saturating_add(self.options.heartbeat_ms) >= self.last_step_ms {
            return;
        }
        for member in self.clusters.values_mut() {
            member.not_after(&self.options, now_ms);
        }
        if let Some(freeze) = &mut self.freeze {
            freeze.not_after(now_ms);
        }
        self.last_step_ms = now_ms;
    }

    fn forgive_own_stall(&mut self, now_ms: i64) {
        let gap = now_ms.saturating_sub(self.last_step_ms);
        // Two heartbeats: the step was due after one, and timers are late now and then.
        if gap > self.options.heartbeat_ms.saturating_mul(2) {
            for member in self.clusters.values_mut() {
                member.silent_from_ms =
                    member.silent_from_ms.saturating_add(gap).min(now_ms.max(member.silent_from_ms));
            }
        }
        self.last_step_ms = self.last_step_ms.max(now_ms);
    }

    fn freeze_or_thaw(&mut self, now_ms: i64) {
        if let Some(freeze) = &mut self.freeze {
            if freeze.is_over(&self.clusters, &self.options, now_ms) {
                self.freeze = None;
                self.count_anew(now_ms);
            }
        } else {
            self.freeze = Freeze::found(&self.clusters, &self.options, now_ms);
        }
    }
}

fn served(member: &Member, service: &str, silent: bool, now_ms: i64) -> Option<Served> {
    let passing = match member.votes.of(service, silent, now_ms) {
        Quorum::Up => true,
        Quorum::Down => false,
        // Silent heartbeats are the second word.
        Quorum::Alone if silent => false,
        Quorum::None | Quorum::Alone | Quorum::Split => return None,
    };
    let wanted = if passing { Outcome::Up } else { Outcome::Down };
    let votes: Vec<_> = member
        .votes
        .iter(now_ms)
        .filter(|(of, _, vote, counts)| *of == service && *counts && vote.outcome == wanted)
        .collect();
    let age_ms = votes.iter().map(|(_, _, vote, _)| now_ms.saturating_sub(vote.at_ms)).max().unwrap_or(0);
    let message = match votes.first() {
        Some((_, voter, vote, _)) if !passing => {
            format!("{} probers see users not served ({voter}: {})", votes.len(), vote.message)
        }
        _ => format!("{} probers see users served", votes.len()),
    };
    Some(Served { passing, age_ms: age_ms.max(0), message })
}
