//! kill -9 loses no acknowledged write.
//!
//! The test starts its own binary again as a child that writes from 16 tasks and prints each acknowledged revision, kills
//! it at a random moment, opens the store and looks every acknowledged write up. Several rounds on one store.

use std::{
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

#[test]
fn kill_9_loses_no_acknowledged_write() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return write_until_killed(&folder, &std::env::var(ROUND).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    for round in 0..ROUNDS {
        let patience = Duration::from_millis(rand::rng().random_range(1..150));
        let before = acknowledged.len();
        acknowledged.extend(kill_a_writer(folder.path(), round, patience));
        assert!(acknowledged.len() > before, "round {round} wrote nothing");

        let storage = runtime.block_on(Storage::open(Options::new(folder.path()))).unwrap();
        let snapshot = storage.snapshot();
        for (name, revision) in &acknowledged {
            let found = snapshot.get(&mk_key(name)).map(|object| object.revision);
            assert_eq!(found, Some(*revision), "round {round}, killed after {patience:?}: {name}");
        }
        assert!(acknowledged.iter().all(|(_, revision)| *revision <= snapshot.revision()));
        runtime.block_on(storage.close());
    }
}

fn kill_a_writer(folder: &std::path::Path, round: u32, patience: Duration) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::kill_9_loses_no_acknowledged_write", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let mut parse = |line: &str| {
        // A line that the kill cut short has no final mark and was not acknowledged to anybody.
        if let Some((name, revision)) =
            line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix(" .")?.split_once(' '))
        {
            acknowledged.push((name.to_owned(), revision.parse().unwrap()));
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
                    let stored = storage.write(create(&name, "1")).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {name} {} .", stored.revision).unwrap();
                    out.flush().unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}
