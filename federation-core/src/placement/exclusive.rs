//! Workloads that may run in one cluster at a time.
//!
//! One cluster runs all replicas; every other one that may hold the object holds it scaled to zero, ready to take over. A cluster starts
//! only when no other can be running: each that was told to run either has said that its copy is down, for as long as its pods may
//! take to end, or holds a lease that has lapsed, so that its agent has stopped the copy itself. Removal comes before surge here:
//! a gap is the price.
//!
//! The order makes it safe against an agent that comes back at that very moment: first it is decided, and durable, that the silent
//! cluster is to stop. From then on no heartbeat of an agent that still wants to run it is acknowledged as current. Only a later
//! decision, which sees that the agent is silent still, lets another cluster start.
//!
//! What an agent was told last is what counts, not what it is told now: of a cluster that has not shown that it knows the newest decision
//! the longest lease of all since is kept in the Placement, and one that never was told of a lease is never taken for stopped.
//!
//! What this cannot do: an agent that is dead, or cannot reach its own API server, stops nothing. See docs/adr/0010-fencing.md.

use crate::api::{Lease, Verdict};

use super::{Decision, Placed, Request, Standing, Wishes, divide, rules};

/// The shortest lease, milliseconds: several heartbeats.
const SHORTEST_LEASE_MS: i64 = 5_000;
/// The longest lease, milliseconds.
const LONGEST_LEASE_MS: i64 = 600_000;
/// For the time between a lapse and the API server's having taken the change, and for reports that lag.
const MARGIN_MS: i64 = 2_000;

impl Lease {
    /// The lease is as long as `evictAfter` leaves room for: the longer it is, the longer the hub may be away without harm.
    pub(super) fn of(evict_after_ms: i64, grace_ms: i64) -> Self {
        let ending_ms = grace_ms.max(0).saturating_add(MARGIN_MS);
        let lease_ms =
            (evict_after_ms.saturating_sub(ending_ms) / 11 * 10).clamp(SHORTEST_LEASE_MS, LONGEST_LEASE_MS);
        Self { lease_ms: Some(lease_ms), ending_ms }
    }

    /// From the last renewal until another cluster may start: the lease, a tenth of it for clocks that run at different speeds, and the
    /// pods' end. `None`: never.
    pub(crate) fn takeover_ms(self) -> Option<i64> {
        self.lease_ms.map(|lease_ms| lease_ms.saturating_add(lease_ms / 10).saturating_add(self.ending_ms))
    }

    /// The longer of both, in each respect.
    fn or_longer(self, other: Self) -> Self {
        Self {
            lease_ms: self.lease_ms.zip(other.lease_ms).map(|(one, other)| one.max(other)),
            ending_ms: self.ending_ms.max(other.ending_ms),
        }
    }
}

/// What the agent of a cluster may go by, if it is told `told` from now on.
fn gone_by(request: &Request<'_>, placed: &Placed<'_>, told: Lease) -> Lease {
    let (Some(held), Some(last)) = (placed.held, request.current) else { return told };
    let longest = held.lease.or(last.lease).unwrap_or_default();
    // Its copy is of the last decision: what it was told before is over. Pods that are ending keep the time that they were made with.
    let over = placed.observed(request).is_some_and(|observed| {
        let ended = |since: i64| since.saturating_add(longest.ending_ms) <= request.now_ms;
        observed.of_last_decision && (held.replicas != Some(0) || observed.down_since_ms.is_some_and(ended))
    });
    let earlier = if over { last.lease.unwrap_or_default() } else { longest };
    earlier.or_longer(told)
}

/// Milliseconds from the last renewal of a lease until another cluster may start what may run in one at a time, of a policy's `evictAfter` and
/// the pods' grace period.
pub fn takeover_ms(evict_after_ms: i64, grace_ms: i64) -> i64 {
    Lease::of(evict_after_ms, grace_ms).takeover_ms().unwrap_or(i64::MAX)
}

