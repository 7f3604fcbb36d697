//! The hub and a site are lost together: the other site takes over by its plan, and the hub that returns goes on from there.

use std::time::Duration;

use anyhow::{Result, ensure};
use federation_tests::{SITES, Settings, eventually, holds};
use serde_json::Value;

use crate::health::{probed, told};
use crate::{PODS, SOON, World};

/// Ten seconds without the hub, evictAfter, detection, and pods.
const TAKEOVER: Duration = Duration::from_secs(60);

fn plans(world: &World) -> Result<Value> {
    Ok(serde_json::from_str(&world.federation.fedctl(&["plans", "-o", "json"])?)?)
}

#[test]
fn tokyo_takes_over_by_plan_when_the_hub_and_taiwan_are_lost_together() -> Result<()> {
    let [taiwan, tokyo] = SITES;
    let settings = Settings { evict_after: Duration::from_secs(4), ..Settings::default() };
    let mut world = World::joined_with("plans", &settings)?;
    let namespace = world.namespace.clone();
    let port = 30087;
    let (_dns, user) = world.federation.meeting_server("away")?;
    probed(&world, "web", port)?;
    // Whose probes never came through has no word.
    for (site, other) in [(taiwan, tokyo), (tokyo, taiwan)] {
        eventually(&format!("the agent of {} sees users of {} served", other.name, site.name), SOON, || {
            let told = told(&world, site)?;
            let votes = told["votes"].as_array().cloned().unwrap_or_default();
            let by = |vote: &&Value| {
                vote["says"] == "Up" && vote["voter"].as_str().is_some_and(|voter| voter.contains(other.name))
            };
            ensure!(votes.iter().any(|vote| by(&vote)), "{told:#}");
            Ok(true)
        });
    }
    let host = world.host("web");
    let address = |site: real_clusters::Site| -> std::net::IpAddr { site.address().parse().unwrap() };
    eventually("the name is answered with both places", SOON, || {
        Ok(user.resolve(&host)? == [address(taiwan), address(tokyo)])
    });
    let workload = format!("deployments.apps/{namespace}/web");
    eventually("every agent holds the newest plans and meets the others", PODS, || {
        let found = plans(&world)?;
        let all = |list: &str| found[list].as_array().cloned().unwrap_or_default();
        let holds = |holder: &Value| holder["current"] == true && holder["meets"][0] == "away";
        ensure!(all("holders").len() == 2 && all("holders").iter().all(holds), "{found:#}");
        let plan = all("plans").into_iter().find(|plan| plan["loss"] == "cluster/taiwan").unwrap_or_default();
        let works = plan["workloads"].as_array().cloned().unwrap_or_default();
        let web =
            works.iter().find(|work| work["workload"] == workload.as_str()).cloned().unwrap_or_default();
        ensure!(web["takes"][0]["to"] == 4, "{plan:#}");
        Ok(true)
    });

    world.federation.kill()?;
    world.clusters.network.cut(taiwan)?;
    let [_, (_, tokyos)] = world.members();
    let moved = eventually("the name is answered with Tokyo alone", TAKEOVER, || {
        Ok(user.resolve(&host)? == [address(tokyo)])
    });
    let scaled = eventually("Tokyo has all four replicas", TAKEOVER, || {
        Ok(tokyos.replicas(&namespace, "deployment/web")? == 4)
    });
    eventually("Tokyo serves with all four", PODS, || {
        Ok(tokyos.field(&namespace, "deployment/web", "/status/readyReplicas")? == 4)
    });
    eprintln!(
        "  without a hub: answers after {:.1} s, replicas after {:.1} s more",
        moved.as_secs_f64(),
        scaled.as_secs_f64()
    );
    assert!(user.browse(&host, port)?.contains("tokyo"));

    world.federation.restart()?;
    eventually("the hub adopts what Tokyo did", PODS, || {
        let found = plans(&world)?;
        ensure!(found["acts"][0]["adopted"] == true, "{found:#}");
        Ok(true)
    });
    // Until well after the hub has judged Taiwan by itself.
    holds("Tokyo goes on with four", Duration::from_secs(15), || {
        Ok(tokyos.replicas(&namespace, "deployment/web")? == 4)
    });
    world.clusters.network.heal(taiwan)?;
    world.federation.wait_for_verdict("taiwan", "Healthy");
    world.divided("deployment/web", [2, 2]);
    eventually("the name is answered with both places again", PODS, || {
        Ok(user.resolve(&host)? == [address(taiwan), address(tokyo)])
    });
    Ok(())
}
