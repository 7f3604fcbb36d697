//! One verdict per cluster, from the heartbeats of its agent, with hysteresis and a mass-failure interlock.
//!
//! A machine without a clock: feed it with [`Verdicts::observe`], turn it with [`Verdicts::step`], at the latest when
//! [`Verdicts::next_deadline_ms`] says so.
//!
//! - *Fall*: so many heartbeats missed in a row make a cluster `HubUnreachable`; so many in a row that say that the member's API
//!   server does not answer make it `ApiDown`. A session that ends counts as one missed heartbeat at once.
//! - *Rise*: so many good heartbeats in a row make it `Healthy` again; from `Unknown` the first one does.
//! - *Flap damping*, after RFC 2439: each fall adds a penalty that decays by half each half-life. A cluster whose penalty is above the
//!   limit stays down until it has decayed to the reuse limit.
//! - *Mass failure*: when MORE than a share (half) of the clusters that were well a window ago have fallen, or are about to, the
//!   fault is more likely here than there: [`Verdicts::frozen`] gives the reason, and nothing may move. One of two is half, and
//!   fails over; two of two freezes. A single cluster never freezes: there is nowhere to move to.
//!   While frozen the verdicts go on telling the truth. It thaws when no more than the share of them is still down, and the
//!   clock for evictions starts again then.
//! - *Own stalls*: if `step` is called much later than it asked for, this process was stopped, and the silence is its own.
//! - *Start*: every cluster is `Unknown` (on which nothing moves) until a heartbeat, or until the grace after the start is over.

use std::collections::BTreeMap;

use crate::api::Verdict;

/// Thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Milliseconds between heartbeats, as the hub tells its agents.
    pub heartbeat_ms: i64,
    /// Missed heartbeats in a row that make a cluster unreachable, at least 1.
    pub fall: u32,
    /// Good heartbeats in a row that make it healthy again, at least 1.
    pub rise: u32,
    /// Milliseconds after the start, or after a cluster joined, in which silence means nothing.
    pub startup_grace_ms: i64,
    /// More than this share of the clusters down within the window freezes everything.
    pub mass_failure_share: f64,
    /// Milliseconds.
    pub mass_failure_window_ms: i64,
    /// Milliseconds in which a flapping cluster's penalty halves.
    pub flap_half_life_ms: i64,
    /// Penalty, in falls, above which a cluster is held down.
    pub flap_limit: f64,
    /// Penalty, in falls, below which it may rise again.
    pub flap_reuse: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat_ms: 1000,
            fall: 3,
            rise: 2,
            startup_grace_ms: 10_000,
            mass_failure_share: 0.5,
            mass_failure_window_ms: 30_000,
            flap_half_life_ms: 60_000,
            flap_limit: 3.5,
            flap_reuse: 2.0,
        }
    }
}

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

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The Cluster's name.
    pub cluster: String,
    /// What it was.
    pub from: Verdict,
    /// What it is.
    pub to: Verdict,
    /// For people.
    pub reason: String,
}

/// What is known of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The verdict.
    pub verdict: Verdict,
    /// Since when, in Unix milliseconds; for bad verdicts not before the last thaw, so that evictions are counted from there.
    pub since_ms: i64,
    /// Why.
    pub reason: String,
    /// The last heartbeat, in Unix milliseconds.
    pub last_heartbeat_ms: Option<i64>,
}

/// The verdicts on all clusters.
#[derive(Clone, Debug)]
pub struct Verdicts {
    options: Options,
    clusters: BTreeMap<String, Member>,
    last_step_ms: i64,
    freeze: Option<Freeze>,
}

#[derive(Clone, Debug)]
struct Member {
    verdict: Verdict,
    since_ms: i64,
    reason: String,
    last_heartbeat_ms: Option<i64>,
    /// Silence counts from here: the last heartbeat, moved on by our own stalls; at first the end of the grace.
    silent_from_ms: i64,
    /// Missed heartbeats that a lost session stands for.
    head_start: u32,
    good: u32,
    api_bad: u32,
    api_message: String,
    penalty: f64,
    penalty_at_ms: i64,
    held_down: bool,
    /// When it last turned from well to bad.
    fell_ms: Option<i64>,
}

#[derive(Clone, Debug)]
struct Freeze {
    reason: String,
    clusters: Vec<String>,
    well: usize,
}

