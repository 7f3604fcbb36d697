//! The storage as callers see it.

use std::time::Duration;

use super::*;
use crate::cache::Bounds;

async fn open(folder: &tempfile::TempDir) -> Storage {
    Storage::open(Options::new(folder.path())).await.unwrap()
}

#[tokio::test]
async fn an_answered_write_is_in_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    let stored = storage.write(create("a", "1")).await.unwrap();
    assert_eq!(stored.revision, 1);
    assert_eq!(storage.snapshot().get(&mk_key("a")).unwrap(), stored);
    assert_eq!(stored.value().unwrap()["metadata"]["resourceVersion"], "1");
    storage.close().await;
}

#[tokio::test]
async fn refusals_show_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    let first = storage.write(create("a", "1")).await.unwrap();
    let Err(WriteError::Exists(found)) = storage.write(create("a", "2")).await else {
        panic!("expected Exists")
    };
    assert_eq!(found, first);
    let Err(WriteError::Conflict { current }) = storage.write(update("a", Some(99), "2")).await else {
        panic!("expected Conflict")
    };
    assert_eq!(current, first);
    assert!(matches!(storage.write(update("b", None, "2")).await, Err(WriteError::NotFound)));
    assert!(matches!(storage.write(delete("b", None)).await, Err(WriteError::NotFound)));
    storage.close().await;
}

#[tokio::test]
async fn of_concurrent_updates_at_one_revision_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    let first = storage.write(create("a", "0")).await.unwrap();
    let writes = (0..32).map(|n| storage.write(update("a", Some(first.revision), &n.to_string())));
    let verdicts = futures::future::join_all(writes).await;
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 1);
    for verdict in verdicts {
        if let Err(error) = verdict {
            assert!(matches!(error, WriteError::Conflict { current } if current.revision == 2));
        }
    }
    storage.close().await;
}

#[tokio::test]
async fn a_reopened_store_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    for n in 0..10 {
        storage.write(create(&format!("n{n}"), "1")).await.unwrap();
    }
    storage.write(delete("n3", None)).await.unwrap();
    let incarnation = storage.incarnation().to_owned();
    storage.close().await;

    let storage = open(&folder).await;
    assert_eq!(storage.incarnation(), incarnation);
    let snapshot = storage.snapshot();
    assert_eq!(snapshot.revision(), 11);
    let configmaps = ResourceKey::new("", "configmaps");
    assert_eq!(snapshot.count(&configmaps, None), 9);
    // Watches and old snapshots survive the restart.
    assert_eq!(storage.snapshot_at(10).unwrap().count(&configmaps, None), 10);
    let event = storage.watch(&configmaps, 10).unwrap().next().await.unwrap().unwrap();
    assert_eq!((event.kind, event.revision), (EventKind::Deleted, 11));
    assert_eq!(event.object.value().unwrap()["metadata"]["resourceVersion"], "11");
    assert_eq!(event.previous.as_ref().unwrap().revision, 4);
    storage.close().await;
}

#[tokio::test]
async fn the_disk_forgets_with_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        Options { window: Bounds { events: 100, ..Bounds::default() }, ..Options::new(folder.path()) };
    let storage = Storage::open(options.clone()).await.unwrap();
    storage.write(create("a", "0")).await.unwrap();
    for _ in 0..40 {
        let writes = (0..256).map(|n| storage.write(update("a", None, &n.to_string())));
        assert!(futures::future::join_all(writes).await.iter().all(Result::is_ok));
    }
    storage.close().await;
    let engine = Embedded::open(folder.path(), Encryption::default()).unwrap();
    assert!(engine.compacted() > 4096, "{}", engine.compacted());
    drop(engine);
    let storage = Storage::open(options).await.unwrap();
    assert_eq!(storage.snapshot().get(&mk_key("a")).unwrap().meta.labels["v"], "255");
    assert!(storage.watch(&ResourceKey::new("", "configmaps"), 1).is_err());
    storage.close().await;
}

#[tokio::test]
async fn a_future_revision_is_awaited() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let (snapshot, written) = tokio::join!(storage.wait_for(1, deadline), storage.write(create("a", "1")));
    assert_eq!(snapshot.unwrap().revision(), written.unwrap().revision);
    let soon = tokio::time::Instant::now() + Duration::from_millis(1);
    assert_eq!(storage.wait_for(2, soon).await.err(), Some(WaitError::Timeout { newest: 1 }));
    assert!(matches!(storage.snapshot_at(2), Err(SnapshotError::Future { newest: 1 })));
    storage.close().await;
}

#[tokio::test]
async fn a_closed_store_ends_watches_and_refuses_writes() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    let mut watch = storage.watch(&ResourceKey::new("", "configmaps"), 0).unwrap();
    storage.write(create("a", "1")).await.unwrap();
    storage.clone().close().await;
    assert!(watch.next().await.unwrap().is_ok(), "what was written before is still delivered");
    assert!(watch.next().await.is_none());
    assert!(matches!(storage.write(create("b", "1")).await, Err(WriteError::Unavailable(_))));
    assert!(!storage.is_open());
}

#[tokio::test]
async fn a_key_with_nul_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    assert!(matches!(storage.write(create("a\0b", "1")).await, Err(WriteError::Unavailable(_))));
    storage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_each_of_many_writers_writes_once_and_in_order() {
    const WRITERS: usize = 64;
    const EACH: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    let mut watch = storage.watch(&ResourceKey::new("", "configmaps"), 0).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let storage = storage.clone();
        tasks.spawn(async move {
            let mut revisions = Vec::new();
            for n in 0..EACH {
                let written = storage.write(create(&format!("w{writer}-{n}"), "1")).await.unwrap();
                revisions.push(written.revision);
            }
            assert!(revisions.is_sorted(), "{revisions:?}");
            revisions
        });
    }
    let mut seen = Vec::new();
    for _ in 0..WRITERS * EACH {
        seen.push(watch.next().await.unwrap().unwrap().revision);
    }
    let mut acknowledged = tasks.join_all().await.concat();
    acknowledged.sort_unstable();
    assert_eq!(seen, acknowledged);
    storage.close().await;
}
