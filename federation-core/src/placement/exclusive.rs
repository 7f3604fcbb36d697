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
//! What this cannot do: an agent that is dead, or cannot reach its own API server, stops nothing. See docs/adr/0010-fencing.md.

use crate::api::Verdict;

use super::{Decision, Placed, Request, Standing, Wishes, divide, rules};

/// The shortest lease, milliseconds: several heartbeats.
const SHORTEST_LEASE_MS: i64 = 5_000;
/// The longest lease, milliseconds.
const LONGEST_LEASE_MS: i64 = 600_000;
/// For the time between a lapse and the API server's having taken the change, and for reports that lag.
const MARGIN_MS: i64 = 2_000;

/// Lengths of time, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// The agents' lease.
    pub(super) lease_ms: i64,
    /// What pods may take to end, and a margin.
    pub(super) ending_ms: i64,
    /// From the last renewal until another cluster may start: the lease, a tenth of it for clocks that run at different speeds, and
    /// the pods' end.
    pub(super) takeover_ms: i64,
}

impl Terms {
    /// The lease is as long as `evictAfter` leaves room for: the longer it is, the longer the hub may be away without harm.
    pub(super) fn of(evict_after_ms: i64, grace_ms: i64) -> Self {
        let ending_ms = grace_ms.max(0).saturating_add(MARGIN_MS);
        let lease_ms =
            (evict_after_ms.saturating_sub(ending_ms) / 11 * 10).clamp(SHORTEST_LEASE_MS, LONGEST_LEASE_MS);
        Self { lease_ms, ending_ms, takeover_ms: lease_ms + lease_ms / 10 + ending_ms }
    }
}

/// Milliseconds from the last renewal of a lease until another cluster may start what may run in one at a time, of a policy's `evictAfter` and
/// the pods' grace period.
pub fn takeover_ms(evict_after_ms: i64, grace_ms: i64) -> i64 {
    Terms::of(evict_after_ms, grace_ms).takeover_ms
}

/// Gives all replicas to one cluster.
pub(super) fn exclusive(
    request: &Request<'_>,
    wishes: &Wishes<'_>,
    replicas: i64,
    placed: &mut [Placed<'_>],
    decision: &mut Decision,
) {
    let terms = Terms::of(wishes.evict_after_ms, request.template.grace_ms);
    decision.lease_ms = u32::try_from(terms.lease_ms).unwrap_or(u32::MAX);
    let states: Vec<State> = placed.iter().map(|placed| State::of(request, terms, placed)).collect();
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
            (Standing::Fixed | Standing::Evicted, _) if silent_ms(request, placed) >= terms.takeover_ms => {
                let message = format!(
                    "no word of it for {} s: its agent has stopped its copy",
                    terms.takeover_ms / 1000
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
        .map(|(placed, _)| request.now_ms + (terms.takeover_ms - silent_ms(request, placed)).max(1));
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
    fn of(request: &Request<'_>, terms: Terms, placed: &Placed<'_>) -> Self {
        let Some(held) = placed.held else { return Self::Down };
        // While nothing may move, and while there is no verdict, silence means nothing.
        let judged = request.frozen.is_none() && placed.cluster.verdict != Verdict::Unknown;
        let silent = judged
            && placed.cluster.verdict != Verdict::Healthy
            && silent_ms(request, placed) >= terms.takeover_ms;
        if held.replicas != Some(0) {
            return if silent { Self::Silent } else { Self::Runs };
        }
        if silent {
            return Self::Down;
        }
        match placed.observed(request).and_then(|observed| observed.down_since_ms) {
            Some(since) if since.saturating_add(terms.ending_ms) <= request.now_ms => Self::Down,
            Some(since) => Self::Stops { until_ms: Some(since.saturating_add(terms.ending_ms)) },
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
