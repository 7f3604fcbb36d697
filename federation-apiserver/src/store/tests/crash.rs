//! kill -9 loses no acknowledged write.
//!
//! The test starts its own binary again as a child that creates, updates and deletes from 16 tasks and prints each
//! acknowledged revision, kills it at a random moment, opens the store and looks every object up. Several rounds on one
//! store. The one write that each task had under way when the kill came may be there or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use rand::RngExt;

use super::*;

const FOLDER: &str = "FEDERATION_STORE_CRASH_FOLDER";
const ROUND: &str = "FEDERATION_STORE_CRASH_ROUND";
const ROUNDS: u32 = 5;
const WRITERS: u32 = 16;

/// What the child was told of each object: the revision that it stands at, or that it is gone.
type Acknowledged = BTreeMap<String, Option<u64>>;

#[test]
fn kill_9_loses_no_acknowledged_write() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return write_until_killed(&folder, &std::env::var(ROUND).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged = Acknowledged::new();
    for round in 0..ROUNDS {
        let patience = Duration::from_millis(rand::rng().random_range(1..150));
        let news = kill_a_writer(folder.path(), round, patience);
        assert!(!news.is_empty(), "round {round} wrote nothing");
        // The last object of each task may have been written once more than the child could say.
        let last: BTreeSet<_> = (0..WRITERS)
            .filter_map(|writer| {
                let prefix = format!("r{round}-w{writer}-");
                let number = |name: &str| name.strip_prefix(&prefix)?.parse::<u32>().ok();
                news.keys().max_by_key(|name| number(name)).filter(|name| number(name).is_some()).cloned()
            })
            .collect();
        acknowledged.extend(news);

        let storage = runtime.block_on(Storage::open(Options::new(folder.path()))).unwrap();
        let snapshot = storage.snapshot();
        for (name, told) in &mut acknowledged {
            let found = snapshot.get(&mk_key(name)).map(|object| object.revision);
            let later = last.contains(name) && (found.is_none() || found > *told);
            assert!(
                found == *told || later,
                "round {round}, killed after {patience:?}: {name} {found:?} {told:?}"
            );
            *told = found;
        }
        assert!(acknowledged.values().flatten().all(|revision| *revision <= snapshot.revision()));
        runtime.block_on(storage.close());
    }
    assert!(acknowledged.values().any(Option::is_none), "no delete was acknowledged in any round");
}

fn kill_a_writer(folder: &std::path::Path, round: u32, patience: Duration) -> Acknowledged {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::kill_9_loses_no_acknowledged_write", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Acknowledged::new();
    let mut parse = |line: &str| {
        // A line that the kill cut short has no final mark and was not acknowledged to anybody.
        if let Some((name, revision)) =
            line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix(" .")?.split_once(' '))
        {
            let revision = if revision == "gone" { None } else { Some(revision.parse().unwrap()) };
            acknowledged.insert(name.to_owned(), revision);
            true
        } else {
            false
        }
    };
    for line in lines.by_ref() {
        if parse(&line.unwrap()) {
            break;
        }
    }
    // The moment of the kill is what is random here: this sleep waits for nothing.
    std::thread::sleep(patience);
    child.kill().unwrap();
    child.wait().unwrap();
    lines.map_while(Result::ok).for_each(|line| {
        parse(&line);
    });
    acknowledged
}

fn write_until_killed(folder: &str, round: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let storage = Storage::open(Options::new(folder)).await.unwrap();
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (storage, round) = (storage.clone(), round.to_owned());
            tasks.push(tokio::spawn(async move {
                for n in 0..u32::MAX {
                    let name = format!("r{round}-w{writer}-{n}");
                    let made = storage.write(create(&name, "1")).await.unwrap().revision;
                    acknowledge(&name, &made.to_string());
                    let changed = storage.write(update(&name, Some(made), "2")).await.unwrap().revision;
                    acknowledge(&name, &changed.to_string());
                    if n % 2 == 0 {
                        storage.write(delete(&name, Some(changed))).await.unwrap();
                        acknowledge(&name, "gone");
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

fn acknowledge(name: &str, state: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {name} {state} .").unwrap();
    out.flush().unwrap();
}
