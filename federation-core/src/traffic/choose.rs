//! Which clusters are answered for one Service under one policy: health, hold, drain, safety and manual overrides, in this order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::api::{AllDownRule, SwitchState, TrafficPolicySpec};

use super::ramp::{RAMP_STEPS, Ramp};
use super::safety::{self, Candidate};
use super::standing::{Cause, Standing, standing};
use super::{Address, ClusterMemory, DEFAULT_WEIGHT, Explanation, FrontMemory, ServiceView, TrafficInput};

/// A Service under a policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front<'a> {
    pub(super) service: &'a ServiceView,
    /// Empty if there is none.
    pub(super) policy: &'a str,
    pub(super) spec: &'a TrafficPolicySpec,
}

impl Front<'_> {
    /// `namespace/service`.
    pub(super) fn object(&self) -> String {
        format!("{}/{}", self.service.namespace, self.service.name)
    }

    /// Key in the memory.
    pub(super) fn key(&self) -> String {
        format!("{}/{}/{}", self.service.namespace, self.service.name, self.policy)
    }
}

/// The outcome for one front.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    /// By cluster name.
    pub(super) on: BTreeMap<String, On>,
    /// Clusters that count in the weight of their tier but do not serve; with their addresses, for a tier in panic.
    pub(super) down: BTreeMap<String, Vec<Address>>,
    /// Clusters that somebody switched off, drained or gave no weight; with their addresses.
    pub(super) off: BTreeMap<String, Vec<Address>>,
    /// What is answered if nothing is on; none if there was never an answer.
    pub(super) otherwise: Option<Otherwise>,
    /// To be kept.
    pub(super) memory: FrontMemory,
    /// When an answer may turn, Unix milliseconds.
    pub(super) turn_ms: Option<i64>,
    /// When to decide again, Unix milliseconds.
    pub(super) next_ms: Option<i64>,
}

/// A cluster that is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct On {
    pub(super) addresses: Vec<Address>,
    /// Of [`RAMP_STEPS`].
    pub(super) ramp: u32,
}

/// What is answered in place of clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// Static addresses.
    Fallback(Vec<IpAddr>),
    /// That there are none.
    NoData,
}

/// The share of a cluster among those of its tier.
pub(super) fn weight(input: &TrafficInput<'_>, spec: &TrafficPolicySpec, cluster: &str) -> u32 {
    spec.weights
        .get(cluster)
        .copied()
        .or_else(|| input.clusters.get(cluster).and_then(|cluster| cluster.weight))
        .unwrap_or(DEFAULT_WEIGHT)
}

/// One cluster on its way through the rules.
struct Case<'a> {
    name: &'a str,
    before: Option<&'a ClusterMemory>,
    switch: Option<SwitchState>,
    addresses: Vec<Address>,
    on: bool,
    rule: &'static str,
    message: String,
    /// Leaving it out is no act of automation.
    wanted_off: bool,
    /// Serves and is drained.
    draining: bool,
    /// Serves, and waits for the end of its hold.
    held_until_ms: Option<i64>,
    drain_ms: Option<i64>,
    ramp: u32,
}

impl Case<'_> {
    fn was_on(&self) -> bool {
        self.before.is_some_and(|before| before.on)
    }

    fn set(&mut self, on: bool, rule: &'static str, message: impl Into<String>) {
        (self.on, self.rule, self.message) = (on, rule, message.into());
    }
}

/// The earliest of moments.
#[derive(Default)]
struct Moments {
    turn_ms: Option<i64>,
    next_ms: Option<i64>,
}

impl Moments {
    /// The answer may turn then.
    fn turn(&mut self, at_ms: i64) {
        self.turn_ms = Some(self.turn_ms.map_or(at_ms, |turn| turn.min(at_ms)));
        self.wake(at_ms);
    }

    /// It is to be decided again then.
    fn wake(&mut self, at_ms: i64) {
        self.next_ms = Some(self.next_ms.map_or(at_ms, |next| next.min(at_ms)));
    }
}

