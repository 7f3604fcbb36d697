//! What one object costs.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::federation::{CONFIG_MAPS, Federation, Member, PLACEMENTS, config_map, until};

async fn copies(member: &Member) -> usize {
    let maps = member.api.items(CONFIG_MAPS).await;
    maps.iter().filter(|map| map["metadata"]["labels"]["federation.rs/managed"] == "true").count()
}

/// The store's revision: it rises by one with each write.
async fn revision(federation: &Federation) -> u64 {
    let list = federation.api.get(CONFIG_MAPS).await.unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn is_applied(placement: &Value) -> bool {
    placement["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["type"] == "Applied" && one["status"] == "True"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_costs_no_write_that_tells_nothing_new() {
    const OBJECTS: u64 = 200;
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let before = revision(&federation).await;
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
    until("every Placement says Applied", || async {
        let placements = federation.api.items(PLACEMENTS).await;
        (placements.len() >= OBJECTS as usize && placements.iter().all(is_applied)).then_some(())
    })
    .await;
    let writes = revision(&federation).await - before;
    eprintln!("{OBJECTS} created in {created:?}, in both members after {present:?}, {writes} writes");
    // Creation, finalizer, Placement, and a status for each of the two members' answers; where both come within the status's wait,
    // as on a machine that is not busy, one status tells both. 20 for the federation's own bookkeeping meanwhile.
    assert!(writes <= OBJECTS * 5 + 20, "{writes} writes for {OBJECTS} objects");
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
    // A timer on the way would show in every one of them; a busy machine shows in some.
    assert!(times[10] < Duration::from_millis(250), "{times:?}");
}
