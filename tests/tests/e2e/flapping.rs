//! A link that comes and goes: replicas stay where they are, answers change a few times, and a blip changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use federation_tests::{SITES, Settings, User, eventually, holds, manifests};
use serde_json::Value;

use crate::{SOON, World};

const PLACEMENT: &str = "placements.federation.rs/deployments.apps.web";
/// How long the link is cut, and how long it is whole.
const HALF: Duration = Duration::from_secs(5);
const FLAPS: u32 = 12;
/// Five withdrawals and four returns until the site is held down; one more of each where the machine is slow.
const CHANGES: usize = 11;

/// What the name was answered with, in order, without repetitions.
fn answers(user: User, host: &str, done: &AtomicBool) -> Result<Vec<Vec<IpAddr>>> {
    let mut seen = vec![user.resolve(host)?];
    while !done.load(Ordering::Relaxed) {
        let answer = user.resolve(host)?;
        if seen.last() != Some(&answer) {
            seen.push(answer);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(seen)
}

/// Users who come to one place throughout: how many were served, and what the others were told.
fn visitors(user: User, url: &str, done: &AtomicBool) -> (usize, Vec<String>) {
    let (mut served, mut lost) = (0, Vec::new());
    while !done.load(Ordering::Relaxed) {
        match user.get(url) {
            Ok(_) => served += 1,
            Err(error) => lost.push(format!("{error:#}")),
        }
        thread::sleep(Duration::from_millis(50));
    }
    (served, lost)
}

/// Where replicas are planned.
fn planned(world: &World) -> Result<Value> {
    world.api().field(&world.namespace, PLACEMENT, "/spec/clusters")
}

#[test]
fn a_link_that_flaps_for_two_minutes_moves_no_replica_and_few_answers_and_harms_no_neighbour() -> Result<()> {
    let [taiwan, tokyo] = SITES;
    // Twice what a cut lasts: none of them is a reason to move replicas, and neither are all together.
    let settings = Settings { evict_after: HALF * 2, ..Settings::default() };
    let world = World::joined_with("flapping", &settings)?;
    let port = 30088;
    crate::health::probed(&world, "web", port)?;
    let (user, host) = (world.federation.user(), world.host("web"));
    eventually("the name is answered with both places", SOON, || Ok(user.resolve(&host)?.len() == 2));
    let before = planned(&world)?;
    let [_, (_, tokyos)] = world.members();
    let url = format!("http://{}:{port}/", tokyo.address());
    let done = AtomicBool::new(false);
    let (seen, (served, lost)) = thread::scope(|scope| -> Result<_> {
        let looking = scope.spawn(|| answers(user, &host, &done));
        let visiting = scope.spawn(|| visitors(user, &url, &done));
        // Whatever happens here, the others must end.
        let told = (0..FLAPS).try_for_each(|_| -> Result<()> {
            for cut in [true, false] {
                if cut {
                    world.clusters.network.cut(taiwan)?;
                } else {
                    world.clusters.network.heal(taiwan)?;
                }
                let until = std::time::Instant::now() + HALF;
                while std::time::Instant::now() < until {
                    let now = planned(&world)?;
                    ensure!(now == before, "replicas were planned anew: {now}");
                    ensure!(tokyos.replicas(&world.namespace, "deployment/web")? == 2, "Tokyo was told so");
                    thread::sleep(Duration::from_millis(500));
                }
            }
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let seen = looking.join().unwrap()?;
        let visited = visiting.join().unwrap();
        told?;
        Ok((seen, visited))
    })?;

    let changes = seen.len() - 1;
    let told = crate::health::told(&world, taiwan)?;
    eprintln!(
        "  {changes} changes of the answer in {FLAPS} flaps; penalty {}; {served} visits to Tokyo",
        told["penalty"]
    );
    assert!((1..=CHANGES).contains(&changes), "{seen:?}");
    let tokyos_address: IpAddr = tokyo.address().parse()?;
    assert!(seen.iter().all(|answer| answer.contains(&tokyos_address)), "{seen:?}");
    assert!(served > 100 && lost.is_empty(), "beside {served} that were served: {lost:?}");
    assert_eq!(told["heldDown"], true, "{told:#}");
    assert_eq!(planned(&world)?, before);
    world.divided("deployment/web", [2, 2]);
    Ok(())
}

/// The same pods behind a Service whose health check has more patience.
fn patient(namespace: &str, port: u16) -> String {
    manifests::node_port(namespace, "calm", port).replace("app: calm", "app: web")
        + &format!(
            "apiVersion: federation.rs/v1alpha1
kind: TrafficPolicy
metadata: {{name: calm, namespace: {namespace}}}
spec: {{service: calm, strategy: All, ttlSeconds: 1, healthCheck: {{fall: 4}}}}
---
"
        )
}

#[test]
fn a_blip_moves_nothing() -> Result<()> {
    let [taiwan, _] = SITES;
    // No more patience than the shortest cut: only what is judged, and not when, keeps replicas in place.
    let settings = Settings { evict_after: Duration::from_secs(1), ..Settings::default() };
    let world = World::joined_with("blip", &settings)?;
    world.api().apply(&patient(&world.namespace, 30090))?;
    for service in ["web", "calm"] {
        crate::health::probed(&world, service, 30089)?;
        let host = world.host(service);
        eventually(&format!("{service} is answered with both places"), SOON, || {
            Ok(world.federation.user().resolve(&host)?.len() == 2)
        });
    }
    let before = planned(&world)?;
    let mut verdicts = BTreeSet::new();
    let mut blip = |service: &str, lasts: Duration| -> Result<()> {
        let (user, host) = (world.federation.user(), world.host(service));
        world.clusters.network.cut(taiwan)?;
        thread::sleep(lasts);
        world.clusters.network.heal(taiwan)?;
        let what = format!("answers and placement stay through a cut of {lasts:?}");
        holds(&what, Duration::from_secs(4), || {
            verdicts.insert(world.federation.verdict(taiwan.name)?);
            Ok(user.resolve(&host)?.len() == 2 && planned(&world)? == before)
        });
        Ok(())
    };
    for _ in 0..3 {
        blip("web", Duration::from_millis(950))?;
    }
    for _ in 0..3 {
        blip("calm", Duration::from_millis(1_950))?;
    }
    // The hub may have missed heartbeats for longer than the cut lasted (a packet is sent anew later and later): that moves nothing.
    verdicts.remove("Healthy");
    verdicts.remove("HubUnreachable");
    assert_eq!(verdicts, BTreeSet::new());
    Ok(())
}
