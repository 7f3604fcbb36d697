//! What one object costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use kube::core::WatchEvent;
use serde_json::Value;

use crate::federation::{CONFIG_MAPS, Federation, LIMIT, Member, PLACEMENTS, config_map, until};

async fn copies(member: &Member) -> usize {
    let maps = member.api.items(CONFIG_MAPS).await;
    maps.iter().filter(|map| map["metadata"]["labels"]["federation.rs/managed"] == "true").count()
}

/// The store's revision rises by one with each write; an object has that of its last one, a list the newest.
fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn is_applied(placement: &Value) -> bool {
    placement["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["type"] == "Applied" && one["status"] == "True"))
}

/// What the members answered, as a Placement tells it; null before it tells anything.
fn answers(placement: &Value) -> Value {
    let clusters = placement["status"]["clusters"].as_array();
    clusters.map_or(Value::Null, |all| {
        all.iter().map(|one| format!("{}: {} {}", one["name"], one["reason"], one["message"])).collect()
    })
}

/// How many times a write of a Placement between two revisions told other answers than the one before.
async fn told(federation: &Federation, from: u64, to: u64) -> u64 {
    let path = format!("{PLACEMENTS}?watch=true&resourceVersion={from}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let events = federation.api.0.request_events::<Value>(request).await.unwrap();
    let mut events = std::pin::pin!(events);
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    let (mut reached, mut told) = (from, 0);
    while reached < to {
        let event = tokio::time::timeout(LIMIT, events.try_next()).await.expect("the watch is silent");
        let event = event.unwrap().expect("the watch ended");
        let (WatchEvent::Added(placement) | WatchEvent::Modified(placement)) = event else { continue };
        reached = revision(&placement);
        let name = placement["metadata"]["name"].as_str().unwrap().to_owned();
        let before = last.insert(name, answers(&placement)).unwrap_or_default();
        told += u64::from(answers(&placement) != before);
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_costs_no_write_that_tells_nothing_new() {
    const OBJECTS: u64 = 200;
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let before = revision(&federation.api.get(CONFIG_MAPS).await.unwrap());
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..OBJECTS {
        let api = federation.api.clone();
        tasks.spawn(async move { api.create(CONFIG_MAPS, &config_map(&format!("map-{number}"), "x")).await });
    }
    tasks.join_all().await;
    let created = start.elapsed();
    for member in [&taiwan, &tokyo] {
        until("all are there", || async { (copies(member).await == OBJECTS as usize).then_some(()) }).await;
    }
    let present = start.elapsed();
    let list = until("every Placement says Applied", || async {
        let list = federation.api.get(PLACEMENTS).await.unwrap();
        let placements = list["items"].as_array().unwrap();
        (placements.len() >= OBJECTS as usize && placements.iter().all(is_applied)).then_some(list)
    })
    .await;
    let writes = revision(&list) - before;
    let newest = list["items"].as_array().unwrap().iter().map(revision).max().unwrap();
    let told = told(&federation, before, newest).await;
    eprintln!(
        "{OBJECTS} created in {created:?}, in both members after {present:?}; {writes} writes told {told} times what members answered"
    );
    // Creation, finalizer, Placement, and a status for each time that the answers were others: once, unless the machine is so busy that
    // the members' answers come apart by more than the status waits. 20 for the federation's own bookkeeping meanwhile.
    assert!(
        writes <= OBJECTS * 3 + told + 20,
        "{writes} writes for {OBJECTS} objects and {told} changes of answers"
    );
    // Nothing, one of the two, both.
    assert!(told <= OBJECTS * 3, "{told} changes of answers of two members for {OBJECTS} objects");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_object_is_in_both_members_without_any_pause() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let mut times = Vec::new();
    for number in 0..40 {
        let name = format!("map-{number}");
        let path = format!("{CONFIG_MAPS}/{name}");
        let start = Instant::now();
        federation.api.create(CONFIG_MAPS, &config_map(&name, "x")).await;
        tokio::join!(taiwan.api.there(&path), tokyo.api.there(&path));
        times.push(start.elapsed());
    }
    times.sort();
    eprintln!("create to seen in both: p50 {:?}, p90 {:?}", times[20], times[36]);
    // A timer on the way would show in every one of them, the fastest too; a busy machine shows in some.
    assert!(times[0] < Duration::from_millis(100), "{times:?}");
}
