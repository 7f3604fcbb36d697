//! Removals and releases, as the gate permitted them.

use federation_core::api::marks;
use hub_protocol::agent::Outcome;
use hub_protocol::{Key, VOID};
use proto::v1::RemoveResult;
use serde_json::{Value, json};

use super::{Executor, Job, RETRY_BASE, RETRY_CAP, is_adopted, sleep_jittered};
use crate::manifest;
use crate::member::{Failure, Reason};
use crate::world::Report;

impl Executor {
    /// Deletes or unmarks until that is done, or until there is newer word of this copy, or until the permit is void.
    pub(super) async fn withdraw(&self, key: &Key, uid: String, epoch: u64, delete: bool) {
        let mut delay = RETRY_BASE;
        loop {
            let result = {
                let Ok(_permit) = self.0.permits.acquire().await else { return };
                // In a burst a job waits long for its turn: asked now, and not before it.
                match self.overruled(key, &uid, epoch, delete) {
                    Some(why) => Ok(Outcome { result: RemoveResult::Refused, message: why.into() }),
                    None => self.try_withdraw(key, &uid, delete).await,
                }
            };
            match result {
                Ok(outcome) => {
                    if outcome.result != RemoveResult::Refused {
                        self.0.ours.lock().remove(key);
                        self.0.fights.lock().remove(key);
                    }
                    self.0.metrics.removed(outcome.result);
                    self.tell(Report::Withdrawn { key: key.clone(), uid, epoch, outcome }).await;
                    return;
                }
                // Rights may be given, and an API server comes back: a permitted removal is never given up.
                Err(failure) => {
                    tracing::warn!(%key, ?failure, "the member did not take a removal; trying again");
                }
            }
            sleep_jittered(delay).await;
            delay = (delay * 2).min(RETRY_CAP);
        }
    }

