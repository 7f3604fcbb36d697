//! The cache against a model, and the life of watches.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    task::{ArcWake, waker_ref},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::store::{Key, Meta, Stored};

fn mk_change(resource: &str, namespace: &str, name: &str, revision: u64, deleted: bool) -> Change {
    let key = Key::new(ResourceKey::new("", resource), namespace, name);
    let bytes = revision.to_string().into();
    Change { object: Arc::new(Stored { key, revision, bytes, meta: Meta::default() }), deleted }
}

fn mk_cache(events: usize) -> Arc<Cache> {
    Arc::new(Cache::new(0, Bounds { events, ..Bounds::default() }))
}

type Model = BTreeMap<(String, String), u64>;

fn listed(
    snapshot: &Snapshot,
    namespace: Option<&str>,
    after: Option<(&str, &str)>,
) -> Vec<((String, String), u64)> {
    let objects = snapshot.range(&ResourceKey::new("", "pods"), namespace, after);
    objects.map(|object| ((object.key.namespace.clone(), object.key.name.clone()), object.revision)).collect()
}

#[test]
fn every_snapshot_in_the_window_equals_the_model() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let cache = mk_cache(1500);
    let mut model = Model::new();
    let mut history: Vec<Model> = vec![model.clone()];
    let mut revision = 0;
    while revision < 4000 {
        let mut batch = Vec::new();
        for _ in 0..rng.random_range(1..20) {
            let (namespace, name) =
                (format!("n{}", rng.random_range(0..4)), format!("o{}", rng.random_range(0..300)));
            let place = (namespace.clone(), name.clone());
            let deleted = model.contains_key(&place) && rng.random_bool(0.4);
            revision += 1;
            if deleted {
                model.remove(&place)
            } else {
                model.insert(place, revision)
            };
            batch.push(mk_change("pods", &namespace, &name, revision, deleted));
            history.push(model.clone());
        }
        cache.publish(batch);
    }
    assert_eq!(cache.oldest(), revision - 1500);
    assert!(matches!(cache.snapshot_at(revision - 1501), Err(SnapshotError::Expired(_))));
    for _ in 0..200 {
        let at = rng.random_range(cache.oldest()..=revision);
        let snapshot = cache.snapshot_at(at).unwrap();
        let model = &history[at as usize];
        assert_eq!(snapshot.revision(), at);
        assert_eq!(listed(&snapshot, None, None), model.clone().into_iter().collect::<Vec<_>>());
        let (namespace, name) =
            (format!("n{}", rng.random_range(0..4)), format!("o{}", rng.random_range(0..300)));
        let of_namespace = model.iter().filter(|((n, _), _)| *n == namespace).map(|(k, v)| (k.clone(), *v));
        assert_eq!(listed(&snapshot, Some(&namespace), None), of_namespace.clone().collect::<Vec<_>>());
        assert_eq!(
            snapshot.count(&ResourceKey::new("", "pods"), Some(&namespace)),
            of_namespace.clone().count()
        );
        let rest: Vec<_> = of_namespace.filter(|((_, n), _)| *n > name).collect();
        assert_eq!(listed(&snapshot, Some(&namespace), Some((&namespace, &name))), rest);
        let rest: Vec<_> =
            model.range((namespace.clone(), name.clone())..).map(|(k, v)| (k.clone(), *v)).collect();
        let rest: Vec<_> =
            rest.into_iter().filter(|(k, _)| *k != (namespace.clone(), name.clone())).collect();
        assert_eq!(listed(&snapshot, None, Some((&namespace, &name))), rest);
    }
}

