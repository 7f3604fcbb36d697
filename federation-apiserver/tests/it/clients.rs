//! kube-rs against the server, without a socket.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Event, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::{from_value, json};

use crate::world::{World, config_map, deployment};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_informer_sees_every_change_by_list_and_by_streaming() {
    let world = World::new().await;
    for strategy in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let maps: Api<ConfigMap> = Api::default_namespaced(world.client());
        let mut events = watcher(maps.clone(), strategy).boxed();
        let seen = async {
            let mut applied = false;
            while let Some(event) = events.try_next().await.unwrap() {
                match event {
                    watcher::Event::InitDone => {
                        maps.create(&PostParams::default(), &from_value(config_map("a")).unwrap())
                            .await
                            .unwrap();
                    }
                    watcher::Event::Apply(map) if map.metadata.name.as_deref() == Some("a") => {
                        applied = true;
                        maps.delete("a", &DeleteParams::default()).await.unwrap();
                    }
                    watcher::Event::Delete(map) if map.metadata.name.as_deref() == Some("a") => break,
                    _ => {}
                }
            }
            applied
        };
        assert!(tokio::time::timeout(PATIENCE, seen).await.unwrap());
    }
}

#[tokio::test]
async fn two_appliers_conflict_until_one_forces() {
    let world = World::new().await;
    let deployments: Api<Deployment> = Api::default_namespaced(world.client());
    let apply = |manager: &str, image: &str| {
        let mut object = deployment("web");
        object["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        (PatchParams::apply(manager), Patch::Apply(object))
    };
    let (params, patch) = apply("one", "nginx:1");
    deployments.patch("web", &params, &patch).await.unwrap();
    let (params, patch) = apply("two", "nginx:2");
    let kube::Error::Api(status) = deployments.patch("web", &params, &patch).await.unwrap_err() else {
        panic!("an API error")
    };
    assert_eq!(status.code, 409);
    assert!(status.message.contains("conflict with \"one\""), "{}", status.message);
    let taken = deployments.patch("web", &params.force(), &patch).await.unwrap();
    let image = taken.spec.template.spec.unwrap().containers[0].image.clone();
    assert_eq!(image.as_deref(), Some("nginx:2"));
}

#[tokio::test]
async fn parallel_patches_all_land() {
    let world = World::new().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client());
    maps.create(&PostParams::default(), &from_value(config_map("a")).unwrap()).await.unwrap();
    let patches = (0..16).map(|index| {
        let maps = maps.clone();
        async move {
            let patch = json!({"data": {format!("k{index}"): "v"}});
            maps.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        }
    });
    futures::future::join_all(patches).await;
    assert_eq!(maps.get("a").await.unwrap().data.unwrap().len(), 17);
}

#[tokio::test]
async fn patches_of_a_scale_land_whoever_else_writes() {
    let world = World::new().await;
    let deployments: Api<Deployment> = Api::default_namespaced(world.client());
    deployments.create(&PostParams::default(), &from_value(deployment("web")).unwrap()).await.unwrap();
    let patches = (0..16).map(|index| {
        let deployments = deployments.clone();
        async move {
            let label = Patch::Merge(json!({"metadata": {"labels": {format!("k{index}"): "v"}}}));
            let scale = Patch::Merge(json!({"spec": {"replicas": index}}));
            let params = PatchParams::default();
            let writes =
                (deployments.patch("web", &params, &label), deployments.patch_scale("web", &params, &scale));
            let (labelled, scaled) = futures::future::join(writes.0, writes.1).await;
            labelled.unwrap();
            scaled.unwrap();
        }
    });
    futures::future::join_all(patches).await;
}

#[tokio::test]
async fn evictions_under_one_budget_land_whoever_else_writes_it() {
    const COUNT: usize = 16;
    let world = World::new().await;
    let pods: Api<Pod> = Api::default_namespaced(world.client());
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(world.client());
    let params = PatchParams::default();
    let names: Vec<_> = (0..COUNT).map(|index| format!("p{index}")).collect();
    for name in &names {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        pods.create(&PostParams::default(), &from_value(pod).unwrap()).await.unwrap();
        let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
        pods.patch_status(name, &params, &running).await.unwrap();
    }
    let budget = json!({
        "metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    budgets.create(&PostParams::default(), &from_value(budget).unwrap()).await.unwrap();
    let allowed = Patch::Merge(json!({"status": {"observedGeneration": 1, "disruptionsAllowed": COUNT}}));
    budgets.patch_status("b", &params, &allowed).await.unwrap();
    let evictions = names.iter().map(|name| {
        let label = Patch::Merge(json!({"metadata": {"labels": {name: "v"}}}));
        let (pods, budgets, params) = (&pods, &budgets, &params);
        async move {
            let evict = EvictParams::default();
            let writes = (budgets.patch("b", params, &label), pods.evict(name, &evict));
            let (labelled, evicted) = futures::future::join(writes.0, writes.1).await;
            labelled.unwrap();
            evicted.unwrap();
        }
    });
    futures::future::join_all(evictions).await;
    let spent = budgets.get("b").await.unwrap();
    let status = spent.status.unwrap();
    assert_eq!(status.disruptions_allowed, Some(0));
    assert_eq!(status.disrupted_pods.unwrap().len(), COUNT);
    assert_eq!(spent.metadata.labels.unwrap().len(), COUNT);
}

#[tokio::test]
async fn a_finalizer_holds_a_deleted_object() {
    let world = World::new().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client());
    let mut map = config_map("a");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    maps.create(&PostParams::default(), &from_value(map).unwrap()).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("a", &PatchParams::default(), &release).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn an_event_is_one_object_in_both_groups() {
    let world = World::new().await;
    let events: Api<Event> = Api::default_namespaced(world.client());
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "demo"},
        "reason": "R", "message": "m", "type": "Normal", "source": {"component": "c"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1,
    });
    events.create(&PostParams::default(), &from_value(event).unwrap()).await.unwrap();
    let chosen = ListParams::default().fields("involvedObject.name=p");
    assert_eq!(events.list(&chosen).await.unwrap().items.len(), 1);
    let newer: Api<k8s_openapi::api::events::v1::Event> = Api::default_namespaced(world.client());
    assert_eq!(newer.get("e").await.unwrap().note.as_deref(), Some("m"));
    assert_eq!(newer.list(&ListParams::default().fields("regarding.name=p")).await.unwrap().items.len(), 1);
}
