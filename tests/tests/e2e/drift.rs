//! (d), (i) What is changed by hand in a member is put back, with and without the hub.

use std::time::Duration;

use anyhow::Result;
use federation_tests::{eventually, manifests};

use crate::{SOON, World};

/// One second after the member's event is what is asked; kubectl's own start and a busy machine come on top.
const CORRECTED: Duration = Duration::from_secs(3);

fn hands_are_undone(world: &World) -> Result<()> {
    let namespace = &world.namespace;
    for (site, member) in world.members() {
        let patch = r#"{"data":{"key":"by hand"}}"#;
        member.kubectl(&["-n", namespace, "patch", "configmap", "settings", "--type=merge", "-p", patch])?;
        eventually(&format!("the change in {site} is undone"), CORRECTED, || {
            Ok(member.field(namespace, "configmap/settings", "/data/key")? == "one")
        });
        member.kubectl(&["-n", namespace, "delete", "configmap", "settings"])?;
        eventually(&format!("what was deleted in {site} is back"), CORRECTED, || {
            member.has(namespace, "configmap/settings")
        });
        member.kubectl(&["-n", namespace, "scale", "deployment/web", "--replicas=3"])?;
        eventually(&format!("the scale in {site} is undone"), CORRECTED, || {
            Ok(member.replicas(namespace, "deployment/web")? == 1)
        });
    }
    Ok(())
}

#[test]
fn what_is_changed_by_hand_in_a_member_is_put_back() -> Result<()> {
    let world = World::joined("drift")?;
    let namespace = &world.namespace;
    world.api().apply(
        &(manifests::config_map(namespace, "settings", "one") + &manifests::deployment(namespace, "web", 2)),
    )?;
    world.in_both("configmap/settings");
    world.divided("deployment/web", [1, 1]);
    hands_are_undone(&world)
}

#[test]
fn an_agent_puts_things_back_with_the_hub_dead_even_after_its_own_restart() -> Result<()> {
    let mut world = World::joined("alone")?;
    let namespace = world.namespace.clone();
    world.api().apply(
        &(manifests::config_map(&namespace, "settings", "one")
            + &manifests::deployment(&namespace, "web", 2)),
    )?;
    world.in_both("configmap/settings");
    world.divided("deployment/web", [1, 1]);
    world.federation.kill()?;
    hands_are_undone(&world)?;

    // What is wanted is on the agent's disk.
    world.agents[0].kill()?;
    let [(_, taiwan), _] = world.members();
    taiwan.kubectl(&["-n", &namespace, "delete", "configmap", "settings"])?;
    world.agents[0].restart()?;
    eventually("what was deleted while the agent was dead is back", SOON, || {
        taiwan.has(&namespace, "configmap/settings")
    });
    Ok(())
}
