//! Accounts of removals: what each cause has removed, what it still wants to remove, and what people decided about it.
//!
//! A removal that a user did not ask for by the object's own name is charged to its *cause*: the deletion of a Namespace, one generation
//! of a policy, a cluster that leaves. A cause that wants more than its budget is held as a whole, before anything of it happens: for the
//! first second its removals are only counted. It stays held until a person decides, however long that takes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use super::Budget;
use crate::api::{DeletionBudgetSpec, HeldDecision};

/// Time in which removals of a new cause are counted before the first is permitted, in milliseconds.
pub const SETTLE_MS: i64 = 1000;
/// The percentage limit applies only above this number of copies: half of three copies is no reason for an alarm.
const SMALL_FLEET: u64 = 20;

/// What removals are charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// For messages: `Namespace shop`, `Cluster taiwan`.
    pub subject: String,
    /// Distinguishes causes with the same subject: a uid, or a generation.
    pub instance: String,
    /// Number of copies that it is known to remove from the start; 0 where they are found one by one. Read once, when the cause is new.
    pub known: u64,
    /// Whether the percentage limit applies.
    pub by_share: bool,
}

impl Cause {
    /// Name of the HeldRemoval, and what `fedctl confirm` is given: 12 hexadecimal digits of FNV-1a over subject and instance.
    pub fn id(&self) -> String {
        let bytes = self.subject.bytes().chain([0]).chain(self.instance.bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{:012x}", hash >> 16)
    }
}

/// How much one cause may remove.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Maximum number of copies within the window.
    pub objects: u64,
    /// Maximum percentage of all copies within the window.
    pub percent: u64,
    /// Length of the window, in milliseconds.
    pub window_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { objects: 100, percent: 50, window_ms: 600_000 }
    }
}

impl Limits {
    /// The tightest values of all budgets (the longest window); defaults for what none of them sets.
    pub fn tightest<'a>(budgets: impl IntoIterator<Item = &'a DeletionBudgetSpec>) -> Self {
        let defaults = Self::default();
        let (mut objects, mut percent, mut window) = (None, None, None);
        for budget in budgets {
            objects = [objects, budget.objects].into_iter().flatten().min();
            percent = [percent, budget.percent_of_fleet].into_iter().flatten().min();
            window = [window, budget.window_seconds].into_iter().flatten().max();
        }
        Self {
            objects: objects.map_or(defaults.objects, u64::from),
            percent: percent.map_or(defaults.percent, u64::from),
            window_ms: window.map_or(defaults.window_ms, |seconds| i64::from(seconds) * 1000),
        }
    }

    fn of(&self, cause: &Cause, fleet: u64) -> u64 {
        if cause.by_share && fleet > SMALL_FLEET {
            self.objects.min(fleet.saturating_mul(self.percent) / 100)
        } else {
            self.objects
        }
    }
}

#[derive(Clone, Debug)]
struct Account<T> {
    known: u64,
    since_ms: i64,
    window_since_ms: i64,
    used: u64,
    pending: HashMap<T, BTreeSet<String>>,
    // Went over its budget, and stays so until somebody decides.
    over: bool,
    decision: HeldDecision,
}

impl<T> Account<T> {
    fn new(known: u64, now_ms: i64) -> Self {
        Self {
            known,
            since_ms: now_ms,
            window_since_ms: now_ms,
            used: 0,
            pending: HashMap::new(),
            over: false,
            decision: HeldDecision::Undecided,
        }
    }

    /// A clock that was set back: what was charged counts for a window from now at most, and not for as long as it was set back.
    fn not_after(&mut self, now_ms: i64) {
        self.since_ms = self.since_ms.min(now_ms);
        self.window_since_ms = self.window_since_ms.min(now_ms);
    }
}

/// The accounts of all causes, by id. `T` tells objects apart.
#[derive(Clone, Debug)]
pub struct Accounts<T> {
    limits: Limits,
    accounts: BTreeMap<String, Account<T>>,
}

