//! (f) A site is cut off: names first, then replicas; and nothing is lost when it returns.

use std::time::Duration;

use anyhow::Result;
use federation_tests::{SITES, Settings, eventually, manifests};

use crate::{PODS, SOON, World};

#[test]
fn tokyo_serves_when_taiwan_is_cut_off_and_taiwan_returns_with_nothing_lost() -> Result<()> {
    let [taiwan, tokyo] = SITES;
    let settings = Settings { evict_after: Duration::from_secs(4), ..Settings::default() };
    let world = World::joined_with("failover", &settings)?;
    let namespace = &world.namespace;
    let port = 30083;
    world.api().apply(
        &(manifests::deployment(namespace, "web", 4)
            + &manifests::node_port(namespace, "web", port)
            + &manifests::answer_with_all(namespace, "web")
            + &manifests::config_map(namespace, "settings", "one")
            + &manifests::weights(namespace, "Deployment", "web", 1, 1)),
    )?;
    world.divided("deployment/web", [2, 2]);
    world.ready("deployment/web", 4);
    let user = world.federation.user();
    let host = world.host("web");
    let address = |site: real_clusters::Site| -> std::net::IpAddr { site.address().parse().unwrap() };
    eventually("the name is answered with both places", SOON, || {
        Ok(user.resolve(&host)? == [address(taiwan), address(tokyo)])
    });
    let uids = |api: &federation_tests::Api| -> Result<Vec<serde_json::Value>> {
        ["deployment/web", "service/web", "configmap/settings"]
            .iter()
            .map(|name| Ok(api.existing(namespace, name)?["metadata"]["uid"].clone()))
            .collect()
    };
    let [(_, taiwans), (_, tokyos)] = world.members();
    let before = uids(&taiwans)?;

    world.clusters.network.cut(taiwan)?;
    let detected = eventually("the name is answered with Tokyo alone", Duration::from_secs(15), || {
        Ok(user.resolve(&host)? == [address(tokyo)])
    });
    eprintln!("  from the cut to the new answer: {:.1} s", detected.as_secs_f64());
    assert!(user.browse(&host, port)?.contains("tokyo"));
    eventually("Tokyo has all four replicas", Duration::from_secs(30), || {
        Ok(tokyos.replicas(namespace, "deployment/web")? == 4)
    });
    eventually("Tokyo serves with all four", PODS, || {
        Ok(tokyos.field(namespace, "deployment/web", "/status/readyReplicas")? == 4)
    });
    // Taiwan itself is not told anything, and serves whoever still comes: its API is asked from here only after the heal.
    world.api().apply(&manifests::config_map(namespace, "settings", "two"))?;

    world.clusters.network.heal(taiwan)?;
    world.federation.wait_for_verdict("taiwan", "Healthy");
    assert_eq!(uids(&taiwans)?, before, "nothing in Taiwan was removed or made anew");
    eventually("what changed meanwhile has come to Taiwan", SOON, || {
        Ok(taiwans.field(namespace, "configmap/settings", "/data/key")? == "two")
    });
    world.divided("deployment/web", [2, 2]);
    eventually("the name is answered with both places again", PODS, || {
        Ok(user.resolve(&host)? == [address(taiwan), address(tokyo)])
    });
    assert_eq!(uids(&taiwans)?, before);
    Ok(())
}

#[test]
fn both_sites_gone_at_once_freeze_everything() -> Result<()> {
    let settings = Settings { evict_after: Duration::from_secs(2), ..Settings::default() };
    let world = World::joined_with("freeze", &settings)?;
    let namespace = &world.namespace;
    world.api().apply(
        &(manifests::deployment(namespace, "web", 2)
            + &manifests::node_port(namespace, "web", 30084)
            + &manifests::answer_with_all(namespace, "web")),
    )?;
    world.ready("deployment/web", 2);
    let (user, host) = (world.federation.user(), world.host("web"));
    eventually("the name is answered with both places", SOON, || Ok(user.resolve(&host)?.len() == 2));
    for site in SITES {
        world.clusters.network.cut(site)?;
    }
    for site in SITES {
        eventually(&format!("{} is not called healthy", site.name), SOON, || {
            Ok(world.federation.verdict(site.name)? != "Healthy")
        });
    }
    let placement = "placements.federation.rs/deployments.apps.web";
    let clusters = world.api().field(namespace, placement, "/spec/clusters")?;
    // Longer than evictAfter: an answer that stays is better than none, and replicas have nowhere to go.
    federation_tests::holds("answers and placement stay as they were", Duration::from_secs(4), || {
        Ok(!user.resolve(&host)?.is_empty()
            && world.api().field(namespace, placement, "/spec/clusters")? == clusters)
    });
    for site in SITES {
        world.clusters.network.heal(site)?;
    }
    for site in SITES {
        world.federation.wait_for_verdict(site.name, "Healthy");
    }
    world.divided("deployment/web", [1, 1]);
    Ok(())
}

#[test]
fn a_drain_moves_users_and_replicas_and_loses_no_request() -> Result<()> {
    let world = World::joined("drain")?;
    let namespace = &world.namespace;
    let port = 30085;
    world.api().apply(
        &(manifests::deployment(namespace, "web", 2)
            + &manifests::node_port(namespace, "web", port)
            + &manifests::answer_with_all(namespace, "web")
            + &manifests::weights(namespace, "Deployment", "web", 1, 1)),
    )?;
    world.ready("deployment/web", 2);
    let (user, host) = (world.federation.user(), world.host("web"));
    eventually("the name is answered with both places", SOON, || Ok(user.resolve(&host)?.len() == 2));

    // kube-proxy is up to a second behind the endpoints that the answers follow.
    eventually("both places serve users", PODS, || {
        Ok(user.resolve(&host)?.iter().all(|address| user.get(&format!("http://{address}:{port}/")).is_ok()))
    });

    let done = std::sync::atomic::AtomicBool::new(false);
    let (served, lost) = std::thread::scope(|scope| {
        // One who resolves anew for each request, as the TTL of 1 s nearly asks.
        let crowd = scope.spawn(|| {
            let (mut served, mut lost) = (0, Vec::new());
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                match user.browse(&host, port) {
                    Ok(_) => served += 1,
                    Err(error) => lost.push(format!("{error:#}")),
                }
            }
            (served, lost)
        });
        let drained = world.federation.fedctl(&["drain", "taiwan", "--timeout", "90"]);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        drained.unwrap();
        crowd.join().unwrap()
    });
    assert!(served > 0);
    assert_eq!(lost, [""; 0], "beside {served} that were served");
    world.divided("deployment/web", [0, 2]);
    assert!(user.browse(&host, port)?.contains("tokyo"));
    world.federation.fedctl(&["uncordon", "taiwan"])?;
    world.divided("deployment/web", [1, 1]);
    Ok(())
}
