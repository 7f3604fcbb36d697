//! Clocks that are ten minutes off, at agents, DNS servers and operators: nobody's verdict, lease, certificate or signature hangs on them.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use federation_tests::{
    Agent, Clusters, DnsServer, Federation, SITES, Settings, User, ZONE, eventually, manifests, run, skew,
};

use crate::{PODS, SOON, World};

const EVICT_AFTER: Duration = Duration::from_secs(4);
/// From `evictAfter` on: a lease that ended by a clock ten minutes behind would take longer by far.
const SOON_AFTER: Duration = Duration::from_secs(40);

/// Taiwan's agent ten minutes ahead, Tokyo's ten minutes behind.
fn joined() -> Result<World> {
    let clusters = Clusters::both()?;
    let federation = Federation::start(&Settings { evict_after: EVICT_AFTER, ..Settings::default() })?;
    let join = |number: usize, minutes: i32| {
        let (site, token) = (SITES[number], federation.join_command()?);
        Agent::join_in(federation.folder(), &clusters, site, site.name, &token, &skew(minutes)?)
    };
    let agents = [join(0, 10)?, join(1, -10)?];
    for site in SITES {
        federation.wait_for_verdict(site.name, "Healthy");
    }
    let namespace = manifests::unique("clocks");
    federation.api().apply(&manifests::namespace(&namespace))?;
    Ok(World { namespace, agents, federation, clusters })
}

/// Seconds since 1970 of the moments between which a signature of the name counts.
fn window(user: User, name: &str) -> Result<(i64, i64)> {
    let answer = user.dig(&[name, "A", "+dnssec"])?;
    let line = answer.lines().find(|line| line.contains("RRSIG")).with_context(|| answer.clone())?;
    let words: Vec<&str> = line.split_whitespace().collect();
    // NAME TTL IN RRSIG A ALGORITHM LABELS TTL EXPIRATION INCEPTION …
    let [expiration, inception] = [8, 9].map(|at| words.get(at).copied().unwrap_or_default());
    let seconds = |text: &str| -> Result<i64> {
        ensure!(text.len() == 14, "{text:?} is no time: {line}");
        let time = format!(
            "{}-{}-{} {}:{}:{}",
            &text[..4],
            &text[4..6],
            &text[6..8],
            &text[8..10],
            &text[10..12],
            &text[12..]
        );
        Ok(run(Command::new("date").args(["-u", "+%s", "-d", &time]))?.trim().parse()?)
    };
    Ok((seconds(inception)?, seconds(expiration)?))
}

/// The TTL of the name's answer, seconds.
fn ttl(user: User, name: &str) -> Result<u32> {
    let answer = user.dig(&[name, "A", "+noall", "+answer"])?;
    let ttl = answer.lines().next().and_then(|line| line.split_whitespace().nth(1));
    ttl.with_context(|| answer.clone())?.parse().context("it is no TTL")
}

fn dns_is_right(world: &World, servers: &[&DnsServer], host: &str) -> Result<()> {
    // The zone of version 1's names is the one that is signed.
    let signed = format!("web.{}.svc.{ZONE}", world.namespace);
    world.federation.fedctl(&["dns", "sign", ZONE])?;
    let now: i64 = run(Command::new("date").arg("+%s"))?.trim().parse()?;
    for server in servers {
        let user = server.user();
        eventually("a signature counts now, and for a day more", SOON, || {
            let (from, until) = window(user, &signed)?;
            ensure!(from <= now && now + 86_400 <= until, "from {from} until {until}, and now is {now}");
            Ok(true)
        });
        assert_eq!(ttl(user, host)?, 1, "seconds");
    }
    Ok(())
}

