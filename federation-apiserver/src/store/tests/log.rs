//! The embedded engine's log: what a crash, a torn write, a damaged disk and a careless copy leave.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use redb::ReadableTable as _;

use super::*;
use crate::store::log::Sizes;

/// Segments of a few frames.
const SMALL: Sizes = Sizes { first: 3 * PAGE, others: 5 * PAGE, count: 2 };
const PAGE: usize = 4096;

fn open(folder: &Path) -> Result<Embedded, Failure> {
    Embedded::open_sized(folder, Encryption::default(), Sizes::default())
}

fn commit(engine: &mut Embedded, writes: impl IntoIterator<Item = Write>) {
    let verdicts = engine.commit(writes.into_iter().map(Operation::from).collect()).unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
}

/// The folder as a crash at this moment leaves it.
fn crashed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_log = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("log-");
    let mut paths: Vec<_> = entries.filter(is_log).collect();
    paths.sort();
    paths
}

/// Overwrites a part of the log's only file.
fn damage(folder: &Path, at: usize, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(&segments(folder)[0]).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
}

fn names(engine: &Embedded) -> Vec<String> {
    let objects = engine.range(&ResourceKey::new("", "configmaps"), None, u64::MAX).unwrap();
    objects.into_iter().map(|object| object.key.name).collect()
}

/// Three frames, of which the last has two writes.
fn three_frames(folder: &Path) -> Embedded {
    let mut engine = open(folder).unwrap();
    commit(&mut engine, [create("a", "1")]);
    commit(&mut engine, [create("b", "1")]);
    commit(&mut engine, [create("c", "1"), update("a", Some(1), "2")]);
    engine
}

#[test]
fn what_is_in_the_log_alone_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let engine = three_frames(folder.path());
    let copy = crashed(folder.path());
    drop(engine);
    let mut engine = open(copy.path()).unwrap();
    assert_eq!((engine.revision(), names(&engine)), (4, vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(engine.get(&mk_key("a"), 3).unwrap().unwrap().revision, 1);
    commit(&mut engine, [delete("a", Some(4))]);
    // And again, before the tables have it.
    let copy = crashed(copy.path());
    let engine = open(copy.path()).unwrap();
    assert_eq!((engine.revision(), names(&engine)), (5, vec!["b".into(), "c".into()]));
}

#[test]
fn a_write_that_is_torn_at_any_byte_is_undone_as_a_whole_and_loses_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let engine = three_frames(folder.path());
    let crash = crashed(folder.path());
    drop(engine);
    let last = fs::read(&segments(crash.path())[0]).unwrap()[2 * PAGE..3 * PAGE].to_vec();
    let used = PAGE - last.iter().rev().take_while(|byte| **byte == 0).count();
    for cut in (0..used).step_by(7).chain([used - 1]) {
        let copy = crashed(crash.path());
        damage(copy.path(), 2 * PAGE + cut, &vec![0; PAGE - cut]);
        let mut engine = open(copy.path()).unwrap();
        assert_eq!(engine.revision(), 2, "cut after {cut} of {used} bytes");
        // It goes on from there.
        commit(&mut engine, [create("c", "2")]);
        assert_eq!(names(&engine), ["a", "b", "c"]);
        assert_eq!(engine.get(&mk_key("c"), 3).unwrap().unwrap().meta.labels["v"], "2");
    }
}

#[test]
fn damage_of_what_was_acknowledged_is_told_and_lost_only_by_an_operators_word() {
    for (frame, after, next) in [(0, 0, 2), (1, 1, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let engine = three_frames(folder.path());
        let crash = crashed(folder.path());
        drop(engine);
        damage(crash.path(), frame * PAGE + 100, b"?");
        // It is not lost by trying twice.
        for _ in 0..2 {
            let error = open(crash.path()).err().expect("the damage is seen");
            assert!(
                matches!(error, Failure::LogDamaged { after: a, next: n, .. } if (a, n) == (after, next)),
                "{error}"
            );
            assert!(error.to_string().contains(&format!("/lose-after-{after}")), "{error}");
        }
        fs::write(crash.path().join(format!("lose-after-{}", after + 1)), "").unwrap();
        assert!(open(crash.path()).is_err(), "the word was for another revision");
        fs::remove_file(crash.path().join(format!("lose-after-{}", after + 1))).unwrap();
        fs::write(crash.path().join(format!("lose-after-{after}")), "").unwrap();
        let mut engine = open(crash.path()).unwrap();
        let left: &[&str] = if after == 0 { &[] } else { &["a"] };
        assert_eq!(names(&engine), left);
        // No revision that somebody has seen is used for anything else.
        assert!(engine.revision() > 4, "{}", engine.revision());
        let revision = engine.revision();
        commit(&mut engine, [create("d", "1")]);
        let crash = crashed(crash.path());
        drop(engine);
        assert_eq!(open(crash.path()).unwrap().revision(), revision + 1);
    }
}

#[test]
fn a_copy_without_the_log_is_not_taken_for_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let engine = three_frames(folder.path());
    let crash = crashed(folder.path());
    drop(engine);
    for segment in segments(crash.path()) {
        fs::remove_file(segment).unwrap();
    }
    let error = open(crash.path()).err().expect("the log is missed");
    assert!(matches!(error, Failure::LogMissing { after: 0, .. }), "{error}");
    fs::write(crash.path().join("lose-after-0"), "").unwrap();
    let engine = open(crash.path()).unwrap();
    assert!(names(&engine).is_empty() && engine.revision() > 4);
    drop(engine);
    assert!(!crash.path().join("lose-after-0").exists(), "the word holds once");
}

