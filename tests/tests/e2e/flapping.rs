//! A link that comes and goes.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use federation_tests::{SITES, Settings, eventually, holds, manifests};
use serde_json::Value;

use crate::{SOON, World};

const PLACEMENT: &str = "placements.federation.rs/deployments.apps.web";

/// Where replicas are planned.
fn planned(world: &World) -> Result<Value> {
    world.api().field(&world.namespace, PLACEMENT, "/spec/clusters")
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
