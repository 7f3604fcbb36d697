//! How CustomResourceDefinitions come, which names they get, and how they go.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    conversion::next,
    crd::{CRDS, TABS, crontabs, tab},
    world::World,
};

#[tokio::test]
async fn watchers_see_a_definition_come_and_then_be_established() {
    let world = World::new().await;
    let request = Request::get(format!("{CRDS}?watch=1&timeoutSeconds=20"));
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let mut body = world.server.service().oneshot(request).await.unwrap().into_body();
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(crontabs())).await;
    let (come, established) = (next(&mut body).await, next(&mut body).await);
    assert_eq!((&come["type"], &come["object"]["status"]["conditions"]), (&json!("ADDED"), &Value::Null));
    let condition = &established["object"]["status"]["conditions"][1];
    assert_eq!(
        (&established["type"], &condition["type"], &condition["status"]),
        (&json!("MODIFIED"), &json!("Established"), &json!("True"))
    );
}

#[tokio::test]
async fn a_definition_goes_after_its_instances() {
    let world = World::with_crontabs().await;
    let mut held = tab("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(held)).await;
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("free"))).await;
    let path = format!("{CRDS}/crontabs.stable.example.com");
    let marked = world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    let status = world.expect(StatusCode::METHOD_NOT_ALLOWED, Method::POST, TABS, Some(tab("late"))).await;
    assert_eq!(status["message"], "create not allowed while custom resource definition is terminating");
    world
        .keep_house(async || {
            world.request(Method::GET, &format!("{TABS}/free"), None).await.0 == StatusCode::NOT_FOUND
        })
        .await;
    world.expect(StatusCode::OK, Method::GET, &path, None).await;
    let release = json!({"metadata": {"finalizers": null}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{TABS}/held"), Some(release)).await;
    world.keep_house(async || world.request(Method::GET, &path, None).await.0 == StatusCode::NOT_FOUND).await;
    world.expect(StatusCode::NOT_FOUND, Method::GET, TABS, None).await;
}

#[tokio::test]
async fn a_name_that_comes_free_is_accepted() {
    let world = World::with_crontabs().await;
    let mut other = crontabs();
    other["metadata"]["name"] = "othertabs.stable.example.com".into();
    other["spec"]["names"] = json!({"plural": "othertabs", "kind": "OtherTab", "shortNames": ["ct"]});
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(other)).await;
    let path = format!("{CRDS}/othertabs.stable.example.com");
    let refused = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(refused["status"]["conditions"][0]["reason"], "ShortNamesConflict");
    let others = "/apis/stable.example.com/v1/othertabs";
    world.expect(StatusCode::NOT_FOUND, Method::GET, others, None).await;
    world.expect(StatusCode::OK, Method::DELETE, &format!("{CRDS}/crontabs.stable.example.com"), None).await;
    world.keep_house(async || world.request(Method::GET, others, None).await.0 == StatusCode::OK).await;
}

/// Each is accepted when it is made, and by housekeeping.
#[tokio::test]
async fn of_definitions_that_are_made_at_once_one_gets_the_names() {
    let world = World::new().await;
    let definition = |plural: &str| {
        let mut definition = crontabs();
        definition["metadata"]["name"] = format!("{plural}.stable.example.com").into();
        definition["spec"]["names"]["plural"] = plural.into();
        definition
    };
    let names = ["atabs", "btabs", "ctabs", "dtabs"];
    let made =
        names.map(|plural| world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition(plural))));
    futures::future::join_all(made).await;
    let mut accepted = 0;
    for plural in names {
        let path = format!("{CRDS}/{plural}.stable.example.com");
        let found = world.expect(StatusCode::OK, Method::GET, &path, None).await;
        accepted += usize::from(found["status"]["conditions"][0]["status"] == "True");
    }
    assert_eq!(accepted, 1);
}

/// The same of those that are there already, and change their names.
#[tokio::test]
async fn of_definitions_that_are_renamed_at_once_one_gets_the_name() {
    let world = World::new().await;
    let names = ["atabs", "btabs", "ctabs", "dtabs"];
    for plural in names {
        let mut definition = crontabs();
        definition["metadata"]["name"] = format!("{plural}.stable.example.com").into();
        definition["spec"]["names"] = json!({"plural": plural, "kind": plural.to_uppercase()});
        world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    }
    let path = |plural: &str| format!("{CRDS}/{plural}.stable.example.com");
    let short = json!({"spec": {"names": {"shortNames": ["tab"]}}});
    let world = &world;
    let renamed = names.map(|plural| {
        let (path, short) = (path(plural), short.clone());
        async move { world.expect(StatusCode::OK, Method::PATCH, &path, Some(short)).await }
    });
    futures::future::join_all(renamed).await;
    let mut accepted = 0;
    for plural in names {
        let found = world.expect(StatusCode::OK, Method::GET, &path(plural), None).await;
        accepted += usize::from(found["status"]["acceptedNames"]["shortNames"] == json!(["tab"]));
    }
    assert_eq!(accepted, 1);
}