/// Gives all replicas to one cluster.
pub(super) fn exclusive(
    request: &Request<'_>,
    wishes: &Wishes<'_>,
    replicas: i64,
    placed: &mut [Placed<'_>],
    decision: &mut Decision,
) {
    let told = Lease::of(wishes.evict_after_ms, request.template.grace_ms);
    decision.lease = Some(told);
    for placed in placed.iter_mut() {
        placed.lease = gone_by(request, placed, told);
    }
    let states: Vec<State> = placed.iter().map(|placed| State::of(request, placed)).collect();
    let home = home(request, wishes, placed, &states);
    // Somebody who may be running, other than the one who is to run.
    let waits_for =
        |index: usize| (0..states.len()).find(|other| *other != index && states[*other] != State::Down);
    let names: Vec<String> = placed.iter().map(|placed| placed.cluster.name.clone()).collect();
    for (index, placed) in placed.iter_mut().enumerate() {
        let leaving =
            matches!(placed.standing, Standing::Draining | Standing::Unselected | Standing::Evicted)
                || (placed.standing == Standing::Fixed && stopped(placed));
        match (placed.standing, states[index]) {
            (Standing::Refused, _) => continue,
            // Nothing can be changed there, or may be: it is as it was.
            (Standing::Fixed, state) if state != State::Silent && !stopped(placed) => {
                placed.replicas = placed.held.map(|held| held.replicas.unwrap_or(replicas));
                placed.leaving = placed.held.is_some_and(|held| held.leaving);
                continue;
            }
            (Standing::Unselected, State::Down) if home.is_some_and(|home| states[home] == State::Runs) => {
                divide::give_up(placed);
                continue;
            }
            (Standing::Fixed | Standing::Evicted, _) if left_ms(request, placed) == Some(0) => {
                let message = format!(
                    "no word of it for {} s: its agent has stopped its copy",
                    silent_ms(request, placed) / 1000
                );
                placed.explain(rules::LEASE_LAPSED, message);
                placed.replicas = Some(0);
                placed.leaving = true;
                continue;
            }
            _ => {}
        }
        placed.leaving = leaving;
        placed.replicas = Some(0);
        if home != Some(index) {
            placed.explain(rules::STANDBY, "it may run in one cluster at a time: held here, scaled to zero");
        } else if states[index] == State::Runs || waits_for(index).is_none() {
            placed.replicas = Some(replicas);
            placed.explain(rules::EXCLUSIVE, "it may run in one cluster at a time, and this is the one");
        } else if let Some(other) = waits_for(index) {
            placed.explain(rules::EXCLUSIVE, format!("waits until {} has stopped", names[other]));
        }
    }
    let waits = states.iter().filter_map(|state| match state {
        State::Stops { until_ms } => *until_ms,
        _ => None,
    });
    let lapses = placed
        .iter()
        .zip(&states)
        .filter(|(placed, state)| {
            matches!(state, State::Runs | State::Stops { .. }) && placed.cluster.verdict != Verdict::Healthy
        })
        .filter_map(|(placed, _)| Some(request.now_ms.saturating_add(left_ms(request, placed)?.max(1))));
    let told_now = states.contains(&State::Silent).then_some(request.now_ms + 1);
    decision.next_check_ms = waits.chain(lapses).chain(told_now).chain(decision.next_check_ms).min();
}

/// What can be said of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It cannot be running: it was never told to, or it has said that it is down.
    Down,
    /// It was told to stop, and may still be running; until when, if it has said that it stopped.
    Stops { until_ms: Option<i64> },
    /// It was told to run.
    Runs,
    /// It was told to run, and its agent was not heard for so long that it has stopped the copy. It is to be told to stop.
    Silent,
}

impl State {
    fn of(request: &Request<'_>, placed: &Placed<'_>) -> Self {
        let Some(held) = placed.held else { return Self::Down };
        // While nothing may move, and while there is no verdict, silence means nothing.
        let judged = request.frozen.is_none() && placed.cluster.verdict != Verdict::Unknown;
        let silent =
            judged && placed.cluster.verdict != Verdict::Healthy && left_ms(request, placed) == Some(0);
        if held.replicas != Some(0) {
            return if silent { Self::Silent } else { Self::Runs };
        }
        if silent {
            return Self::Down;
        }
        match placed.observed(request).and_then(|observed| observed.down_since_ms) {
            Some(since) => {
                let until_ms = since.saturating_add(placed.lease.ending_ms);
                if until_ms <= request.now_ms { Self::Down } else { Self::Stops { until_ms: Some(until_ms) } }
            }
            None => Self::Stops { until_ms: None },
        }
    }
}

fn stopped(placed: &Placed<'_>) -> bool {
    placed.held.is_some_and(|held| held.leaving && held.replicas == Some(0))
}

fn silent_ms(request: &Request<'_>, placed: &Placed<'_>) -> i64 {
    request.silent_ms.get(&placed.cluster.name).copied().unwrap_or_default()
}

/// Milliseconds until its agent must have stopped the copy, if it stays silent: 0 if it must have. `None`: it never must.
fn left_ms(request: &Request<'_>, placed: &Placed<'_>) -> Option<i64> {
    Some(placed.lease.takeover_ms()?.saturating_sub(silent_ms(request, placed)).max(0))
}

/// Which cluster is to run it: the one that does, as long as it may stay there; else the one that the planner would give one replica.
fn home(
    request: &Request<'_>,
    wishes: &Wishes<'_>,
    placed: &[Placed<'_>],
    states: &[State],
) -> Option<usize> {
    let may_stay = |standing| matches!(standing, Standing::Open | Standing::Capped | Standing::Fixed);
    let running = |index: &usize| states[*index] == State::Runs && may_stay(placed[*index].standing);
    let most = (0..placed.len())
        .filter(running)
        .max_by_key(|index| (placed[*index].held_replicas(), std::cmp::Reverse(*index)));
    if most.is_some() {
        return most;
    }
    let chosen = divide::one(request, wishes, placed)?;
    placed.iter().position(|placed| placed.cluster.name == chosen)
}
