//! Objects that are served in two versions or groups: both show the same object.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    kinds::{path, with_head},
    world::World,
};

#[tokio::test]
async fn an_autoscaler_is_the_same_object_in_both_versions() {
    let world = World::new().await;
    let plural = "horizontalpodautoscalers";
    let (v1, v2) = (path("autoscaling/v1", plural, true), path("autoscaling/v2", plural, true));
    let target = json!({"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"});
    let object =
        json!({"spec": {"maxReplicas": 4, "targetCPUUtilizationPercentage": 60, "scaleTargetRef": target}});
    let object = with_head("autoscaling/v1", "HorizontalPodAutoscaler", "a", object);
    let made = world.expect(StatusCode::CREATED, Method::POST, &v1, Some(object)).await;
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 60);
    let newer = world.expect(StatusCode::OK, Method::GET, &format!("{v2}/a"), None).await;
    assert_eq!(newer["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    assert_eq!(newer["metadata"]["uid"], made["metadata"]["uid"]);
    let patch = json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{v2}/a"), Some(patch)).await;
    let older = world.expect(StatusCode::OK, Method::GET, &format!("{v1}/a"), None).await;
    let behavior = &older["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"];
    assert!(behavior.as_str().unwrap().contains("60"), "{older}");
    let back = world.expect(StatusCode::OK, Method::PUT, &format!("{v1}/a"), Some(older)).await;
    assert_eq!(back["spec"]["maxReplicas"], 4);
    let kept = world.expect(StatusCode::OK, Method::GET, &format!("{v2}/a"), None).await;
    assert_eq!(kept["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 60);
    // As Go's types of the two versions leave out what is nothing.
    let nothing = json!({"desiredReplicas": 0, "currentMetrics": null});
    assert_eq!((&newer["status"], &kept["status"]), (&nothing, &nothing));
    assert_eq!(back["status"], json!({"desiredReplicas": 0, "currentReplicas": 0}));
    let measured = json!({"status": {"currentReplicas": 1, "desiredReplicas": 2}});
    let told = world.expect(StatusCode::OK, Method::PATCH, &format!("{v2}/a/status"), Some(measured)).await;
    assert_eq!(told["status"], json!({"currentReplicas": 1, "desiredReplicas": 2, "currentMetrics": null}));
}

#[tokio::test]
async fn both_forms_of_events_have_the_same_columns() {
    let world = World::new().await;
    let columns = |table: Value| {
        let definitions = table["columnDefinitions"].as_array().unwrap().clone();
        definitions
            .iter()
            .map(|column| (column["name"].clone(), column["priority"].clone()))
            .collect::<Vec<_>>()
    };
    let core = columns(world.table("/api/v1/namespaces/demo/events").await);
    assert_eq!(core, columns(world.table("/apis/events.k8s.io/v1/namespaces/demo/events").await));
    assert_eq!(core.len(), 10);
}
