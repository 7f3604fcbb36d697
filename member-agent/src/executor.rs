//! Carries out what the session asks: one job at a time for each object, many objects at once.

mod released;
mod withdraw;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_core::api::marks;
use federation_runtime::tasks;
use hub_protocol::Key;
use hub_protocol::agent::Entry;
use parking_lot::Mutex;
use proto::v1::{self, ApplyResult, ConflictPolicy};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::drift;
use crate::manifest::{self, Wanted};
use crate::member::{Failure, Member, Reason};
use crate::metrics::Metrics;
use crate::world::{Report, World};

use self::released::Released;

/// Requests to the member at once. Its API server allows 200 mutating ones in flight by default (`--max-mutating-requests-inflight`)
/// for all its clients; 32 leave room for them and still fill a round trip of 10 ms at 3,000 a second.
const CONCURRENT: usize = 32;
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_CAP: Duration = Duration::from_secs(30);
/// Pause before an object whose task panicked is tried again. It doubles while that goes on, up to [`RETRY_CAP`].
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// Corrections of one object without a pause. After that another writer keeps changing it, and each further correction waits twice as long.
const QUICK_CORRECTIONS: u32 = 5;
/// After this long without a correction the count starts again.
const TRUCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub(crate) enum Job {
    Apply { wanted: Arc<Wanted>, drift: bool },
    Delete { key: Key, uid: String, epoch: u64 },
    Unmark { key: Key, uid: String, epoch: u64 },
}

impl Job {
    fn key(&self) -> &Key {
        match self {
            Self::Apply { wanted, .. } => &wanted.entry.key,
            Self::Delete { key, .. } | Self::Unmark { key, .. } => key,
        }
    }
}

/// One object's jobs. A slot exists while a task works on it; its queue holds at most one Apply and the removals before it.
#[derive(Debug, Default)]
struct Slot {
    queue: VecDeque<Job>,
    /// What a watch saw while the task was at work: may be older than our write, or a change by hand just after it.
    seen: Option<Value>,
    /// It may last: nothing waits for this object.
    stuck: bool,
}

#[derive(Debug, Default)]
struct Fight {
    corrections: u32,
    last: Option<Instant>,
}

struct Inner {
    member: Member,
    world: Arc<World>,
    metrics: Metrics,
    slots: Mutex<HashMap<Key, Slot>>,
    /// Objects known to be ours; true: adopted.
    ours: Mutex<HashMap<Key, bool>>,
    fights: Mutex<HashMap<Key, Fight>>,
    released: Mutex<Released>,
    permits: Semaphore,
    /// Notified when an object that others wait for is done.
    firsts: watch::Sender<u64>,
    stop: CancellationToken,
}

/// Starts tasks for jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Inner>);

