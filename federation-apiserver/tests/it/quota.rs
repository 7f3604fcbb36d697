//! Quotas and limits of a namespace.

use std::sync::Arc;

use federation_apiserver::housekeeping;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{World, config_map};

const CORE: &str = "/api/v1/namespaces/demo";

async fn make(world: &World, plural: &str, object: Value) -> Value {
    world.expect(StatusCode::CREATED, Method::POST, &format!("{CORE}/{plural}"), Some(object)).await
}

async fn refused(world: &World, plural: &str, object: Value) -> String {
    let path = format!("{CORE}/{plural}");
    let value = world.expect(StatusCode::FORBIDDEN, Method::POST, &path, Some(object)).await;
    value["message"].as_str().unwrap().to_owned()
}

fn quota(name: &str, hard: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hard": hard}})
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

#[tokio::test]
async fn what_exceeds_a_quota_is_refused_with_the_amounts() {
    let world = World::new().await;
    make(&world, "resourcequotas", quota("few", json!({"configmaps": "2", "count/deployments.apps": "0"})))
        .await;
    make(&world, "configmaps", config_map("a")).await;
    make(&world, "configmaps", config_map("b")).await;
    assert_eq!(
        refused(&world, "configmaps", config_map("c")).await,
        "configmaps \"c\" is forbidden: exceeded quota: few, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"
    );
    let path = "/apis/apps/v1/namespaces/demo/deployments";
    let value =
        world.expect(StatusCode::FORBIDDEN, Method::POST, path, Some(crate::world::deployment("d"))).await;
    assert_eq!(
        value["message"],
        "deployments.apps \"d\" is forbidden: exceeded quota: few, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: count/deployments.apps=0"
    );
    world.expect(StatusCode::OK, Method::DELETE, &format!("{CORE}/configmaps/a"), None).await;
    make(&world, "configmaps", config_map("c")).await;
    let storage = world.server.storage().clone();
    let options = housekeeping::Options::default();
    housekeeping::Service::new(storage, Arc::new(world.server.kind_table()), options).step(true).await;
    let path = format!("{CORE}/resourcequotas/few");
    let value = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(value["status"]["used"], json!({"configmaps": "2", "count/deployments.apps": "0"}));
    assert_eq!(value["status"]["hard"], value["spec"]["hard"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_get_exactly_what_there_is() {
    let world = Arc::new(World::new().await);
    make(&world, "resourcequotas", quota("ten", json!({"count/configmaps": "10"}))).await;
    let writers: Vec<_> = (0..40)
        .map(|number| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let map = config_map(&format!("m{number}"));
                world.request(Method::POST, &format!("{CORE}/configmaps"), Some(map)).await.0
            })
        })
        .collect();
    let mut made = 0;
    for writer in writers {
        match writer.await.unwrap() {
            StatusCode::CREATED => made += 1,
            StatusCode::FORBIDDEN => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(made, 10);
}

#[tokio::test]
async fn pods_must_say_what_a_quota_counts() {
    let world = World::new().await;
    make(&world, "resourcequotas", quota("cpu", json!({"requests.cpu": "1", "pods": "5"}))).await;
    assert_eq!(
        refused(&world, "pods", pod("p", json!({}))).await,
        "pods \"p\" is forbidden: failed quota: cpu: must specify requests.cpu for: c"
    );
    make(&world, "pods", pod("p", json!({"requests": {"cpu": "600m"}}))).await;
    let mut whole = pod("w", json!({}));
    whole["spec"]["resources"] = json!({"requests": {"cpu": "500m"}});
    assert_eq!(
        refused(&world, "pods", whole).await,
        "pods \"w\" is forbidden: exceeded quota: cpu, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    assert_eq!(
        refused(&world, "pods", pod("q", json!({"requests": {"cpu": "500m"}}))).await,
        "pods \"q\" is forbidden: exceeded quota: cpu, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
}

#[tokio::test]
async fn a_limit_range_fills_in_and_refuses() {
    let world = World::new().await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"memory": "128Mi"}, "defaultRequest": {"memory": "64Mi"}, "max": {"memory": "256Mi"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]}});
    make(&world, "limitranges", range).await;
    let made = make(&world, "pods", pod("p", json!({}))).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"memory": "64Mi"}, "limits": {"memory": "128Mi"}})
    );
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(
        refused(&world, "pods", pod("q", json!({"limits": {"memory": "1Gi"}}))).await,
        "pods \"q\" is forbidden: maximum memory usage per Container is 256Mi, but limit is 1Gi"
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
    }});
    assert_eq!(
        refused(&world, "persistentvolumeclaims", claim).await,
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"
    );
}
