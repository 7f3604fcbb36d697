//! A site is away for longer than `evictAfter`, and much happens on both sides of the cut; then it returns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use federation_tests::{Api, SITES, Settings, eventually, holds, manifests};

use crate::{PODS, SOON, World};

/// In which nothing more may change once all is as it should be.
const QUIET: Duration = Duration::from_secs(5);

/// Uids by `kind/name` of all that the federation and others put into the namespace.
fn uids(member: &Api, namespace: &str) -> Result<BTreeMap<String, String>> {
    let all = member.list(namespace, "deployments,services,configmaps,serviceaccounts")?;
    let text = |object: &serde_json::Value, pointer: &str| {
        object.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
    };
    Ok(all
        .iter()
        .map(|object| {
            (
                format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name")),
                text(object, "/metadata/uid"),
            )
        })
        .collect())
}

#[test]
fn a_site_that_returns_after_long_gets_what_it_missed_and_loses_only_what_was_deleted() -> Result<()> {
    let [taiwan, _] = SITES;
    let settings = Settings { evict_after: Duration::from_secs(3), ..Settings::default() };
    let world = World::joined_with("partition", &settings)?;
    let namespace = &world.namespace;
    crate::health::probed(&world, "web", 30096)?;
    world.api().apply(
        &(manifests::config_map(namespace, "kept", "one")
            + &manifests::config_map(namespace, "changed", "one")
            + &manifests::config_map(namespace, "deleted", "one")
            + &manifests::deployment(namespace, "gone", 2)),
    )?;
    for name in ["configmap/kept", "configmap/changed", "configmap/deleted", "deployment/gone"] {
        world.in_both(name);
    }
    let [(_, taiwans), (_, tokyos)] = world.members();
    let inside = taiwans.clone().from_inside(taiwan.name);
    let before = uids(&taiwans, namespace)?;

    world.clusters.network.cut(taiwan)?;
    eventually("Tokyo was told to run all of them", PODS, || {
        Ok(tokyos.replicas(namespace, "deployment/web")? == 4)
    });
    // At the hub.
    world.api().apply(
        &(manifests::config_map(namespace, "changed", "two")
            + &manifests::config_map(namespace, "new", "one")
            + &manifests::deployment(namespace, "late", 2)),
    )?;
    world.api().kubectl(&["-n", namespace, "scale", "deployment/web", "--replicas=6"])?;
    for name in ["configmap/deleted", "deployment/gone"] {
        world.api().kubectl(&["-n", namespace, "delete", name, "--cascade=background", "--wait=false"])?;
        eventually(&format!("{name} is gone from Tokyo"), SOON, || Ok(!tokyos.has(namespace, name)?));
    }
    // By hand in Taiwan, which nobody here can reach: of its agent's things, of what is deleted at the hub, and of its own.
    let by_hand = r#"{"data":{"key":"by hand"}}"#;
    for name in ["configmap/kept", "configmap/deleted"] {
        inside.kubectl(&["-n", namespace, "patch", name, "--type=merge", "-p", by_hand])?;
    }
    inside.kubectl(&["-n", namespace, "create", "configmap", "own", "--from-literal=key=own"])?;
    inside.kubectl(&["-n", namespace, "scale", "deployment/web", "--replicas=1"])?;
    eventually("the agent in Taiwan put back what it holds, without the hub", SOON, || {
        Ok(inside.field(namespace, "configmap/kept", "/data/key")? == "one"
            && inside.replicas(namespace, "deployment/web")? == 2)
    });
    // Nothing of it goes because it is absent at the hub.
    for name in ["configmap/deleted", "deployment/gone"] {
        assert!(inside.has(namespace, name)?, "{name} was removed in a site that nobody reached");
        let waits = world.api().existing(namespace, name)?;
        assert!(waits["metadata"]["deletionTimestamp"].is_string(), "it waits for Taiwan: {waits:#}");
    }

    world.clusters.network.heal(taiwan)?;
    let healed = Instant::now();
    // Replicas that Taiwan and Tokyo are told to run, from the return on.
    let mut told = vec![world.replicas("deployment/web")?];
    let mut short = Vec::new();
    eventually("web is divided 3 and 3", PODS, || {
        let now = world.replicas("deployment/web")?;
        if told.last() != Some(&now) {
            told.push(now);
        }
        // Two sites are not read in one moment: what Tokyo was told counts where Taiwan had the same before and after.
        let still = taiwans.replicas(namespace, "deployment/web")? == now[0];
        if still && now.iter().sum::<i64>() < 6 {
            short.push(now);
        }
        Ok(now == [3, 3])
    });
    eprintln!("  {:.1} s after the heal; told to run: {told:?}", healed.elapsed().as_secs_f64());
    assert!(short.is_empty(), "fewer than six were wanted: {short:?}");
    // Taiwan's only rise, Tokyo's only fall: nothing swings.
    assert!(told.is_sorted_by_key(|[taiwan, _]| *taiwan), "{told:?}");
    assert!(told.is_sorted_by_key(|[_, tokyo]| -tokyo), "{told:?}");
    for (name, value) in [("configmap/changed", "two"), ("configmap/new", "one"), ("configmap/kept", "one")] {
        eventually(&format!("{name} is {value} in Taiwan"), SOON, || {
            Ok(taiwans.field(namespace, name, "/data/key")? == value)
        });
    }
    world.in_both("deployment/late");
    for name in ["configmap/deleted", "deployment/gone"] {
        world.in_neither(name);
        eventually(&format!("{name} is gone from the hub"), SOON, || {
            Ok(!world.api().has(namespace, name)?)
        });
    }
    let trash = world.federation.fedctl(&["trash"])?;
    assert!(
        trash.contains("deleted") && trash.contains("gone"),
        "what was deleted can be had back:\n{trash}"
    );
    let after = uids(&taiwans, namespace)?;
    for (name, uid) in &before {
        if !["ConfigMap/deleted", "Deployment/gone"].contains(&name.as_str()) {
            assert_eq!(after.get(name), Some(uid), "{name} was removed or made anew");
        }
    }
    assert_eq!(taiwans.field(namespace, "configmap/own", "/data/key")?, "own");

    world.federation.wait_for_verdict("taiwan", "Healthy");
    let (user, host) = (world.federation.user(), world.host("web"));
    eventually("the name is answered with both places again", PODS, || Ok(user.resolve(&host)?.len() == 2));
    holds("nothing more changes", QUIET, || {
        Ok(world.replicas("deployment/web")? == [3, 3]
            && user.resolve(&host)?.len() == 2
            && uids(&taiwans, namespace)? == after)
    });
    world.ready("deployment/web", 6);
    Ok(())
}
