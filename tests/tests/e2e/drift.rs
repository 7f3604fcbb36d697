//! (d), (i) What is changed by hand in a member is put back, with and without the hub.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use federation_tests::{Api, eventually, manifests};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, WatchEvent, WatchParams};

use crate::{SOON, World};

/// From the member's watch event of the change to that of its correction.
const CORRECTED: Duration = Duration::from_secs(1);
/// From the start of kubectl by which the change is made.
const SEEN: Duration = Duration::from_secs(3);

/// Changes a ConfigMap by hand, then deletes it, and returns how long after the member's own event of each the correction's came.
async fn corrections(member: &Api, namespace: &str) -> Result<[Duration; 2]> {
    let config = kube::Config::from_custom_kubeconfig(
        kube::config::Kubeconfig::read_from(member.kubeconfig())?,
        &kube::config::KubeConfigOptions::default(),
    )
    .await?;
    let api: kube::Api<ConfigMap> = kube::Api::namespaced(kube::Client::try_from(config)?, namespace);
    let now = api.get("settings").await?.metadata.resource_version.context("it has a version")?;
    let only = WatchParams::default().fields("metadata.name=settings").timeout(60);
    let mut events = api.watch(&only, &now).await?.boxed();
    let mut next = async || -> Result<(WatchEvent<ConfigMap>, Instant)> {
        let event = events.try_next().await?.context("the watch ended")?;
        Ok((event, Instant::now()))
    };

    let by_hand = Patch::Merge(serde_json::json!({"data": {"key": "by hand"}}));
    api.patch("settings", &PatchParams::default(), &by_hand).await?;
    let (changed, at) = next().await?;
    let (restored, restored_at) = next().await?;
    assert!(
        matches!(changed, WatchEvent::Modified(object) if object.data.clone().unwrap()["key"] == "by hand")
    );
    assert!(matches!(restored, WatchEvent::Modified(object) if object.data.clone().unwrap()["key"] == "one"));
    let first = restored_at - at;

    api.delete("settings", &DeleteParams::default()).await?;
    let (deleted, at) = next().await?;
    let (restored, restored_at) = next().await?;
    assert!(matches!(deleted, WatchEvent::Deleted(_)));
    assert!(matches!(restored, WatchEvent::Added(object) if object.data.clone().unwrap()["key"] == "one"));
    Ok([first, restored_at - at])
}

#[test]
fn a_change_by_hand_is_corrected_within_a_second_of_the_members_event() -> Result<()> {
    let world = World::joined("second")?;
    let namespace = &world.namespace;
    world.api().apply(&manifests::config_map(namespace, "settings", "one"))?;
    world.in_both("configmap/settings");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (site, member) in world.members() {
        let limited = async { tokio::time::timeout(SOON, corrections(&member, namespace)).await };
        let taken = runtime.block_on(limited).context("no correction came")??;
        eprintln!(
            "  {site} corrected a change after {:.3} s, a delete after {:.3} s",
            taken[0].as_secs_f64(),
            taken[1].as_secs_f64()
        );
        assert!(taken.iter().all(|taken| *taken <= CORRECTED), "{site}: {taken:?}");
    }
    Ok(())
}

fn hands_are_undone(world: &World) -> Result<()> {
    let namespace = &world.namespace;
    for (site, member) in world.members() {
        let patch = r#"{"data":{"key":"by hand"}}"#;
        member.kubectl(&["-n", namespace, "patch", "configmap", "settings", "--type=merge", "-p", patch])?;
        eventually(&format!("the change in {site} is undone"), SEEN, || {
            Ok(member.field(namespace, "configmap/settings", "/data/key")? == "one")
        });
        member.kubectl(&["-n", namespace, "delete", "configmap", "settings"])?;
        eventually(&format!("what was deleted in {site} is back"), SEEN, || {
            member.has(namespace, "configmap/settings")
        });
        member.kubectl(&["-n", namespace, "scale", "deployment/web", "--replicas=3"])?;
        eventually(&format!("the scale in {site} is undone"), SEEN, || {
            Ok(member.replicas(namespace, "deployment/web")? == 1)
        });
    }
    Ok(())
}

/// A Role whose only rule lets nobody do much.
fn role(namespace: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reader, namespace: {namespace}}}
rules: [{{apiGroups: [\"\"], resources: [pods], verbs: [get]}}]
---
"
    )
}

/// Rights that somebody gives himself, which takes nothing away of what is wanted.
fn rights_are_taken_back(world: &World) -> Result<()> {
    let namespace = &world.namespace;
    for (site, member) in world.members() {
        let more = r#"[{"op": "add", "path": "/rules/-", "value": {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}}]"#;
        member.kubectl(&["-n", namespace, "patch", "role", "reader", "--type=json", "-p", more])?;
        eventually(&format!("what was added to the role in {site} is taken away"), SEEN, || {
            let rules = member.field(namespace, "role/reader", "/rules")?;
            Ok(rules.as_array().is_some_and(|rules| rules.len() == 1))
        });
    }
    Ok(())
}

#[test]
fn what_is_changed_by_hand_in_a_member_is_put_back() -> Result<()> {
    let world = World::joined("drift")?;
    let namespace = &world.namespace;
    world.api().apply(&role(namespace))?;
    world.in_both("role/reader");
    rights_are_taken_back(&world)?;
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
