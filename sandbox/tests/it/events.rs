//! Events, both ways.

use serde_json::{Value, json};

use crate::federation::{CONFIG_MAPS, EVENTS, Federation, PLACEMENTS, config_map, until};

fn event(name: &str, reason: &str, about: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name},
        "involvedObject": {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "default", "name": about["metadata"]["name"]},
        "type": "Warning", "reason": reason, "message": "something happened", "count": 1, "source": {"component": "test"},
        "firstTimestamp": "2100-01-01T00:00:00Z", "lastTimestamp": "2100-01-01T00:00:00Z",
    })
}

fn with_reason(events: &[Value], reason: &str) -> Vec<Value> {
    events.iter().filter(|event| event["reason"] == reason).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_event_comes_up_once_with_its_cluster_and_is_counted() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let template = federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    taiwan.api.create(EVENTS, &event("happened", "Happened", &template)).await;
    let found = until("the Event comes up", || async {
        with_reason(&federation.api.items(EVENTS).await, "Happened").pop()
    })
    .await;
    assert_eq!(found["involvedObject"]["uid"], template["metadata"]["uid"]);
    assert_eq!(found["metadata"]["labels"]["federation.rs/cluster"], "taiwan");
    assert_eq!(found["count"], 1);

    taiwan
        .api
        .merge(&format!("{EVENTS}/happened"), &json!({"count": 3, "lastTimestamp": "2100-01-01T00:00:05Z"}))
        .await;
    until("the count rises", || async {
        let found = with_reason(&federation.api.items(EVENTS).await, "Happened");
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0]["count"] == 3).then_some(())
    })
    .await;

    // A later Event of the other way has arrived, so one that came back would have too.
    federation.api.create(EVENTS, &event("posted", "Posted", &template)).await;
    until("the posted Event arrives", || async {
        with_reason(&tokyo.api.items(EVENTS).await, "Posted").pop()
    })
    .await;
    assert!(with_reason(&tokyo.api.items(EVENTS).await, "Happened").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_posted_to_the_federation_goes_down_once_and_does_not_come_back() {
    let (mut federation, taiwan, tokyo) = Federation::pair().await;
    let template = federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    federation.api.create(EVENTS, &event("posted", "Posted", &template)).await;
    for member in [&taiwan, &tokyo] {
        until("the Event goes down", || async {
            with_reason(&member.api.items(EVENTS).await, "Posted").pop()
        })
        .await;
    }
    federation
        .api
        .until(&format!("{EVENTS}/posted"), "is marked", |found| {
            found["metadata"]["annotations"]["federation.rs/delivered"].is_string()
        })
        .await;
    // Neither a restart nor what is posted later brings it again.
    federation.stop_controller().await;
    federation.start_controller().await;
    taiwan.api.create(EVENTS, &event("later", "Later", &template)).await;
    until("a later Event comes up", || async {
        with_reason(&federation.api.items(EVENTS).await, "Later").pop()
    })
    .await;
    for api in [&federation.api, &taiwan.api, &tokyo.api] {
        assert_eq!(with_reason(&api.items(EVENTS).await, "Posted").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_events_about_one_object_is_cut_short() {
    let (federation, taiwan, _tokyo) = Federation::pair().await;
    let template = federation.api.create(CONFIG_MAPS, &config_map("noisy", "one")).await;
    let quiet = federation.api.create(CONFIG_MAPS, &config_map("quiet", "one")).await;
    for name in ["noisy", "quiet"] {
        federation.applied(&format!("{PLACEMENTS}/configmaps.{name}"), &["taiwan", "tokyo"]).await;
    }
    for number in 0..60 {
        let mut event = event(&format!("noise-{number}"), "Noise", &template);
        event["message"] = format!("number {number}").into();
        taiwan.api.create(EVENTS, &event).await;
    }
    taiwan.api.create(EVENTS, &event("last", "Last", &quiet)).await;
    until("another object's Event comes up", || async {
        with_reason(&federation.api.items(EVENTS).await, "Last").pop()
    })
    .await;
    // 25 at once; one more each ten seconds.
    let noise = with_reason(&federation.api.items(EVENTS).await, "Noise").len();
    assert!((1..=27).contains(&noise), "{noise}");
}
