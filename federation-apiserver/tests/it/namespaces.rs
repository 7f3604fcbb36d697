//! The end of namespaces, against those who still write.

use std::sync::Arc;

use federation_apiserver::housekeeping;
use http::{Method, StatusCode};
use serde_json::json;

use crate::world::{World, config_map};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_its_namespace() {
    let world = Arc::new(World::new().await);
    let storage = world.server.storage().clone();
    let mut housekeeping = housekeeping::Service::new(
        storage.clone(),
        Arc::new(world.server.kind_table()),
        housekeeping::Options::default(),
    );
    for round in 0..20 {
        let name = format!("round-{round}");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        world.expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces", Some(namespace)).await;
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (world, path) = (Arc::clone(&world), format!("/api/v1/namespaces/{name}/configmaps"));
                tokio::spawn(async move {
                    for number in 0.. {
                        let map = config_map(&format!("w{writer}-{number}"));
                        let (code, status) = world.request(Method::POST, &path, Some(map)).await;
                        match code {
                            StatusCode::CREATED => {}
                            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => break,
                            _ => panic!("{code}: {status}"),
                        }
                    }
                })
            })
            .collect();
        let path = format!("/api/v1/namespaces/{name}");
        world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
        while world.request(Method::GET, &path, None).await.0 != StatusCode::NOT_FOUND {
            housekeeping.step(true).await;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let snapshot = storage.snapshot();
        let left: Vec<_> = snapshot
            .resources()
            .flat_map(|resource| snapshot.range(resource, Some(&name), None).collect::<Vec<_>>())
            .collect();
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
}