    /// Why a removal or release is not carried out any more: what waits is newer, and on disk already. An Apply of another template's copy
    /// waits until this copy is removed; one that is to be released it takes over, which it could not afterwards.
    fn overruled(&self, key: &Key, uid: &str, epoch: u64, delete: bool) -> Option<&'static str> {
        let newer = |job: &Job| match job {
            Job::Apply { wanted, .. } => !delete || wanted.entry.uid == uid,
            Job::Delete { uid: of, .. } | Job::Unmark { uid: of, .. } => of == uid,
        };
        if self.0.slots.lock().get(key).is_some_and(|slot| slot.queue.iter().any(newer)) {
            return Some("there is a newer decision about it");
        }
        (delete && self.0.world.is_void(epoch)).then_some(VOID)
    }

    /// Looks before it acts: only a copy that is marked as this template's is touched.
    async fn try_withdraw(&self, key: &Key, uid: &str, delete: bool) -> Result<Outcome, Failure> {
        let done = |result, message: &str| Ok(Outcome { result, message: message.into() });
        let gone = if delete { RemoveResult::Removed } else { RemoveResult::Released };
        let live = match self.0.member.get(key).await {
            Ok(live) => live,
            Err(Failure::NotFound | Failure::Transient { reason: Reason::NamespaceMissing, .. }) => {
                return done(gone, "it was not there");
            }
            // A proxy says so of everything, and an API server of custom kinds until it has read their definitions.
            Err(failure @ Failure::Refused { reason: Reason::NotServed, .. }) => {
                let served = self.0.member.serves(key).await?;
                return if served { Err(failure) } else { done(gone, "its kind is not served there") };
            }
            Err(failure) => return Err(failure),
        };
        if !manifest::is_managed(&live) || manifest::annotation(&live, marks::TEMPLATE_UID) != Some(uid) {
            return done(gone, "the object there is not this template's copy; it was left alone");
        }
        let adopted = is_adopted(&live);
        if !delete || adopted {
            let patch = json!({"metadata": {
                "labels": {marks::MANAGED: null},
                "annotations": {marks::TEMPLATE_UID: null, marks::TEMPLATE_GENERATION: null, marks::EPOCH: null, marks::LEASE: null, marks::ADOPTED: null},
            }});
            return match self.0.member.merge(key, &patch).await {
                Ok(_) if adopted && delete => {
                    done(RemoveResult::Released, "it was there before the federation; it was left in place")
                }
                Ok(live) => {
                    self.0.released.lock().add(key, uid, &live, adopted);
                    done(RemoveResult::Released, "")
                }
                Err(Failure::NotFound) => done(RemoveResult::Released, ""),
                Err(failure) => Err(failure),
            };
        }
        let live_uid = live.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        match self.0.member.delete(key, live_uid).await {
            Ok(_) | Err(Failure::NotFound) => done(RemoveResult::Removed, ""),
            Err(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use hub_protocol::agent::Entry;
    use kube::client::Body;
    use parking_lot::Mutex;
    use proto::v1::ApplyResult;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::manifest::Wanted;
    use crate::member::Member;
    use crate::metrics::Metrics;
    use crate::testing::held;
    use crate::world::World;

    /// A member with one copy in it, whose admission denies the first deletes.
    #[derive(Clone)]
    struct Api(Arc<Mutex<Held>>);

    struct Held {
        live: Value,
        denies: u32,
        asked: Vec<String>,
        // What is answered instead, by the beginning of the path.
        instead: Vec<(&'static str, Value)>,
    }

    impl Api {
        fn holding(live: Value, denies: u32) -> Self {
            Self(Arc::new(Mutex::new(Held { live, denies, asked: Vec::new(), instead: Vec::new() })))
        }

        fn client(&self) -> kube::Client {
            let this = self.clone();
            let answer = move |request: http::Request<Body>| {
                let this = this.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect_bytes().await?;
                    let (code, answer) = this
                        .instead(head.uri.path())
                        .unwrap_or_else(|| this.answer(head.method.as_str(), &body));
                    let body = Body::from(answer.to_string().into_bytes());
                    http::Response::builder().status(code).body(body).map_err(kube::Error::HttpError)
                }
            };
            kube::Client::new(tower::service_fn(answer), "default")
        }

        /// Null stands for what a proxy says of what it does not know.
        fn instead(&self, path: &str) -> Option<(u16, Value)> {
            let state = self.0.lock();
            let (_, answer) = state.instead.iter().find(|(from, _)| path.starts_with(from))?;
            let unknown = json!({"kind": "Status", "status": "Failure", "reason": "", "code": 404, "message": "404 page not found"});
            Some(if answer.is_null() { (404, unknown) } else { (200, answer.clone()) })
        }

        fn answer(&self, method: &str, body: &[u8]) -> (u16, Value) {
            let mut state = self.0.lock();
            state.asked.push(method.to_owned());
            match method {
                "DELETE" if state.denies > 0 => {
                    state.denies -= 1;
                    let status = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "denied"});
                    (403, status)
                }
                "DELETE" => (200, json!({"kind": "Status", "status": "Success"})),
                "PATCH" => {
                    let patch: Value = serde_json::from_slice(body).unwrap();
                    // To be made, and it is there.
                    if patch.pointer("/metadata/resourceVersion").is_some() {
                        let status = json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "it is there"});
                        return (409, status);
                    }
                    merge(&mut state.live, &patch);
                    (200, state.live.clone())
                }
                _ => (200, state.live.clone()),
            }
        }

        fn count(&self, method: &str) -> usize {
            self.0.lock().asked.iter().filter(|asked| *asked == method).count()
        }
    }

    /// RFC 7396.
    fn merge(live: &mut Value, patch: &Value) {
        let Value::Object(fields) = patch else {
            *live = patch.clone();
            return;
        };
        for (name, value) in fields {
            if value.is_null() {
                live.as_object_mut().unwrap().remove(name);
            } else {
                merge(&mut live[name], value);
            }
        }
    }

    fn key() -> Key {
        Key {
            version: "v1".into(),
            kind: "PersistentVolumeClaim".into(),
            resource: "persistentvolumeclaims".into(),
            namespace: "shop".into(),
            name: "a".into(),
            ..Key::default()
        }
    }

    fn copy() -> Value {
        json!({"metadata": {
            "name": "a", "namespace": "shop", "uid": "live", "resourceVersion": "7", "labels": {marks::MANAGED: "true", "app": "a"},
            "annotations": {
                marks::TEMPLATE_UID: "t", marks::TEMPLATE_GENERATION: "1", marks::EPOCH: "4", marks::LEASE: "30000", "by": "us",
            },
        }})
    }

    fn wanted(uid: &str) -> Arc<Wanted> {
        let manifest = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim"}).to_string();
        Arc::new(Wanted::new(Entry { uid: uid.into(), epoch: 6, ..held(key(), &manifest) }))
    }

    fn executor(api: &Api) -> (Executor, mpsc::Receiver<Report>) {
        let (reports_in, reports) = mpsc::channel(16);
        let world = Arc::new(World::new(reports_in));
        let member = Member::new(api.client());
        (Executor::new(member, world, Metrics::default(), CancellationToken::new()), reports)
    }

    #[track_caller]
    fn until(condition: impl Fn() -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            for _ in 0..20_000 {
                if condition() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            panic!("{caller}: it never was so");
        }
    }

    #[tokio::test]
    async fn a_removal_that_is_denied_ends_when_the_copy_is_wanted_again() {
        // Each attempt comes later than the one before: the last is long after the copy is wanted again.
        let api = Api::holding(copy(), 5);
        let (executor, mut reports) = executor(&api);
        executor.submit(Job::Delete { key: key(), uid: "t".into(), epoch: 5 });
        until(|| api.count("DELETE") > 0).await;
        executor.submit(Job::Apply { wanted: wanted("t"), drift: false });
        let Some(Report::Withdrawn { uid, epoch, outcome, .. }) = reports.recv().await else {
            panic!("the removal ends first")
        };
        assert_eq!((uid.as_str(), epoch, outcome.result), ("t", 5, RemoveResult::Refused), "{outcome:?}");
        let Some(Report::Applied(applied)) = reports.recv().await else { panic!("and then it is applied") };
        assert_eq!((applied.epoch, applied.result()), (6, ApplyResult::Applied), "{applied:?}");
    }

    #[tokio::test]
    async fn a_removal_that_is_denied_ends_when_the_copy_is_to_stay() {
        let api = Api::holding(copy(), 5);
        let (executor, mut reports) = executor(&api);
        executor.submit(Job::Delete { key: key(), uid: "t".into(), epoch: 5 });
        until(|| api.count("DELETE") > 0).await;
        executor.submit(Job::Unmark { key: key(), uid: "t".into(), epoch: 6 });
        let Some(Report::Withdrawn { epoch, outcome, .. }) = reports.recv().await else {
            panic!("the removal ends first")
        };
        assert_eq!((epoch, outcome.result), (5, RemoveResult::Refused), "{outcome:?}");
        let Some(Report::Withdrawn { epoch, outcome, .. }) = reports.recv().await else {
            panic!("and then it is released")
        };
        assert_eq!((epoch, outcome.result), (6, RemoveResult::Released), "{outcome:?}");
        assert_eq!(api.0.lock().live["metadata"]["annotations"], json!({"by": "us"}));
    }

    #[tokio::test]
    async fn a_newer_permit_takes_the_place_of_one_that_is_being_carried_out() {
        let api = Api::holding(copy(), 5);
        let (executor, mut reports) = executor(&api);
        executor.submit(Job::Delete { key: key(), uid: "t".into(), epoch: 5 });
        until(|| api.count("DELETE") > 0).await;
        executor.submit(Job::Delete { key: key(), uid: "t".into(), epoch: 7 });
        let mut ends = Vec::new();
        while ends.len() < 2 {
            let Some(Report::Withdrawn { epoch, outcome, .. }) = reports.recv().await else {
                panic!("both end")
            };
            ends.push((epoch, outcome.result));
        }
        assert_eq!(ends, [(5, RemoveResult::Refused), (7, RemoveResult::Removed)]);
    }

    #[tokio::test]
    async fn a_removal_that_waits_for_its_turn_is_not_done_after_a_freeze() {
        let api = Api::holding(copy(), 0);
        let (executor, mut reports) = executor(&api);
        let busy = executor.0.permits.acquire_many(super::super::CONCURRENT as u32).await.unwrap();
        executor.submit(Job::Delete { key: key(), uid: "t".into(), epoch: 5 });
        // The task has its job once the queue is empty.
        until(|| executor.0.slots.lock().get(&key()).is_some_and(|slot| slot.queue.is_empty())).await;
        executor.0.world.void(6);
        drop(busy);
        let Some(Report::Withdrawn { outcome, .. }) = reports.recv().await else { panic!("it ends") };
        assert_eq!((outcome.result, outcome.message.as_str()), (RemoveResult::Refused, VOID));
        assert_eq!(api.count("DELETE"), 0);
    }

    #[tokio::test]
    async fn a_copy_that_waits_for_its_release_is_taken_over_by_another_templates_apply() {
        let api = Api::holding(copy(), 0);
        let (executor, mut reports) = executor(&api);
        let busy = executor.0.permits.acquire_many(super::super::CONCURRENT as u32).await.unwrap();
        executor.submit(Job::Unmark { key: key(), uid: "t".into(), epoch: 5 });
        until(|| executor.0.slots.lock().get(&key()).is_some_and(|slot| slot.queue.is_empty())).await;
        executor.submit(Job::Apply { wanted: wanted("other"), drift: false });
        drop(busy);
        let Some(Report::Withdrawn { outcome, .. }) = reports.recv().await else { panic!("it ends") };
        assert_eq!(outcome.result, RemoveResult::Refused, "{outcome:?}");
        let Some(Report::Applied(applied)) = reports.recv().await else { panic!("and then it is applied") };
        assert_eq!((applied.uid.as_str(), applied.result()), ("other", ApplyResult::Applied), "{applied:?}");
        assert_eq!(api.0.lock().live["metadata"]["labels"][marks::MANAGED], "true");
    }

    #[tokio::test]
    async fn a_released_copy_is_taken_back_for_its_template_unless_somebody_has_changed_it_since() {
        for (by_hand, result) in [(false, ApplyResult::Applied), (true, ApplyResult::Refused)] {
            let api = Api::holding(copy(), 0);
            let (executor, mut reports) = executor(&api);
            executor.submit(Job::Unmark { key: key(), uid: "t".into(), epoch: 5 });
            assert!(matches!(reports.recv().await, Some(Report::Withdrawn { .. })));
            if by_hand {
                api.0.lock().live["metadata"]["labels"]["app"] = "b".into();
            }
            executor.submit(Job::Apply { wanted: wanted("t"), drift: false });
            let Some(Report::Applied(applied)) = reports.recv().await else { panic!("it is told") };
            assert_eq!(applied.result(), result, "{applied:?}");
        }
    }

    #[tokio::test]
    async fn a_released_copy_has_none_of_our_marks() {
        let api = Api::holding(copy(), 0);
        let (executor, mut reports) = executor(&api);
        executor.submit(Job::Unmark { key: key(), uid: "t".into(), epoch: 5 });
        let Some(Report::Withdrawn { outcome, .. }) = reports.recv().await else { panic!("it is released") };
        assert_eq!(outcome.result, RemoveResult::Released);
        let live = api.0.lock().live.clone();
        assert_eq!(live["metadata"]["labels"], json!({"app": "a"}));
        assert_eq!(live["metadata"]["annotations"], json!({"by": "us"}));
    }

    #[tokio::test]
    async fn a_copy_that_is_being_deleted_is_not_told_as_applied_before_it_is_there_anew() {
        let mut going = copy();
        going["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
        let api = Api::holding(going, 0);
        let (executor, mut reports) = executor(&api);
        executor.0.ours.lock().insert(key(), false);
        executor.submit(Job::Apply { wanted: wanted("t"), drift: false });
        let Some(Report::Applied(applied)) = reports.recv().await else { panic!("it is told") };
        assert_eq!((applied.result(), applied.reason.as_str()), (ApplyResult::Retrying, "Terminating"));
        // Its finalizers are done, and it is made anew.
        api.0.lock().live = copy();
        let Some(Report::Applied(applied)) = reports.recv().await else { panic!("and told again") };
        assert_eq!(applied.result(), ApplyResult::Applied);
    }

    #[tokio::test]
    async fn a_copy_of_a_kind_that_is_not_served_just_now_is_not_told_as_gone() {
        let key =
            Key { group: "example.com".into(), kind: "Queue".into(), resource: "queues".into(), ..key() };
        let api = Api::holding(copy(), 0);
        let path = "/apis/example.com/v1/namespaces/";
        let served = json!({"resources": [{"name": "queues", "kind": "Queue"}]});
        let groups =
            json!({"groups": [{"name": "example.com", "versions": [{"groupVersion": "example.com/v1"}]}]});
        // First everything is unknown, then the object's path alone, then it is there.
        api.0.lock().instead = vec![("/apis", Value::Null)];
        let (executor, mut reports) = executor(&api);
        executor.submit(Job::Delete { key: key.clone(), uid: "t".into(), epoch: 5 });
        until(|| executor.0.slots.lock().get(&key).is_some_and(|slot| slot.queue.is_empty())).await;
        api.0.lock().instead =
            vec![(path, Value::Null), ("/apis/example.com/v1", served), ("/apis", groups.clone())];
        tokio::task::yield_now().await;
        assert!(reports.try_recv().is_err(), "nothing is known of it");
        api.0.lock().instead.clear();
        let Some(Report::Withdrawn { outcome, .. }) = reports.recv().await else { panic!("it is removed") };
        assert_eq!((outcome.result, outcome.message.as_str()), (RemoveResult::Removed, ""));
        assert_eq!(api.count("DELETE"), 1);
        // Where the kind is served no more, there is no copy.
        let definitions = ("/apis/apiextensions.k8s.io", Value::Null);
        api.0.lock().instead = vec![(path, Value::Null), definitions, ("/apis", json!({"groups": []}))];
        executor.submit(Job::Delete { key, uid: "t".into(), epoch: 6 });
        let Some(Report::Withdrawn { outcome, .. }) = reports.recv().await else { panic!("it is gone") };
        assert_eq!(outcome.message, "its kind is not served there");
    }

    #[tokio::test]
    async fn another_templates_copy_is_removed_before_the_new_one_is_applied() {
        let api = Api::holding(copy(), 1);
        let (executor, mut reports) = executor(&api);
        executor.submit(Job::Delete { key: key(), uid: "t".into(), epoch: 5 });
        until(|| api.count("DELETE") > 0).await;
        executor.submit(Job::Apply { wanted: wanted("other"), drift: false });
        let Some(Report::Withdrawn { outcome, .. }) = reports.recv().await else { panic!("it is removed") };
        assert_eq!(outcome.result, RemoveResult::Removed);
        assert!(matches!(reports.recv().await, Some(Report::Applied(_))));
    }
}