impl Verdicts {
    /// A machine that starts at `now_ms`, without clusters.
    pub fn new(options: Options, now_ms: i64) -> Self {
        Self { options, clusters: BTreeMap::new(), last_step_ms: now_ms, freeze: None }
    }

    /// Takes a cluster in; one that is known already stays as it is. Silence counts after the grace.
    pub fn add(&mut self, cluster: &str, now_ms: i64) {
        let grace = self.options.startup_grace_ms;
        self.clusters.entry(cluster.to_owned()).or_insert_with(|| Member {
            verdict: Verdict::Unknown,
            since_ms: now_ms,
            reason: "no heartbeat yet".into(),
            last_heartbeat_ms: None,
            silent_from_ms: now_ms.saturating_add(grace),
            head_start: 0,
            good: 0,
            api_bad: 0,
            api_message: String::new(),
            penalty: 0.0,
            penalty_at_ms: now_ms,
            held_down: false,
            fell_ms: None,
        });
    }

    /// Takes a cluster in with the verdict that an earlier run of the controller left. A bad one stands, with its time; any other
    /// starts as `Unknown`, because nobody has seen the cluster since.
    pub fn restore(&mut self, cluster: &str, verdict: Verdict, since_ms: i64, now_ms: i64) {
        let known = self.clusters.contains_key(cluster);
        self.add(cluster, now_ms);
        if known || matches!(verdict, Verdict::Healthy | Verdict::Unknown) {
            return;
        }
        if let Some(member) = self.clusters.get_mut(cluster) {
            member.verdict = verdict;
            member.since_ms = since_ms;
            member.reason = "still as the controller left it".into();
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

    /// Draws conclusions; gives the verdicts that changed, by cluster name. See [`Self::frozen`] before acting on them.
    pub fn step(&mut self, now_ms: i64) -> Vec<Change> {
        self.forgive_own_stall(now_ms);
        let options = self.options;
        let mut changes = Vec::new();
        let mut fallen = Vec::new();
        for (name, member) in &mut self.clusters {
            let Some((to, reason)) = member.conclude(&options, now_ms) else { continue };
            let from = std::mem::replace(&mut member.verdict, to);
            member.since_ms = now_ms;
            member.reason.clone_from(&reason);
            if to == Verdict::Healthy {
                member.fell_ms = None;
            } else if matches!(from, Verdict::Healthy | Verdict::Unknown) {
                member.fell_ms = Some(now_ms);
                fallen.push(name.clone());
            }
            changes.push(Change { cluster: name.clone(), from, to, reason });
        }
        for name in fallen {
            if let Some(member) = self.clusters.get_mut(&name) {
                member.punish(&options, now_ms);
            }
        }
        self.freeze_or_thaw(now_ms);
        changes
    }

    /// Why nothing may move now.
    pub fn frozen(&self) -> Option<&str> {
        self.freeze.as_ref().map(|freeze| freeze.reason.as_str())
    }

    /// Ends a freeze by an operator's word; what is down is down.
    pub fn thaw(&mut self, now_ms: i64) {
        self.freeze = None;
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

    /// When [`Self::step`] must be called at the latest, in Unix milliseconds. Never later than one heartbeat after the last step,
    /// because that is how stalls of this process are told from silence of the others.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let options = &self.options;
        let nearest = self.clusters.values().filter_map(|member| member.deadline_ms(options)).min();
        (!self.clusters.is_empty()).then(|| {
            let beat = self.last_step_ms.saturating_add(options.heartbeat_ms);
            nearest.map_or(beat, |nearest| nearest.min(beat)).max(self.last_step_ms.saturating_add(1))
        })
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
        let share = self.options.mass_failure_share;
        if let Some(freeze) = &self.freeze {
            let down = |name: &&String| {
                self.clusters.get(*name).is_some_and(|member| member.verdict != Verdict::Healthy)
            };
            let down = freeze.clusters.iter().filter(down).count();
            if !exceeds(down, freeze.well, share) {
                self.thaw(now_ms);
            }
            return;
        }
        let options = self.options;
        let since = now_ms.saturating_sub(options.mass_failure_window_ms);
        let (mut well, mut down) = (0, Vec::new());
        for (name, member) in &self.clusters {
            let fell = member.fell_ms.is_some_and(|fell| fell >= since);
            let suspect = !is_bad(member.verdict) && member.is_suspect(&options, now_ms);
            // Who has been down for longer than the window is no part of what happens now.
            if fell || !is_bad(member.verdict) {
                well += 1;
            }
            if fell || suspect {
                down.push(name.clone());
            }
        }
        let truly_down = self.clusters.values().any(|member| is_bad(member.verdict));
        if self.clusters.len() >= 2 && truly_down && exceeds(down.len(), well, share) {
            let reason = format!("{} of {well} clusters went bad at once: {}", down.len(), down.join(", "));
            self.freeze = Some(Freeze { reason, clusters: down, well });
        }
    }
}

impl Member {
    fn view(&self) -> View {
        View {
            verdict: self.verdict,
            since_ms: self.since_ms,
            reason: self.reason.clone(),
            last_heartbeat_ms: self.last_heartbeat_ms,
        }
    }

    fn missed(&self, options: &Options, now_ms: i64) -> i64 {
        let silence = now_ms.saturating_sub(self.silent_from_ms);
        if silence < 0 {
            return 0;
        }
        silence / options.heartbeat_ms.max(1) + i64::from(self.head_start)
    }

    /// About to fall: all but one of the heartbeats that may be missed are.
    fn is_suspect(&self, options: &Options, now_ms: i64) -> bool {
        let limit = i64::from(options.fall.max(1));
        self.missed(options, now_ms) >= (limit - 1).max(1) || self.api_bad + 1 >= options.fall.max(2)
    }

    fn conclude(&mut self, options: &Options, now_ms: i64) -> Option<(Verdict, String)> {
        let fall = options.fall.max(1);
        let missed = self.missed(options, now_ms);
        if missed >= i64::from(fall) {
            self.good = 0;
            // What was known of its API server is old now.
            self.api_bad = 0;
            let reason = match self.last_heartbeat_ms {
                Some(last) => format!("no heartbeat for {} ms", now_ms.saturating_sub(last)),
                None => "no heartbeat since the start".to_owned(),
            };
            return (self.verdict != Verdict::HubUnreachable).then_some((Verdict::HubUnreachable, reason));
        }
        if self.api_bad >= fall {
            let reason = format!("its API server does not answer its agent: {}", self.api_message);
            return (self.verdict != Verdict::ApiDown).then_some((Verdict::ApiDown, reason));
        }
        let enough = if self.verdict == Verdict::Unknown { 1 } else { options.rise.max(1) };
        if self.verdict == Verdict::Healthy || self.good < enough {
            return None;
        }
        if self.held_down && self.decayed(options, now_ms) > options.flap_reuse {
            return None;
        }
        self.held_down = false;
        Some((Verdict::Healthy, "heartbeats arrive".to_owned()))
    }

    fn decayed(&self, options: &Options, now_ms: i64) -> f64 {
        let age = now_ms.saturating_sub(self.penalty_at_ms).max(0) as f64;
        self.penalty * (-age / options.flap_half_life_ms.max(1) as f64).exp2()
    }

    fn punish(&mut self, options: &Options, now_ms: i64) {
        // Twice the limit is the most, so that a cluster is held down for a bounded time.
        self.penalty = (self.decayed(options, now_ms) + 1.0).min(options.flap_limit * 2.0);
        self.penalty_at_ms = now_ms;
        if self.penalty > options.flap_limit {
            self.held_down = true;
        }
    }

    fn deadline_ms(&self, options: &Options) -> Option<i64> {
        let fall = i64::from(options.fall.max(1));
        let silent = (self.verdict != Verdict::HubUnreachable).then(|| {
            let beats = (fall - i64::from(self.head_start)).max(0);
            self.silent_from_ms.saturating_add(beats.saturating_mul(options.heartbeat_ms))
        });
        let reuse = (self.held_down && self.good > 0 && options.flap_reuse > 0.0).then(|| {
            let half_lives = (self.penalty / options.flap_reuse).log2().max(0.0);
            self.penalty_at_ms.saturating_add((half_lives * options.flap_half_life_ms as f64).ceil() as i64)
        });
        silent.into_iter().chain(reuse).min()
    }
}

/// Whether the verdict is one of those that say that something is wrong.
pub fn is_bad(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Healthy | Verdict::Unknown)
}

fn exceeds(part: usize, whole: usize, share: f64) -> bool {
    part > 0 && part as f64 > share * whole as f64
}

#[cfg(test)]
mod tests;
