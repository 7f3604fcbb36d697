//! (g) The control plane is killed in the middle of work: nothing is deleted, and work goes on.

use std::time::Duration;

use anyhow::Result;
use federation_tests::{eventually, holds, manifests};

use crate::{SOON, World};

#[test]
fn a_control_plane_killed_in_the_middle_deletes_nothing_and_goes_on() -> Result<()> {
    let mut world = World::joined("restart")?;
    let namespace = world.namespace.clone();
    let many = |value: &str, range: std::ops::Range<u32>| -> String {
        range.map(|number| manifests::config_map(&namespace, &format!("c{number}"), value)).collect()
    };
    world.api().apply(&(many("one", 0..20) + &manifests::deployment(&namespace, "web", 2)))?;
    world.in_both("configmap/c19");
    world.divided("deployment/web", [1, 1]);
    let uids = |world: &World| -> Result<Vec<Vec<String>>> {
        let mut all = Vec::new();
        for (_, member) in world.members() {
            let text = |object: &serde_json::Value| {
                object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
            };
            let mut uids: Vec<String> =
                member.list(&namespace, "configmaps,deployments")?.iter().map(text).collect();
            uids.sort();
            all.push(uids);
        }
        Ok(all)
    };
    eventually("both have all", SOON, || {
        // kube-root-ca.crt is each member's own.
        Ok(uids(&world)?.iter().all(|uids| uids.len() >= 21))
    });
    let before = uids(&world)?;

    // Killed while twenty updates and twenty new objects are on their way.
    world.api().apply(&many("two", 0..40))?;
    world.federation.kill()?;
    holds("nothing is removed while the control plane is dead", Duration::from_secs(2), || {
        let now = uids(&world)?;
        Ok(before.iter().zip(&now).all(|(before, now)| before.iter().all(|uid| now.contains(uid))))
    });
    world.federation.restart()?;
    for site in federation_tests::SITES {
        world.federation.wait_for_verdict(site.name, "Healthy");
    }
    for (site, member) in world.members() {
        eventually(&format!("{site} has all forty, as they were applied last"), SOON, || {
            let maps = member.list(&namespace, "configmaps")?;
            Ok(maps.iter().filter(|map| map["data"]["key"] == "two").count() == 40)
        });
    }
    let now = uids(&world)?;
    for (before, now) in before.iter().zip(&now) {
        assert!(before.iter().all(|uid| now.contains(uid)), "an object was removed and made anew");
    }
    world.api().kubectl(&["-n", &namespace, "delete", "configmap/c0", "--timeout=20s"])?;
    world.in_neither("configmap/c0");
    Ok(())
}

#[test]
fn sigterm_drains_and_ends_with_status_0_and_an_agent_reconnects_by_itself() -> Result<()> {
    let mut world = World::joined("sigterm")?;
    let namespace = world.namespace.clone();
    let status = world.federation.terminate()?;
    assert_eq!(status.code(), Some(0), "{}", world.federation.process().log());
    world.federation.restart()?;
    world.api().apply(&manifests::config_map(&namespace, "after", "all"))?;
    world.in_both("configmap/after");
    Ok(())
}