#[test]
fn clocks_ten_minutes_off_change_nothing() -> Result<()> {
    let [taiwan, _] = SITES;
    let mut world = joined()?;
    crate::health::probed(&world, "web", 30098)?;
    let [ahead, behind] = [
        world.federation.dns_server_with("ahead", &skew(10)?)?,
        world.federation.dns_server_with("behind", &skew(-10)?)?,
    ];
    let namespace = world.namespace.clone();
    let host = world.host("web");
    let users = [world.federation.user(), ahead.user(), behind.user()];
    let addresses: [IpAddr; 2] = SITES.map(|site| site.address().parse().unwrap());
    let answered = |answer: &[IpAddr]| {
        for user in users {
            eventually(&format!("users are sent to {answer:?}"), PODS, || {
                let seen = user.resolve(&host)?;
                ensure!(seen == answer, "they are sent to {seen:?}");
                Ok(true)
            });
        }
    };
    answered(&addresses);
    dns_is_right(&world, &[&ahead, &behind], &host)?;

    // Of both members, though one agent takes all that happens for old.
    eventually("Events come from both", PODS, || {
        let events = world.api().list(&namespace, "events")?;
        let from = |site: &str| {
            events
                .iter()
                .any(|event| event["reason"] == "ScalingReplicaSet" && event.to_string().contains(site))
        };
        ensure!(from("taiwan") && from("tokyo"), "{events:?}");
        Ok(true)
    });

    // A certificate of the hub's outlives a restart of whoever is behind.
    world.agents[1].restart()?;
    world.federation.wait_for_verdict("tokyo", "Healthy");

    // A drill whose holder is behind by more than his lease.
    let words = ["drill", "run", "--lose", "taiwan", "--app", "web", "--namespace", &namespace];
    let further = ["--name", "off", "--duration", "14s"];
    let words = [words.as_slice(), &further].concat();
    let mut drill = world.federation.fedctl_process("drill", &words, &skew(-10)?)?;
    let ended = drill.end(PODS)?;
    assert!(ended.success(), "{}{}", drill.output(), drill.log());
    answered(&addresses);

    // What may run in one place at a time: its agent, ten minutes ahead, stops it by its lease, and not before.
    world.api().apply(&single(&namespace))?;
    let [(_, taiwans), (_, tokyos)] = world.members();
    eventually("it runs in Taiwan alone", PODS, || {
        Ok(taiwans.replicas(&namespace, "deployment/single")? == 1
            && tokyos.replicas(&namespace, "deployment/single")? == 0)
    });
    let inside = taiwans.from_inside(taiwan.name);
    world.clusters.network.cut(taiwan)?;
    let cut = Instant::now();
    answered(&addresses[1..]);
    eventually("Tokyo runs all of web", SOON_AFTER, || {
        Ok(tokyos.replicas(&namespace, "deployment/web")? == 4)
    });
    assert!(cut.elapsed() >= EVICT_AFTER, "replicas moved after {:?}", cut.elapsed());
    eventually("Tokyo runs it", SOON_AFTER, || {
        // In this order: who is seen to run must have waited for who stopped.
        let new = tokyos.replicas(&namespace, "deployment/single")?;
        let old = inside.replicas(&namespace, "deployment/single")?;
        assert!(old + new <= 1, "it runs in both");
        Ok(new == 1)
    });
    world.clusters.network.heal(taiwan)?;
    world.federation.wait_for_verdict(taiwan.name, "Healthy");
    answered(&addresses);
    assert!(world.federation.user().browse(&host, 30098).is_ok());
    Ok(())
}

/// A Deployment that may run in one cluster at a time, first in Taiwan. The policy goes before it: it stays where it once runs.
fn single(namespace: &str) -> String {
    format!(
        "apiVersion: federation.rs/v1alpha1
kind: PlacementPolicy
metadata: {{name: single, namespace: {namespace}}}
spec:
  resourceSelectors: [{{apiVersion: apps/v1, kind: Deployment, name: single}}]
  failover: {{prefer: Exclusivity, evictAfterSeconds: 12}}
  replicas:
    clusters:
      taiwan: {{weight: 9}}
      tokyo: {{weight: 1}}
---
"
    ) + &manifests::deployment(namespace, "single", 1)
}
