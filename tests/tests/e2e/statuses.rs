//! (e) Status and Events come back; what one member refuses does not stop the other.

use std::time::Duration;

use anyhow::Result;
use federation_tests::{eventually, holds, manifests};
use serde_json::{Value, json};

use crate::{PODS, SOON, World};

fn events_about(events: &[Value], kind: &str, name: &str) -> Vec<Value> {
    let about =
        |event: &&Value| event["involvedObject"]["kind"] == kind && event["involvedObject"]["name"] == name;
    events.iter().filter(about).cloned().collect()
}

#[test]
fn rollout_status_and_wait_tell_the_truth_about_both_members() -> Result<()> {
    let world = World::joined("status")?;
    let namespace = &world.namespace;
    world.api().apply(&manifests::deployment(namespace, "web", 3))?;
    world.api().kubectl(&["-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s"])?;
    let sum: i64 = world
        .members()
        .iter()
        .map(|(_, member)| {
            Ok(member.field(namespace, "deployment/web", "/status/readyReplicas")?.as_i64().unwrap_or(0))
        })
        .sum::<Result<i64>>()?;
    assert_eq!(sum, 3, "rollout status said so only when all were ready");
    world.api().kubectl(&[
        "-n",
        namespace,
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=20s",
    ])?;

    // A second generation, which cannot become ready.
    world.api().kubectl(&["-n", namespace, "set", "image", "deployment/web", "web=registry.local/none:1"])?;
    let outcome =
        world.api().outcome(&["-n", namespace, "rollout", "status", "deployment/web", "--timeout=5s"])?;
    assert!(!outcome.success, "a rollout that hangs in the members hangs here: {}", outcome.stdout);
    world.api().kubectl(&["-n", namespace, "set", "image", "deployment/web", "web=registry.local/site:1"])?;
    world.api().kubectl(&["-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s"])?;
    Ok(())
}

#[test]
fn events_of_members_come_to_the_federation_and_an_event_posted_there_goes_to_both_once() -> Result<()> {
    let world = World::joined("events")?;
    let namespace = &world.namespace;
    world.api().apply(&manifests::deployment(namespace, "web", 2))?;
    eventually("the federation has Events about scaling from both members", PODS, || {
        let events = events_about(&world.api().list(namespace, "events")?, "Deployment", "web");
        let scaled = |site: &str| {
            events
                .iter()
                .any(|event| event["reason"] == "ScalingReplicaSet" && event.to_string().contains(site))
        };
        anyhow::ensure!(scaled("taiwan") && scaled("tokyo"), "it has {events:?}");
        Ok(true)
    });

    let uid = world.api().field(namespace, "deployment/web", "/metadata/uid")?;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.announced", "namespace": namespace},
        "involvedObject": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": namespace, "uid": uid},
        "reason": "Announced", "message": "told to all", "type": "Normal", "source": {"component": "test"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1,
    });
    world.api().apply(&event.to_string())?;
    let announced = |member: &federation_tests::Api| -> Result<usize> {
        Ok(member.list(namespace, "events")?.iter().filter(|event| event["reason"] == "Announced").count())
    };
    for (site, member) in world.members() {
        eventually(&format!("the Event is in {site}"), SOON, || Ok(announced(&member)? == 1));
    }
    // An echo would come as a second one within a report's time.
    holds("the Event is once everywhere", Duration::from_secs(3), || {
        let [(_, taiwan), (_, tokyo)] = world.members();
        Ok([announced(&taiwan)?, announced(&tokyo)?, announced(&world.api())?] == [1, 1, 1])
    });
    Ok(())
}

#[test]
fn a_manifest_that_one_member_refuses_says_why_and_the_other_proceeds() -> Result<()> {
    let world = World::joined("refused")?;
    let namespace = &world.namespace;
    world.in_both(&format!("namespace/{namespace}"));
    // Taiwan allows no ConfigMap in this namespace but what is there.
    let quota = format!(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: none, namespace: {namespace}}}\nspec: {{hard: {{count/services: \"0\"}}}}\n"
    );
    let [(_, taiwan), (_, tokyo)] = world.members();
    taiwan.apply(&quota)?;
    eventually("Taiwan's quota is in force", SOON, || {
        Ok(taiwan.field(namespace, "resourcequota/none", "/status/hard/count~1services")? == "0")
    });
    world.api().apply(&manifests::node_port(namespace, "web", 30082))?;
    eventually("Tokyo has it", SOON, || tokyo.has(namespace, "service/web"));
    eventually("the Placement says that Taiwan refused, and why", SOON, || {
        let clusters =
            world.api().field(namespace, "placements.federation.rs/services.web", "/status/clusters")?;
        let outcomes = clusters.as_array().cloned().unwrap_or_default();
        anyhow::ensure!(
            outcomes.iter().any(|outcome| {
                outcome["name"] == "taiwan"
                    && outcome["reason"].as_str().is_some_and(|reason| !reason.is_empty())
                    && outcome["message"].as_str().is_some_and(|message| message.contains("quota"))
            }),
            "it says {outcomes:?}"
        );
        Ok(true)
    });
    eventually("an Event on the template says so too", SOON, || {
        let events = events_about(&world.api().list(namespace, "events")?, "Service", "web");
        Ok(events.iter().any(|event| {
            event["type"] == "Warning"
                && event["message"].as_str().is_some_and(|message| message.contains("quota"))
        }))
    });
    // Once the member takes it, it comes by itself.
    taiwan.kubectl(&["-n", namespace, "delete", "resourcequota", "none"])?;
    eventually("Taiwan has it too", PODS, || taiwan.has(namespace, "service/web"));
    Ok(())
}