/// Decides for one front. `own` are the origins of the zones that are answered here.
pub(super) fn choose(
    input: &TrafficInput<'_>,
    front: Front<'_>,
    own: &[String],
    explanations: &mut Vec<Explanation>,
) -> Chosen {
    let (seed, mended);
    let kept = input.previous.fronts.get(&front.key());
    let before = if let Some(before) = kept {
        mended = before.not_after(input.now_ms);
        mended.as_ref().unwrap_or(before)
    } else {
        seed = input.previous.answers.0.get(&front.object()).map(FrontMemory::seeded).unwrap_or_default();
        &seed
    };
    let mut moments = Moments::default();
    let mut cases = cases(input, front, before, own, &mut moments);
    let mut log = before.withdrawn.clone();
    if let Some(reason) = input.frozen.filter(|_| before.clusters.values().any(|cluster| cluster.on)) {
        for case in cases.iter_mut().filter(|case| case.switch.is_none()) {
            let on = case.was_on();
            case.set(on, "Frozen", format!("the last answer stays: {reason}"));
        }
    } else {
        hold(&mut cases, &mut moments);
        drain(input, front.spec, &mut cases, &mut moments);
        if cases.iter().all(|case| !case.on) && front.spec.health.all_down == AllDownRule::LastKnown {
            for case in cases.iter_mut().filter(|case| case.was_on() && case.switch.is_none()) {
                case.set(true, "LastAnswerKept", "nobody serves: the last answer is better than none");
            }
        }
        bind(input, front.spec, &mut cases, &mut log, &mut moments);
    }
    let nobody = cases.iter().all(|case| !case.on);
    if nobody && front.spec.health.all_down == AllDownRule::All {
        for case in cases.iter_mut().filter(|case| case.switch.is_none() && !case.addresses.is_empty()) {
            case.on = true;
            case.rule = "AllDown";
        }
    }
    // A cluster that is answered because all are down has not come back.
    let came_back = |case: &Case<'_>| case.on && !(nobody && case.rule == "AllDown");
    let ever = before.answered || cases.iter().any(|case| case.on);
    let mut chosen = Chosen::default();
    for mut case in cases {
        let on = came_back(&case);
        let since_ms = match case.before {
            Some(before) if before.on == on => before.since_ms,
            None if !before.answered => 0,
            _ => input.now_ms,
        };
        if on && case.drain_ms.is_none() {
            let seconds = front.spec.health.slow_start_seconds.unwrap_or(0);
            let ramp = Ramp::up(since_ms, if since_ms == 0 { 0 } else { seconds }, input.now_ms);
            case.ramp = ramp.steps;
            ramp.next_ms.into_iter().for_each(|at_ms| moments.wake(at_ms));
        }
        explanations.push(Explanation {
            object: front.object(),
            policy: front.policy.to_owned(),
            cluster: case.name.to_owned(),
            answered: case.on,
            rule: case.rule,
            message: case.message,
        });
        let memory =
            ClusterMemory { on, since_ms, drain_ms: case.drain_ms, addresses: case.addresses.clone() };
        chosen.memory.clusters.insert(case.name.to_owned(), memory);
        if case.on {
            chosen.on.insert(case.name.to_owned(), On { addresses: case.addresses, ramp: case.ramp });
        } else {
            let off = if case.wanted_off { &mut chosen.off } else { &mut chosen.down };
            off.insert(case.name.to_owned(), case.addresses);
        }
    }
    chosen.memory.withdrawn = log;
    chosen.memory.answered = ever;
    if chosen.on.is_empty() {
        chosen.otherwise = otherwise(front.spec, ever);
    }
    (chosen.turn_ms, chosen.next_ms) = (moments.turn_ms, moments.next_ms);
    chosen
}

/// Every cluster that has the Service, or had it when last answered: serving or not, and switched by hand or not.
fn cases<'a>(
    input: &TrafficInput<'_>,
    front: Front<'a>,
    before: &'a FrontMemory,
    own: &[String],
    moments: &mut Moments,
) -> Vec<Case<'a>> {
    let known = before.clusters.iter().filter(|(_, memory)| memory.on).map(|(name, _)| name);
    let names: BTreeSet<&String> = front.service.backends.keys().chain(known).collect();
    let mut cases = Vec::with_capacity(names.len());
    for name in names {
        let cluster = input.clusters.get(name);
        let memory = before.clusters.get(name);
        let last = memory.filter(|memory| memory.on).map(|memory| memory.addresses.as_slice());
        let mut case = Case {
            name,
            before: memory,
            switch: None,
            addresses: last.unwrap_or_default().to_vec(),
            on: false,
            rule: "",
            message: String::new(),
            wanted_off: false,
            draining: false,
            held_until_ms: None,
            drain_ms: None,
            ramp: RAMP_STEPS,
        };
        let backend = front.service.backends.get(name);
        match standing(cluster, backend, last, own) {
            Standing::Serves { addresses, rule, message } => {
                case.addresses = addresses;
                case.set(true, rule, message);
                case.draining = cluster.is_some_and(|cluster| cluster.draining)
                    || backend.is_some_and(|backend| backend.leaving);
                let hold_ms = i64::from(front.spec.health.minimum_hold_seconds.unwrap_or(0)) * 1000;
                case.held_until_ms = memory
                    .filter(|memory| !memory.on && memory.since_ms > 0)
                    .map(|memory| memory.since_ms.saturating_add(hold_ms))
                    .filter(|until_ms| *until_ms > input.now_ms);
            }
            Standing::Kept { message } => case.set(last.is_some(), "LastAnswerKept", message),
            Standing::Not { addresses, cause, rule, message } => {
                if last.is_none() {
                    case.addresses = addresses;
                }
                case.wanted_off = cause == Cause::Wanted;
                case.set(false, rule, message);
            }
        }
        if let Some(turn_ms) = cluster.and_then(|cluster| cluster.turn_ms).filter(|_| case.on) {
            moments.turn(turn_ms);
        }
        switch(input, front.spec, &mut case, moments);
        cases.push(case);
    }
    cases
}