impl<T> Default for Accounts<T> {
    fn default() -> Self {
        Self { limits: Limits::default(), accounts: BTreeMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Accounts<T> {
    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the cause wants, or wanted lately, anything.
    pub fn is_open(&self, id: &str) -> bool {
        self.accounts.contains_key(id)
    }

    /// Notes that `cause` wants the copy of `object` in `cluster` gone, and says how its budget stands. `fleet` is the number of all
    /// copies.
    pub fn want(&mut self, cause: &Cause, object: &T, cluster: &str, fleet: u64, now_ms: i64) -> Budget {
        let limit = self.limits.of(cause, fleet);
        let account = self.accounts.entry(cause.id()).or_insert_with(|| Account::new(cause.known, now_ms));
        account.not_after(now_ms);
        if now_ms.saturating_sub(account.window_since_ms) >= self.limits.window_ms {
            (account.window_since_ms, account.used) = (now_ms, 0);
        }
        account.pending.entry(object.clone()).or_default().insert(cluster.to_owned());
        let found: u64 = account.pending.values().map(|clusters| clusters.len() as u64).sum();
        let wanted = found.max(account.known.saturating_sub(account.used));
        account.over |= account.used.saturating_add(wanted) > limit;
        Budget {
            used: account.used,
            wanted,
            limit: Some(limit),
            over: account.over,
            confirmed: account.decision == HeldDecision::Remove,
            settled: account.known > 0 || now_ms.saturating_sub(account.since_ms) >= SETTLE_MS,
        }
    }

    /// The copy of `object` in `cluster` is let go as a person decided of `cause`. Until it is gone the decision stands.
    pub fn release(&mut self, cause: &Cause, object: &T, cluster: &str) {
        if let Some(account) = self.accounts.get_mut(&cause.id()) {
            account.pending.entry(object.clone()).or_default().insert(cluster.to_owned());
        }
    }

    /// A removal was permitted.
    pub fn spend(&mut self, id: &str, object: &T, cluster: &str) {
        if let Some(account) = self.accounts.get_mut(id) {
            account.used += 1;
            take(&mut account.pending, object, cluster);
        }
    }

    /// The copies of `object` that are to go are these: what else was wanted of it is wanted no more.
    pub fn keep_only(&mut self, object: &T, clusters: &BTreeSet<&str>) {
        for account in self.accounts.values_mut() {
            if let Some(pending) = account.pending.get_mut(object) {
                pending.retain(|cluster| clusters.contains(cluster.as_str()));
                if pending.is_empty() {
                    account.pending.remove(object);
                }
            }
        }
    }

    /// A person's decision, or that one is waited for. Returns the objects to be looked at again.
    pub fn decide(&mut self, id: &str, decision: HeldDecision, now_ms: i64) -> Vec<T> {
        let account = self.accounts.entry(id.to_owned()).or_insert_with(|| Account::new(0, now_ms));
        account.over = true;
        let changed = account.decision != decision;
        account.decision = decision;
        if changed { account.pending.keys().cloned().collect() } else { Vec::new() }
    }

    /// What a person decided of a cause.
    pub fn decision(&self, id: &str) -> HeldDecision {
        self.accounts.get(id).map_or(HeldDecision::Undecided, |account| account.decision)
    }

    /// Copies that wait for a decision.
    pub fn waiting(&self, id: &str) -> u64 {
        let pending = self.accounts.get(id).map(|account| &account.pending);
        pending.map_or(0, |pending| pending.values().map(|clusters| clusters.len() as u64).sum())
    }

    /// Forgets causes that want nothing any more and whose window is over. Returns those of them that were held.
    pub fn tidy(&mut self, now_ms: i64) -> Vec<String> {
        let window_ms = self.limits.window_ms;
        let mut ended = Vec::new();
        self.accounts.retain(|id, account| {
            account.not_after(now_ms);
            let idle = account.pending.is_empty();
            let decided = account.decision != HeldDecision::Undecided;
            if idle && account.over && (decided || now_ms.saturating_sub(account.since_ms) >= window_ms) {
                ended.push(id.clone());
                return false;
            }
            !idle || account.over || now_ms.saturating_sub(account.window_since_ms) < window_ms
        });
        ended
    }
}

fn take<T: Eq + Hash>(pending: &mut HashMap<T, BTreeSet<String>>, object: &T, cluster: &str) {
    if let Some(clusters) = pending.get_mut(object) {
        clusters.remove(cluster);
        if clusters.is_empty() {
            pending.remove(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Cause {
        Cause { subject: "PlacementPolicy shop/web".into(), instance: "3".into(), known: 0, by_share: true }
    }

    fn held(budget: &Budget) -> bool {
        budget.over && !budget.confirmed
    }

    #[test]
    fn a_cause_that_is_found_out_is_held_before_anything_of_it_happens() {
        let mut accounts = Accounts::<u32>::default();
        let cause = policy();
        for object in 0..101 {
            let budget = accounts.want(&cause, &object, "taiwan", 10_000, 500);
            assert!(!budget.settled, "only counted");
        }
        let budget = accounts.want(&cause, &0, "taiwan", 10_000, 500 + SETTLE_MS);
        assert!(budget.settled && held(&budget) && budget.used == 0, "{budget:?}");
        // However long it takes.
        assert!(held(&accounts.want(&cause, &0, "taiwan", 10_000, 10_000_000)));
        assert_eq!(accounts.decide(&cause.id(), HeldDecision::Remove, 10_000_001).len(), 101);
        assert!(!held(&accounts.want(&cause, &0, "taiwan", 10_000, 10_000_002)));
    }

    #[test]
    fn half_of_a_fleet_is_much_but_not_of_a_small_one() {
        let over = |fleet: u64, wanted: u32| {
            let mut accounts = Accounts::<u32>::default();
            (0..wanted).map(|object| accounts.want(&policy(), &object, "taiwan", fleet, 0)).any(|b| b.over)
        };
        assert!(over(40, 21) && !over(40, 20));
        assert!(!over(20, 20));
    }

    #[test]
    fn a_namespace_is_held_by_what_it_is_known_to_hold() {
        let mut accounts = Accounts::<u32>::default();
        let mut cause =
            Cause { subject: "Namespace shop".into(), instance: "uid".into(), known: 400, by_share: false };
        let budget = accounts.want(&cause, &1, "taiwan", 500, 0);
        assert!(budget.settled && held(&budget) && budget.wanted == 400);
        cause.instance = "another".into();
        cause.known = 100;
        assert!(!held(&accounts.want(&cause, &1, "taiwan", 100, 0)));
    }

    #[test]
    fn what_is_wanted_no_more_is_not_counted_and_ends_the_hold() {
        let mut accounts = Accounts::<u32>::default();
        let cause = policy();
        for object in 0..200 {
            accounts.want(&cause, &object, "taiwan", 10_000, 0);
        }
        accounts.decide(&cause.id(), HeldDecision::Undecided, 0);
        for object in 0..200 {
            accounts.keep_only(&object, &BTreeSet::new());
        }
        assert_eq!(accounts.waiting(&cause.id()), 0);
        assert_eq!(accounts.tidy(1), Vec::<String>::new());
        assert_eq!(accounts.tidy(Limits::default().window_ms), [cause.id()]);
    }

    #[test]
    fn a_decision_to_release_stands_until_every_copy_is_gone() {
        let mut accounts = Accounts::<u32>::default();
        let cause = policy();
        // As after a restart: the decision is read, and who it is about is found one by one.
        accounts.decide(&cause.id(), HeldDecision::Release, 0);
        accounts.release(&cause, &1, "taiwan");
        accounts.release(&cause, &1, "tokyo");
        accounts.keep_only(&1, &BTreeSet::from(["tokyo"]));
        assert_eq!(accounts.tidy(10 * Limits::default().window_ms), Vec::<String>::new(), "tokyo is away");
        assert_eq!(accounts.decision(&cause.id()), HeldDecision::Release);
        accounts.keep_only(&1, &BTreeSet::new());
        assert_eq!(accounts.tidy(1), [cause.id()]);
    }

    #[test]
    fn a_hold_outlives_a_restart() {
        let mut accounts = Accounts::<u32>::default();
        let cause = policy();
        accounts.decide(&cause.id(), HeldDecision::Undecided, 0);
        let budget = accounts.want(&cause, &1, "taiwan", 10_000, 10 * SETTLE_MS);
        assert!(held(&budget), "one copy is little, but its cause was held");
    }

    #[test]
    fn what_a_clock_charged_that_was_set_back_since_counts_for_a_window_and_no_longer() {
        const HOUR_MS: i64 = 3_600_000;
        let mut accounts = Accounts::<u32>::default();
        let cause = policy();
        let id = cause.id();
        let late = 100 * HOUR_MS;
        for object in 0..60 {
            accounts.want(&cause, &object, "taiwan", 10_000, late);
            accounts.spend(&id, &object, "taiwan");
        }
        // Set back by four days: within the window what was removed before still counts.
        let now = late - 96 * HOUR_MS;
        assert_eq!(accounts.want(&cause, &1000, "taiwan", 10_000, now).used, 60);
        let window_ms = Limits::default().window_ms;
        let later = accounts.want(&cause, &1000, "taiwan", 10_000, now + window_ms);
        assert!(later.used == 0 && later.settled, "{later:?}");
        // And a cause that wants nothing any more is forgotten as soon as any other.
        accounts.keep_only(&1000, &BTreeSet::new());
        accounts.tidy(now - HOUR_MS);
        accounts.tidy(now - HOUR_MS + window_ms);
        assert!(!accounts.is_open(&id));
    }

    #[test]
    fn the_tightest_budget_counts() {
        let budget = |objects, percent| DeletionBudgetSpec {
            objects,
            percent_of_fleet: percent,
            window_seconds: None,
        };
        let limits = Limits::tightest(&[budget(Some(10), None), budget(Some(20), Some(5))]);
        assert_eq!(limits, Limits { objects: 10, percent: 5, window_ms: 600_000 });
        assert_eq!(Limits::tightest(&[]), Limits::default());
    }
}