#[test]
fn a_watch_delivers_its_resource_in_order_and_nothing_else() {
    let cache = mk_cache(1000);
    cache.publish([mk_change("pods", "n", "a", 1, false)]);
    let mut watch = cache.watch(&ResourceKey::new("", "pods"), 1).unwrap();
    assert!(watch.next().now_or_never().is_none(), "revision 1 was in the list");
    cache.publish([
        mk_change("secrets", "n", "a", 2, false),
        mk_change("pods", "n", "a", 3, false),
        mk_change("pods", "n", "a", 4, true),
        mk_change("secrets", "n", "a", 5, false),
    ]);
    assert_eq!(watch.progress(), 1);
    let mut take = || watch.next().now_or_never().unwrap().unwrap().unwrap();
    let modified = take();
    assert_eq!((modified.kind, modified.revision), (EventKind::Modified, 3));
    assert_eq!(modified.previous.as_ref().unwrap().revision, 1);
    assert_eq!((take().kind, watch.progress()), (EventKind::Deleted, 5));
    assert!(watch.next().now_or_never().is_none());
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl ArcWake for Woken {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_watcher_is_woken_for_each_news_that_he_waits_for_and_nothing_else() {
    let cache = mk_cache(1000);
    let mut watch = cache.watch(&ResourceKey::new("", "pods"), 0).unwrap();
    let gone = cache.watch(&ResourceKey::new("", "pods"), 0).unwrap();
    let woken = Arc::new(Woken::default());
    let waker = waker_ref(&woken);
    let context = Context::from_waker(&waker);
    let times = || woken.0.load(Ordering::Relaxed);
    assert!(watch.poll_next(&context).is_pending());
    cache.publish([mk_change("secrets", "n", "a", 1, false)]);
    assert_eq!(times(), 0, "it is another resource's");
    drop(gone);
    for revision in [2, 3] {
        cache.publish([mk_change("pods", "n", "a", revision, false)]);
        assert_eq!(times() as u64, revision - 1);
        assert!(watch.poll_next(&context).is_ready());
        assert!(watch.poll_next(&context).is_pending());
    }
    cache.end();
    assert_eq!(times(), 3);
    assert!(matches!(watch.poll_next(&context), Poll::Ready(None)));
}

#[test]
fn a_slow_watcher_is_cut_off_and_a_quiet_resource_is_not() {
    let cache = mk_cache(10);
    let mut slow = cache.watch(&ResourceKey::new("", "pods"), 0).unwrap();
    let mut quiet = cache.watch(&ResourceKey::new("", "secrets"), 0).unwrap();
    cache.publish((1..=300).map(|revision| mk_change("pods", "n", "a", revision, false)));
    assert_eq!(slow.next().now_or_never().unwrap().unwrap().unwrap_err(), Expired { asked: 0, oldest: 290 });
    assert!(quiet.next().now_or_never().is_none(), "nothing of it was lost");
    assert_eq!(quiet.progress(), 300);
    assert!(cache.watch(&ResourceKey::new("", "pods"), 289).is_err());
    assert!(cache.watch(&ResourceKey::new("", "pods"), 290).is_ok());
    assert!(cache.watch(&ResourceKey::new("", "secrets"), 1).is_ok());
}

#[test]
fn the_window_is_bounded_by_bytes_too() {
    let cache = Arc::new(Cache::new(0, Bounds { events: 1000, bytes: 10 * 1024 }));
    cache.publish((1..=100).map(|revision| mk_change("pods", "n", "a", revision, false)));
    assert!(cache.oldest() >= 80, "{}", cache.oldest());
}

#[test]
fn a_past_before_the_store_was_opened_is_expired() {
    let cache = Arc::new(Cache::new(50, Bounds::default()));
    cache.publish([mk_change("pods", "n", "a", 40, false), mk_change("pods", "n", "b", 60, false)]);
    assert!(cache.watch(&ResourceKey::new("", "pods"), 49).is_err());
    assert_eq!(listed(&cache.snapshot_at(50).unwrap(), None, None).len(), 1);
    assert!(cache.snapshot_at(49).is_err());
    let mut watch = cache.watch(&ResourceKey::new("", "pods"), 50).unwrap();
    assert_eq!(watch.next().now_or_never().unwrap().unwrap().unwrap().revision, 60);
}

/// The whole path from a commit to the hands of a thousand watchers, while others idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_get_every_event() {
    let cache = mk_cache(10_000);
    let idle: Vec<_> =
        (0..1000).map(|n| cache.watch(&ResourceKey::new("", format!("r{n}")), 0).unwrap()).collect();
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let mut watch = cache.watch(&ResourceKey::new("", "pods"), 0).unwrap();
            tokio::spawn(async move {
                for revision in 1..=50 {
                    assert_eq!(watch.next().await.unwrap().unwrap().revision, revision);
                }
            })
        })
        .collect();
    let started = std::time::Instant::now();
    for revision in 1..=50 {
        cache.publish([mk_change("pods", "n", "a", revision, false)]);
    }
    for task in tasks {
        task.await.unwrap();
    }
    println!("50 events to 1000 watchers: {:?}", started.elapsed());
    assert!(idle.iter().all(|watch| watch.progress() == 50));
}