/// A switch by hand outranks everything below.
fn switch(input: &TrafficInput<'_>, spec: &TrafficPolicySpec, case: &mut Case<'_>, moments: &mut Moments) {
    let Some(switch) = spec.overrides.get(case.name).filter(|switch| !switch.is_over(input.now_ms)) else {
        return;
    };
    switch.until_ms().into_iter().for_each(|at_ms| moments.turn(at_ms));
    let by = if switch.by.is_empty() { "somebody" } else { &switch.by };
    let why = if switch.reason.is_empty() { "no reason was given" } else { &switch.reason };
    match switch.state {
        SwitchState::Off => {
            case.wanted_off = true;
            case.set(false, "SwitchedOff", format!("by {by}: {why}"));
        }
        SwitchState::On if case.addresses.is_empty() => {
            let message = format!("by {by}, but it has no address: {}", case.message);
            case.set(false, "NoAddress", message);
        }
        SwitchState::On => case.set(true, "SwitchedOn", format!("by {by}: {why}")),
    }
    case.switch = Some(switch.state);
    (case.draining, case.held_until_ms) = (false, None);
}

/// Clusters that came back too early stay away, as long as somebody else serves.
fn hold(cases: &mut [Case<'_>], moments: &mut Moments) {
    if !cases.iter().any(|case| case.on && case.held_until_ms.is_none()) {
        return;
    }
    for case in cases {
        if let Some(until_ms) = case.held_until_ms {
            moments.turn(until_ms);
            case.set(false, "Hold", "it serves again, and is held back for minimumHoldSeconds");
        }
    }
}

/// Draining clusters, and those that the workloads leave, lose their users step by step, as long as somebody else serves.
fn drain(input: &TrafficInput<'_>, spec: &TrafficPolicySpec, cases: &mut [Case<'_>], moments: &mut Moments) {
    let others = cases.iter().any(|case| case.on && !case.draining);
    for case in cases.iter_mut().filter(|case| case.on && case.draining) {
        if !others {
            case.set(true, "Draining", "it is being drained, but nobody else serves");
            continue;
        }
        let since_ms = case.before.and_then(|before| before.drain_ms).unwrap_or(input.now_ms);
        // One that was not answered does not begin with its drain.
        let seconds = if case.was_on() { spec.health.drain_seconds.unwrap_or(0) } else { 0 };
        let ramp = Ramp::down(since_ms, seconds, input.now_ms);
        case.drain_ms = Some(since_ms);
        case.ramp = ramp.steps;
        if let Some(next_ms) = ramp.next_ms {
            moments.wake(next_ms);
            moments.turn(since_ms.saturating_add(i64::from(seconds) * 1000));
            case.set(
                true,
                "Draining",
                format!("it is being drained: {}0 % of its weight are left", ramp.steps),
            );
        } else {
            case.wanted_off = true;
            case.set(false, "Draining", "it is being drained");
        }
    }
}

/// What automation may not withdraw stays.
fn bind(
    input: &TrafficInput<'_>,
    spec: &TrafficPolicySpec,
    cases: &mut [Case<'_>],
    log: &mut Vec<super::Withdrawal>,
    moments: &mut Moments,
) {
    let candidate = |case: &Case<'_>| (case.name.to_owned(), weight(input, spec, case.name));
    let going: Vec<(String, u32)> =
        cases.iter().filter(|case| case.was_on() && !case.on && !case.wanted_off).map(candidate).collect();
    // Those that came back just now count, too: they are answered.
    let answered: Vec<(String, u32)> =
        cases.iter().filter(|case| case.was_on() || case.on).map(candidate).collect();
    let staying = cases.iter().filter(|case| case.on).count();
    let ruling =
        safety::rule(&spec.safety, &borrowed(&going), staying, &borrowed(&answered), log, input.now_ms);
    ruling.next_ms.into_iter().for_each(|at_ms| moments.turn(at_ms));
    for case in cases {
        let why = std::mem::take(&mut case.message);
        if ruling.too_few.contains(&case.name) {
            case.set(true, "MinClusters", format!("safety.minClusters keeps it, though {why}"));
        } else if ruling.too_many.contains(&case.name) {
            case.set(true, "WithdrawalLimit", format!("safety.maxWithdrawnPercent keeps it, though {why}"));
        } else {
            case.message = why;
        }
    }
    *log = ruling.log;
}

fn borrowed(owned: &[(String, u32)]) -> Vec<Candidate<'_>> {
    owned.iter().map(|(cluster, weight)| Candidate { cluster, weight: *weight }).collect()
}

fn otherwise(spec: &TrafficPolicySpec, ever: bool) -> Option<Otherwise> {
    match spec.health.all_down {
        AllDownRule::Fallback => {
            let addresses: Vec<IpAddr> =
                spec.health.fallback.iter().filter_map(|text| text.parse().ok()).collect();
            Some(if addresses.is_empty() { Otherwise::NoData } else { Otherwise::Fallback(addresses) })
        }
        AllDownRule::NoData => Some(Otherwise::NoData),
        // Only hands make an answer empty then, and the name still exists.
        AllDownRule::LastKnown | AllDownRule::All => ever.then_some(Otherwise::NoData),
    }
}
