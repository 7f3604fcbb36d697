//! (b) What is applied once is in both, divided; and users are served.

use std::collections::BTreeSet;

use anyhow::Result;
use federation_tests::{eventually, manifests};

use crate::{PODS, SOON, World};

/// The example that the README tells people to apply, in the test's own namespace.
const EXAMPLE: &str = include_str!("../../../examples/taiwan-tokyo/web.yaml");

#[test]
fn manifests_applied_once_are_in_both_and_replicas_are_divided_by_weight() -> Result<()> {
    let world = World::joined("spread")?;
    let namespace = &world.namespace;
    world.api().apply(&EXAMPLE.replace("namespace: default", &format!("namespace: {namespace}")))?;
    world.api().apply(&manifests::replica_set(namespace, "stack", 2))?;

    for name in [
        "configmap/web-settings",
        "secret/web-credentials",
        "deployment/web",
        "replicaset/stack",
        "service/web",
    ] {
        world.in_both(name);
    }
    world.divided("deployment/web", [2, 2]);
    world.divided("replicaset/stack", [1, 1]);
    for (_, member) in world.members() {
        assert_eq!(member.field(namespace, "configmap/web-settings", "/data/greeting")?, "hello");
        let label =
            member.field("default", &format!("namespace/{namespace}"), "/metadata/labels/federation-e2e")?;
        assert_eq!(label, "true");
    }

    world.api().apply(&manifests::weights(namespace, "Deployment", "web", 3, 1))?;
    world.divided("deployment/web", [3, 1]);
    world.ready("deployment/web", 4);
    Ok(())
}

#[test]
fn users_of_one_name_are_served_by_real_pods_of_both_places() -> Result<()> {
    let world = World::joined("serve")?;
    let namespace = &world.namespace;
    let port = 30081;
    world.api().apply(
        &(manifests::deployment(namespace, "web", 2) + &manifests::node_port(namespace, "web", port)),
    )?;
    world.ready("deployment/web", 2);

    let user = world.federation.user();
    let host = world.host("web");
    let mut nodes = BTreeSet::new();
    eventually("users were served from Taiwan and from Tokyo", PODS, || {
        let addresses = user.resolve(&host)?;
        for address in &addresses {
            let answer = user.get(&format!("http://{address}:{port}/"))?;
            nodes.extend(
                answer.split_whitespace().find(|word| word.starts_with("node=")).map(ToOwned::to_owned),
            );
        }
        Ok(nodes.len() == 2)
    });
    assert_eq!(nodes, BTreeSet::from(["node=taiwan-node".into(), "node=tokyo-node".into()]));
    Ok(())
}

#[test]
fn a_cluster_that_joins_later_gets_what_was_there_before() -> Result<()> {
    let clusters = federation_tests::Clusters::both()?;
    let federation = federation_tests::Federation::start(&federation_tests::Settings::default())?;
    let namespace = manifests::unique("later");
    federation
        .api()
        .apply(&(manifests::namespace(&namespace) + &manifests::config_map(&namespace, "early", "bird")))?;
    let _agents = federation.join_both(&clusters)?;
    for member in clusters.members() {
        eventually("the ConfigMap has come", SOON, || member.has(&namespace, "configmap/early"));
    }
    Ok(())
}