impl Executor {
    pub(crate) fn new(member: Member, world: Arc<World>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            member,
            world,
            metrics,
            slots: Mutex::default(),
            ours: Mutex::default(),
            fights: Mutex::default(),
            released: Mutex::default(),
            permits: Semaphore::new(CONCURRENT),
            firsts: watch::Sender::new(0),
            stop,
        }))
    }

    /// Queues a job. The newest Apply replaces one that waits; a removal makes waiting Applies pointless.
    pub(crate) fn submit(&self, job: Job) {
        let key = job.key().clone();
        let mut slots = self.0.slots.lock();
        let fresh = !slots.contains_key(&key);
        let slot = slots.entry(key.clone()).or_default();
        match &job {
            // A correction adds nothing to an Apply that waits already.
            Job::Apply { drift: true, .. } if !slot.queue.is_empty() => return,
            _ => slot.queue.retain(|waiting| !matches!(waiting, Job::Apply { .. })),
        }
        slot.queue.push_back(job);
        drop(slots);
        if fresh {
            let this = self.clone();
            let stop = self.0.stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(this.work(key)).await });
        }
    }

    /// A watch saw the object: corrects it if it is not as wanted.
    pub(crate) fn observed(&self, key: &Key, live: &Value) {
        if manifest::is_managed(live) {
            let mut ours = self.0.ours.lock();
            if !ours.contains_key(key) && self.0.world.held(key).is_some() {
                ours.insert(key.clone(), is_adopted(live));
            }
        }
        if let Some(slot) = self.0.slots.lock().get_mut(key) {
            slot.seen = Some(live.clone());
            return;
        }
        self.correct(key, live);
    }

    /// A watch saw the object go, or a list did not have it.
    pub(crate) fn missing(&self, key: &Key) {
        let was_ours = self.0.ours.lock().remove(key).is_some();
        if let Some(slot) = self.0.slots.lock().get_mut(key) {
            slot.seen = Some(Value::Null);
            return;
        }
        // What was refused was never there.
        if let Some(wanted) = self.0.world.held(key).filter(|_| was_ours) {
            tracing::info!(%key, "a member copy was deleted by hand; applying it again");
            self.submit(Job::Apply { wanted, drift: true });
        }
    }

    fn correct(&self, key: &Key, live: &Value) {
        let Some(wanted) = self.0.world.held(key) else { return };
        // An object that is going cannot be corrected; it is made anew when it is gone.
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return;
        }
        if let Some(path) = wanted.value().and_then(|value| drift::find(&value, live)) {
            tracing::info!(%key, %path, "a member copy was changed by hand; applying it again");
            self.submit(Job::Apply { wanted, drift: true });
        }
    }

    async fn work(self, key: Key) {
        let mut last_written = 0;
        let mut pause = AFTER_PANIC;
        loop {
            let job = {
                let mut slots = self.0.slots.lock();
                let Some(slot) = slots.get_mut(&key) else { return };
                match slot.queue.pop_front() {
                    Some(job) => job,
                    None => {
                        let seen = slot.seen.take();
                        slots.remove(&key);
                        drop(slots);
                        self.leave(&key, seen, last_written);
                        return;
                    }
                }
            };
            match tasks::caught("executor", self.carry_out(&key, job.clone())).await {
                Ok(written) => {
                    last_written = written.unwrap_or(last_written);
                    pause = AFTER_PANIC;
                }
                Err(panicked) => {
                    tracing::error!(%key, %panicked, "an object was not brought to what is wanted: again soon");
                    self.let_others_go(&key);
                    self.tell_panicked(&job, &panicked).await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_CAP);
                    self.put_back(&key, job);
                }
            }
        }
    }

    /// Does a job. Returns the resource version that was written.
    async fn carry_out(&self, key: &Key, job: Job) -> Option<u64> {
        match job {
            Job::Apply { wanted, drift } => return self.apply(key, wanted, drift).await,
            Job::Delete { uid, epoch, .. } => self.withdraw(key, uid, epoch, true).await,
            Job::Unmark { uid, epoch, .. } => self.withdraw(key, uid, epoch, false).await,
        }
        None
    }

    /// An Apply that panicked is tried again, and whoever looks at the Placement sees that.
    async fn tell_panicked(&self, job: &Job, why: &tasks::Panicked) {
        let Job::Apply { wanted, .. } = job else { return };
        let entry = &wanted.entry;
        self.tell(Report::Applied(v1::Applied {
            key: Some((&entry.key).into()),
            uid: entry.uid.clone(),
            generation: entry.generation,
            epoch: entry.epoch,
            result: ApplyResult::Retrying.into(),
            reason: "Panicked".into(),
            message: format!("applying it failed, and is tried again: {why}"),
            drift_corrected: false,
        }))
        .await;
    }

    /// A job that is not done comes first again, unless another Apply or a removal has taken an Apply's place.
    fn put_back(&self, key: &Key, job: Job) {
        if let Some(slot) = self.0.slots.lock().get_mut(key)
            && (slot.queue.is_empty() || !matches!(job, Job::Apply { .. }))
        {
            slot.queue.push_front(job);
        }
    }

    /// The slot is free: what was seen meanwhile counts if it is newer than what we wrote.
    fn leave(&self, key: &Key, seen: Option<Value>, written: u64) {
        if key.comes_first() {
            self.0.firsts.send_modify(|count| *count += 1);
        }
        let Some(seen) = seen else { return };
        if seen.is_null() {
            // Our write may have come after the deletion that was seen: look.
            let this = self.clone();
            let key = key.clone();
            let stop = self.0.stop.clone();
            tokio::spawn(async move {
                stop.run_until_cancelled(async {
                    if this.0.world.held(&key).is_some()
                        && this.0.member.get(&key).await == Err(Failure::NotFound)
                    {
                        this.missing(&key);
                    }
                })
                .await
            });
        } else if revision(&seen) > written {
            self.correct(key, &seen);
        }
    }

    /// Applies until it is taken, refused, or overtaken. Returns the resource version that was written.
    async fn apply(&self, key: &Key, wanted: Arc<Wanted>, drift: bool) -> Option<u64> {
        self.wait_for_namespace(key).await;
        if drift {
            self.pause_if_fought(key).await;
        }
        let mut delay = RETRY_BASE;
        let mut told = None;
        loop {
            let result = {
                let _permit = self.0.permits.acquire().await.ok()?;
                self.try_apply(key, &wanted, drift).await
            };
            let (result, reason, message, written) = match result {
                Ok(written) => (ApplyResult::Applied, None, String::new(), Some(written)),
                Err(Failure::Refused { reason, message }) => {
                    (ApplyResult::Refused, Some(reason), message, None)
                }
                Err(Failure::Transient { reason, message }) => {
                    (ApplyResult::Retrying, Some(reason), message, None)
                }
                Err(Failure::NotFound) => {
                    let message = "the member does not serve this kind".into();
                    (ApplyResult::Refused, Some(Reason::NotServed), message, None)
                }
            };
            self.0.metrics.applied(result, drift);
            if told.as_ref() != Some(&(result, reason)) {
                told = Some((result, reason));
                let entry = &wanted.entry;
                self.tell(Report::Applied(v1::Applied {
                    key: Some(key.into()),
                    uid: entry.uid.clone(),
                    generation: entry.generation,
                    epoch: entry.epoch,
                    result: result.into(),
                    reason: reason.map_or_else(|| "Applied".into(), |reason| reason.to_string()),
                    message,
                    drift_corrected: drift && result == ApplyResult::Applied,
                }))
                .await;
            }
            if result != ApplyResult::Retrying {
                return written;
            }
            if reason == Some(Reason::Terminating) {
                self.let_others_go(key);
            }
            if self.superseded(key) {
                return None;
            }
            sleep_jittered(delay).await;
            delay = (delay * 2).min(RETRY_CAP);
            if self.superseded(key) {
                return None;
            }
        }
    }

    async fn try_apply(&self, key: &Key, wanted: &Wanted, drift: bool) -> Result<u64, Failure> {
        let known = self.0.ours.lock().get(key).copied();
        let adopted = match known {
            Some(adopted) => adopted,
            None => {
                if !drift && let Some(made) = self.make(key, wanted).await? {
                    self.0.ours.lock().insert(key.clone(), false);
                    return Ok(made);
                }
                let adopted = match self.0.member.get(key).await {
                    Ok(live) => self.claim(key, &live, &wanted.entry)?,
                    Err(Failure::NotFound) => false,
                    Err(failure) => return Err(failure),
                };
                self.0.ours.lock().insert(key.clone(), adopted);
                adopted
            }
        };
        let applied = match wanted.body(adopted) {
            Some(body) => self.0.member.apply(key, body).await,
            None => Err(Failure::Refused {
                reason: Reason::Invalid,
                message: "the manifest is not a JSON object".into(),
            }),
        };
        if applied.is_err() {
            self.0.ours.lock().remove(key);
        }
        applied
    }

    /// Whether what is there may be taken, and whether it counts as adopted.
    fn claim(&self, key: &Key, live: &Value, entry: &Entry) -> Result<bool, Failure> {
        let was_ours = self.0.released.lock().find(key, &entry.uid, live);
        let adopted = was_ours.map_or_else(|| claim(key, live, entry.conflict), Ok)?;
        self.0.released.lock().remove(key);
        Ok(adopted)
    }

    /// Nearly always what is new to us is new to the member: makes it with one request instead of two. `None` if something may be
    /// there, which must be looked at first: nobody else's object is overwritten by this.
    async fn make(&self, key: &Key, wanted: &Wanted) -> Result<Option<u64>, Failure> {
        // Up to Kubernetes 1.22 Services refuse the precondition where they are absent too (kubernetes/kubernetes#106745).
        if key.group.is_empty() && key.resource == "services" {
            return Ok(None);
        }
        let Some(body) = wanted.body_if_absent() else { return Ok(None) };
        match self.0.member.apply(key, body).await {
            Ok(made) => Ok(Some(made)),
            // As Services did, other registries may refuse the precondition.
            Err(
                Failure::NotFound
                | Failure::Transient { reason: Reason::Conflict | Reason::Precondition, .. },
            ) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn let_others_go(&self, key: &Key) {
        if let Some(slot) = self.0.slots.lock().get_mut(key) {
            slot.stuck = true;
        }
        self.0.firsts.send_modify(|count| *count += 1);
    }

    /// A namespace that is being applied goes before its contents; one that is refused, or being deleted, does not hold them up.
    async fn wait_for_namespace(&self, key: &Key) {
        if key.namespace.is_empty() {
            return;
        }
        let namespace = Key { resource: "namespaces".into(), name: key.namespace.clone(), ..Key::default() };
        let mut firsts = self.0.firsts.subscribe();
        while self.0.slots.lock().get(&namespace).is_some_and(|slot| !slot.stuck) {
            if firsts.changed().await.is_err() {
                return;
            }
        }
    }

    async fn pause_if_fought(&self, key: &Key) {
        let pause = {
            let mut fights = self.0.fights.lock();
            let fight = fights.entry(key.clone()).or_default();
            if fight.last.is_some_and(|last| last.elapsed() > TRUCE) {
                fight.corrections = 0;
            }
            fight.corrections += 1;
            fight.last = Some(Instant::now());
            let over = fight.corrections.saturating_sub(QUICK_CORRECTIONS);
            (over > 0).then(|| (RETRY_BASE * 2_u32.saturating_pow(over.min(16))).min(RETRY_CAP))
        };
        if let Some(pause) = pause {
            tracing::warn!(%key, ?pause, "somebody keeps changing a member copy; correcting it less often");
            sleep_jittered(pause).await;
        }
    }

    fn superseded(&self, key: &Key) -> bool {
        self.0.slots.lock().get(key).is_none_or(|slot| !slot.queue.is_empty())
    }

    async fn tell(&self, report: Report) {
        // An error means that the agent is ending.
        let _ = self.0.world.reports.send(report).await;
    }
}

/// Whether an object that is there may be taken, and whether it counts as adopted.
fn claim(key: &Key, live: &Value, policy: ConflictPolicy) -> Result<bool, Failure> {
    if live.pointer("/metadata/deletionTimestamp").is_some() {
        return Err(Failure::terminating());
    }
    if manifest::is_managed(live) {
        return Ok(is_adopted(live));
    }
    // Shared objects: a namespace or service account may be used by others, and deleting it would affect them.
    let shared: HashSet<&str> = HashSet::from(["namespaces", "serviceaccounts"]);
    match policy {
        _ if key.group.is_empty() && shared.contains(key.resource.as_str()) => Ok(true),
        ConflictPolicy::Adopt => Ok(true),
        ConflictPolicy::Overwrite => Ok(false),
        ConflictPolicy::Refuse => Err(Failure::Refused {
            reason: Reason::Conflict,
            message: format!(
                "{key} exists in the member and is not the federation's; the policy's `conflict: Adopt` or `Overwrite` would take it"
            ),
        }),
    }
}

/// Whether a copy of ours was there before us.
fn is_adopted(live: &Value) -> bool {
    manifest::annotation(live, marks::ADOPTED) == Some("true")
}

/// `metadata.resourceVersion` as a number: comparable for one resource since Kubernetes 1.35 by contract, before that in fact (etcd's revision).
fn revision(object: &Value) -> u64 {
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn sleep_jittered(delay: Duration) {
    tokio::time::sleep(delay.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::testing::{held, service};

    /// An executor in a member where this many requests panic before one is answered.
    fn executor(panics: usize) -> (Executor, mpsc::Receiver<Report>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = move |_: http::Request<Body>| {
            let asked = asked.clone();
            async move {
                assert!(asked.fetch_add(1, Ordering::SeqCst) >= panics, "applying fails");
                let object =
                    json!({"metadata": {"resourceVersion": "5", "labels": {marks::MANAGED: "true"}}});
                Ok::<_, tower::BoxError>(http::Response::new(Body::from(object.to_string().into_bytes())))
            }
        };
        let (reports, told) = mpsc::channel(16);
        let world = Arc::new(World::new(reports));
        let member = Member::new(Client::new(tower::service_fn(answer), "default"));
        (Executor::new(member, world, Metrics::default(), CancellationToken::new()), told)
    }

    #[tokio::test]
    async fn an_apply_that_panics_is_told_of_and_tried_again() {
        let (executor, mut told) = executor(1);
        let wanted = Arc::new(Wanted::new(held(service(), "{}")));
        executor.submit(Job::Apply { wanted, drift: false });
        let mut reasons = Vec::new();
        while reasons.len() < 2 {
            match tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap().unwrap() {
                Report::Applied(applied) => reasons.push((applied.result(), applied.reason)),
                other => panic!("{other:?}"),
            }
        }
        let reason = |result, reason: &str| (result, reason.to_owned());
        assert_eq!(
            reasons,
            [reason(ApplyResult::Retrying, "Panicked"), reason(ApplyResult::Applied, "Applied")]
        );
    }

    #[tokio::test]
    async fn what_panicked_comes_first_again_but_not_for_what_is_wanted_no_more() {
        let (executor, _told) = executor(0);
        let key = service();
        let wanted = Arc::new(Wanted::new(held(key.clone(), "{}")));
        let apply = || Job::Apply { wanted: wanted.clone(), drift: false };
        let delete = || Job::Delete { key: key.clone(), uid: "t".into(), epoch: 1 };
        let put_back = |job: Job, waiting: Vec<Job>| -> Vec<bool> {
            let slot = Slot { queue: waiting.into(), ..Slot::default() };
            executor.0.slots.lock().insert(key.clone(), slot);
            executor.put_back(&key, job);
            let slot = executor.0.slots.lock().remove(&key).unwrap();
            slot.queue.iter().map(|job| matches!(job, Job::Apply { .. })).collect()
        };
        assert_eq!(put_back(apply(), vec![]), [true]);
        assert_eq!(put_back(apply(), vec![apply()]), [true], "the newer one alone");
        assert_eq!(put_back(apply(), vec![delete()]), [false], "it is not wanted any more");
        assert_eq!(put_back(delete(), vec![apply()]), [false, true]);
    }

    fn key(resource: &str) -> Key {
        Key { resource: resource.into(), name: "a".into(), ..Key::default() }
    }

    #[test]
    fn what_is_not_ours_is_refused_unless_the_policy_takes_it() {
        let foreign = json!({"metadata": {"name": "a"}});
        assert!(matches!(
            claim(&key("configmaps"), &foreign, ConflictPolicy::Refuse),
            Err(Failure::Refused { reason: Reason::Conflict, .. })
        ));
        assert!(claim(&key("configmaps"), &foreign, ConflictPolicy::Adopt).unwrap());
        assert!(!claim(&key("configmaps"), &foreign, ConflictPolicy::Overwrite).unwrap());
        assert!(claim(&key("namespaces"), &foreign, ConflictPolicy::Refuse).unwrap());
    }

    #[test]
    fn what_is_being_deleted_is_no_copy_whosever_it_is() {
        for labels in [json!({}), json!({marks::MANAGED: "true"})] {
            let going = json!({"metadata": {"labels": labels, "deletionTimestamp": "2024-01-01T00:00:00Z"}});
            assert_eq!(
                claim(&key("persistentvolumeclaims"), &going, ConflictPolicy::Adopt),
                Err(Failure::terminating())
            );
        }
    }

    #[test]
    fn what_is_ours_stays_adopted_or_not() {
        let ours = json!({"metadata": {"labels": {marks::MANAGED: "true"}}});
        assert!(!claim(&key("configmaps"), &ours, ConflictPolicy::Refuse).unwrap());
        let adopted = json!({"metadata": {"labels": {marks::MANAGED: "true"}, "annotations": {marks::ADOPTED: "true"}}});
        assert!(claim(&key("configmaps"), &adopted, ConflictPolicy::Refuse).unwrap());
    }
}