#[test]
fn a_log_without_its_tables_is_not_taken_for_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let engine = three_frames(folder.path());
    let crash = crashed(folder.path());
    drop(engine);
    let tables = crash.path().join("store.redb");
    let aside = crash.path().join("aside");
    fs::rename(&tables, &aside).unwrap();
    for emptied in [false, true] {
        if emptied {
            fs::write(&tables, "").unwrap();
        }
        let error = open(crash.path()).err().expect("the tables are missed");
        assert!(matches!(error, Failure::TablesMissing { .. }), "{error}");
        assert!(!segments(crash.path()).is_empty(), "the log is there for whoever finds them");
    }
    fs::rename(&aside, &tables).unwrap();
    assert_eq!(names(&open(crash.path()).unwrap()), ["a", "b", "c"]);
}

#[test]
fn a_store_that_is_open_is_opened_by_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let _engine = three_frames(folder.path());
    let error = open(folder.path()).err().expect("it is in use");
    assert!(matches!(error, Failure::InUse { .. }), "{error}");
}

#[test]
fn a_store_that_was_closed_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    drop(three_frames(folder.path()));
    let files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["store.redb"]);
    assert_eq!(names(&open(folder.path()).unwrap()), ["a", "b", "c"]);
}

#[test]
fn only_the_owner_reads_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let _engine = three_frames(folder.path());
    let log = segments(folder.path());
    assert_eq!(log.len(), 1);
    assert_eq!(fs::metadata(&log[0]).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn segments_are_used_again_and_a_crash_at_any_time_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Embedded::open_sized(folder.path(), Encryption::default(), SMALL).unwrap();
    let mut revision = 0;
    for round in 0..60 {
        // Frames of one page, and now and then one that is larger than a segment.
        let value = if round % 20 == 7 { "x".repeat(6 * PAGE) } else { format!("v{round}") };
        let write = if round == 0 { create("a", &value) } else { update("a", Some(revision), &value) };
        // A read has the tables take everything, so that they rest while the folder is copied.
        assert_eq!(engine.get(&mk_key("a"), revision).unwrap().is_some(), round > 0);
        commit(&mut engine, [write]);
        revision = engine.revision();
        if round % 4 == 0 {
            let copy = crashed(folder.path());
            let engine = Embedded::open_sized(copy.path(), Encryption::default(), SMALL).unwrap();
            assert_eq!(engine.revision(), revision, "round {round}");
            assert_eq!(engine.get(&mk_key("a"), revision).unwrap().unwrap().meta.labels["v"], value);
        }
    }
    let count = segments(folder.path()).len();
    assert!(count <= 1 + SMALL.count + 3, "{count} segments");
}

#[test]
fn a_disk_that_refuses_ends_writing_and_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = three_frames(folder.path());
    engine.break_log(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let error = engine.commit(vec![create("d", "1").into()]).unwrap_err();
    assert!(matches!(error, Failure::Write(_)), "{error}");
    assert!(engine.commit(vec![create("e", "1").into()]).is_err(), "nothing is written behind a gap");
    let crash = crashed(folder.path());
    drop(engine);
    for folder in [crash.path(), folder.path()] {
        assert_eq!(names(&open(folder).unwrap()), ["a", "b", "c"]);
    }
}

#[test]
fn a_store_of_the_time_before_the_log_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    drop(three_frames(folder.path()));
    // What is closed is of the old format, which says nothing of a log.
    let database = redb::Database::open(folder.path().join("store.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut meta = write.open_table(redb::TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
        let format = meta.get("format").unwrap().unwrap().value().to_vec();
        assert_eq!(format, 1_u64.to_be_bytes());
        meta.remove("log").unwrap();
    }
    write.commit().unwrap();
    drop(database);
    assert_eq!(names(&open(folder.path()).unwrap()), ["a", "b", "c"]);
}

#[test]
fn what_is_sealed_is_sealed_in_the_log_too_and_opened_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let encryption = Encryption::parse("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [configmaps]\n  providers: [{aesgcm: {keys: [{name: one, secret: b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=}]}}]\n").unwrap();
    let mut engine = Embedded::open(folder.path(), encryption.clone()).unwrap();
    commit(&mut engine, [create("a", "hush-hush-hush")]);
    let crash = crashed(folder.path());
    let log = fs::read(&segments(crash.path())[0]).unwrap();
    assert!(!log.windows(14).any(|window| window == b"hush-hush-hush"));
    assert!(log.windows(14).any(|window| window == b"k8s:enc:aesgcm"));
    let engine = Embedded::open(crash.path(), encryption).unwrap();
    assert_eq!(engine.get(&mk_key("a"), 1).unwrap().unwrap().meta.labels["v"], "hush-hush-hush");
}
