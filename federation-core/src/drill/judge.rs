//! Comparing the measurements with the hypothesis.

use crate::api::{DrillTerm, FailoverDrillSpec, FailoverDrillStatus};

use super::preflight::count;
use super::stages::names;
use super::{Hypothesis, Metric, Term};

/// Milliseconds without harm after which users have recovered.
pub const QUIET_MS: i64 = 1000;
/// Before so much of the time has passed, nothing is projected from what users saw.
const PROJECT_AFTER_MS: i64 = 1000;

/// Milliseconds after the start at which users had recovered: when the last of them was failed or sent to a lost cluster, once it has been
/// quiet since. Without a vantage: when every DNS server had changed. None while that is open.
pub fn recovery_ms(status: &FailoverDrillStatus, elapsed_ms: i64) -> Option<i64> {
    let seen: Vec<_> = status.users.values().filter(|users| users.requests > 0).collect();
    if seen.is_empty() {
        let all = status.stages.iter().find(|stage| stage.name == names::DNS_EVERYWHERE);
        return all.map(|stage| stage.after_ms);
    }
    let harm = seen.iter().filter_map(|users| users.last_harm_ms).max().unwrap_or(0);
    let quiet = harm.saturating_add(QUIET_MS);
    let heard = seen.iter().all(|users| users.last_heard_ms.is_some_and(|heard| heard >= quiet));
    (heard && elapsed_ms >= quiet).then_some(harm)
}

/// Every term of the hypothesis, `elapsed_ms` after the start. Before the time is up a term is only ever found not to hold, and that as soon
/// as it cannot hold any more.
pub fn judge(
    spec: &FailoverDrillSpec,
    status: &FailoverDrillStatus,
    elapsed_ms: i64,
    time_is_up: bool,
) -> Vec<DrillTerm> {
    let terms = spec.hypothesis.parse::<Hypothesis>().unwrap_or_default().0;
    let case = Case { spec, status, elapsed_ms, time_is_up };
    terms
        .iter()
        .map(|term| {
            let (measured, held) = match term.metric {
                Metric::Rto => case.rto(term),
                Metric::Errors => case.errors(term),
                Metric::Ready => case.ready(term),
                Metric::Duration(percent) => case.duration(term, percent),
            };
            DrillTerm { term: term.text.clone(), measured, held }
        })
        .collect()
}

struct Case<'a> {
    spec: &'a FailoverDrillSpec,
    status: &'a FailoverDrillStatus,
    elapsed_ms: i64,
    time_is_up: bool,
}

impl Case<'_> {
    /// What is open before the time is up is decided by `at_last` then.
    fn unless_open(&self, at_last: bool) -> Option<bool> {
        self.time_is_up.then_some(at_last)
    }

    fn rto(&self, term: &Term) -> (String, Option<bool>) {
        if let Some(recovered) = recovery_ms(self.status, self.elapsed_ms) {
            let holds = term.holds(count(recovered));
            // Later harm can only make it longer.
            let held = if holds { self.unless_open(true) } else { Some(false) };
            return (format!("{recovered} ms"), held);
        }
        let unharmed = self.status.users.values().filter_map(|users| users.last_harm_ms).max();
        let least = if self.status.users.values().any(|users| users.requests > 0) {
            unharmed.unwrap_or(0)
        } else {
            self.elapsed_ms
        };
        let held = if term.holds(count(least)) { self.unless_open(false) } else { Some(false) };
        (format!("more than {least} ms"), held)
    }

    fn errors(&self, term: &Term) -> (String, Option<bool>) {
        let requests: u64 = self.status.users.values().map(|users| users.requests).sum();
        let failed: u64 = self.status.users.values().map(|users| users.failed).sum();
        if requests == 0 {
            return ("no page was asked for".into(), self.unless_open(false));
        }
        let share = failed as f64 * 100.0 / requests as f64;
        let measured = format!("{failed} of {requests} pages ({share:.3}%)");
        if self.time_is_up {
            return (measured, Some(term.holds_share(failed, requests)));
        }
        // The error budget: what may fail of all pages that will be asked for until the time is up, at the rate so far.
        let projected = if self.elapsed_ms >= PROJECT_AFTER_MS {
            let whole = u128::from(requests) * u128::from(count(self.spec.duration_ms()));
            u64::try_from(whole / u128::from(count(self.elapsed_ms).max(1))).unwrap_or(u64::MAX)
        } else {
            u64::MAX
        };
        let spent = !term.holds_share(failed, projected.max(requests));
        (measured, spent.then_some(false))
    }

    fn ready(&self, term: &Term) -> (String, Option<bool>) {
        let Some(replicas) = &self.status.replicas else {
            return ("not measured".into(), self.unless_open(false));
        };
        let (ready, wanted) = (count(replicas.ready_left), count(replicas.wanted));
        (format!("{ready} of {wanted} replicas"), self.unless_open(term.holds_share(ready, wanted)))
    }

    fn duration(&self, term: &Term, percent: u8) -> (String, Option<bool>) {
        let slowest =
            self.status.users.values().filter(|users| users.requests > users.failed).map(
                |users| match percent {
                    50 => users.p50_ms,
                    95 => users.p95_ms,
                    _ => users.p99_ms,
                },
            );
        match slowest.max() {
            None => ("no page came".into(), self.unless_open(false)),
            Some(ms) => (format!("{ms} ms"), self.unless_open(term.holds(u64::from(ms)))),
        }
    }
}
