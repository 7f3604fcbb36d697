//! What every engine must do. `check` takes an opener, so that another engine passes by adding one test.

use super::{super::log, *};

/// Runs the suite; `open` opens the same data each time it is called.
fn check(open: &dyn Fn() -> Box<dyn Backend>) {
    let mut engine = open();
    assert_eq!((engine.revision(), engine.compacted()), (0, 0));
    let incarnation = engine.incarnation().to_owned();
    assert!(!incarnation.is_empty());

    // One batch is checked in order, each operation against what the ones before it left.
    let batch = [
        create("a", "1"),
        create("a", "2"),
        update("a", Some(1), "3"),
        update("a", Some(1), "4"),
        delete("b", None),
    ];
    let verdicts = engine.commit(batch.map(Operation::from).into()).unwrap();
    assert_eq!(verdicts[0].as_ref().map(|change| change.object.revision), Ok(1));
    assert_eq!(verdicts[1], Err(Rejection::Exists(1)));
    assert_eq!(verdicts[2].as_ref().map(|change| change.object.revision), Ok(2));
    assert_eq!(verdicts[3], Err(Rejection::Stale(2)));
    assert_eq!(verdicts[4], Err(Rejection::Absent));
    assert_eq!(engine.revision(), 2, "a rejected operation takes no revision");

    let batch = [create("c", "1"), delete("a", Some(2)), create("a", "again")];
    let verdicts = engine.commit(batch.map(Operation::from).into()).unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    let other = Write::Create { key: mk_key_in("default2", "a"), object: mk_object("a", "x"), within: None };
    engine.commit(vec![other.into()]).unwrap();

    // A condition on another key holds against the batch, too, and comes before the key's own.
    let within = |name: &str, at| Write::Create {
        key: mk_key(name),
        object: mk_object(name, "1"),
        within: Some((mk_key("c"), at)),
    };
    let refused = engine.commit([within("d", 2), within("a", 4)].map(Operation::from).into()).unwrap();
    assert_eq!(refused, [Err(Rejection::Moved), Err(Rejection::Moved)]);
    assert_eq!(engine.revision(), 6);

    let check_reads = |engine: &dyn Backend| {
        let value = |name: &str, at| {
            engine.get(&mk_key(name), at).unwrap().map(|object| object.meta.labels["v"].clone())
        };
        assert_eq!(value("a", 1).as_deref(), Some("1"));
        assert_eq!(value("a", 3).as_deref(), Some("3"));
        assert_eq!(value("a", 4), None, "deleted");
        assert_eq!(value("a", 5).as_deref(), Some("again"));
        let configmaps = ResourceKey::new("", "configmaps");
        let names = |namespace, at| -> Vec<(String, u64)> {
            let objects = engine.range(&configmaps, namespace, at).unwrap();
            objects.into_iter().map(|object| (object.key.name, object.revision)).collect()
        };
        assert_eq!(names(None, 6), [("a".into(), 5), ("c".into(), 3), ("a".into(), 6)]);
        assert_eq!(names(Some("default"), 6), [("a".into(), 5), ("c".into(), 3)]);
        assert_eq!(names(Some("default"), 4), [("c".into(), 3)]);
        assert_eq!(names(Some("defaul"), 6), [], "a namespace is not a prefix");
        assert_eq!(engine.range(&ResourceKey::new("", "configmap"), None, 6).unwrap(), []);
        let object: Value = engine.get(&mk_key("c"), 6).unwrap().unwrap().value().unwrap();
        assert_eq!(object["metadata"]["resourceVersion"], "3");
    };
    check_reads(&*engine);
    drop(engine);

    let mut engine = open();
    assert_eq!(engine.incarnation(), incarnation);
    assert_eq!(engine.revision(), 6);
    check_reads(&*engine);
    let replay = |engine: &dyn Backend| {
        let mut changes = Vec::new();
        engine.replay(&mut |change| changes.push((change.object.revision, change.deleted))).unwrap();
        changes
    };
    assert_eq!(replay(&*engine), [(1, false), (2, false), (3, false), (4, true), (5, false), (6, false)]);

    // Compaction keeps each state that a read at or after its revision needs.
    assert!(!engine.compact(4, 1).unwrap(), "the limit was reached");
    assert_eq!(engine.compacted(), 3);
    assert_eq!(replay(&*engine), [(2, false), (3, false), (4, true), (5, false), (6, false)]);
    assert!(engine.compact(4, 100).unwrap());
    assert_eq!(engine.compacted(), 4);
    assert_eq!(replay(&*engine), [(3, false), (5, false), (6, false)]);
    drop(engine);

    let mut engine = open();
    assert_eq!((engine.revision(), engine.compacted()), (6, 4));
    engine.commit(vec![delete("c", None).into()]).unwrap();
    assert!(engine.compact(u64::MAX, 100).unwrap());
    assert_eq!((engine.revision(), engine.compacted()), (7, 7));
    assert_eq!(replay(&*engine), [(5, false), (6, false)]);
    drop(engine);
    assert_eq!(open().revision(), 7, "the counter does not fall back when the last change is forgotten");
}

#[test]
fn the_embedded_engine_conforms() {
    let folder = tempfile::tempdir().unwrap();
    check(&|| Box::new(Embedded::open(folder.path(), Encryption::default()).unwrap()));
}

#[test]
fn the_embedded_engine_conforms_with_segments_of_one_frame() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = log::Sizes { first: 4096, others: 4096, count: 2 };
    check(&|| Box::new(Embedded::open_sized(folder.path(), Encryption::default(), sizes).unwrap()));
}

#[test]
fn two_processes_cannot_open_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Embedded::open(folder.path(), Encryption::default()).unwrap();
    assert!(Embedded::open(folder.path(), Encryption::default()).is_err());
}
