//! (j) Leaving: detached copies stay, and a forgotten cluster is not wiped when it comes back from the dead.

use std::time::Duration;

use anyhow::Result;
use federation_tests::{SITES, eventually, holds, manifests};

use crate::{SOON, World};

#[test]
fn a_detached_cluster_keeps_its_copies_and_is_no_longer_held() -> Result<()> {
    let world = World::joined("detach")?;
    let namespace = &world.namespace;
    world.api().apply(&manifests::config_map(namespace, "settings", "one"))?;
    world.in_both("configmap/settings");
    world.federation.fedctl(&["unjoin", "taiwan", "--mode", "detach", "--timeout", "60"])?;
    let [(_, taiwan), (_, tokyo)] = world.members();
    assert!(taiwan.has(namespace, "configmap/settings")?);
    assert!(
        taiwan.field(namespace, "configmap/settings", "/metadata/labels/federation.rs~1managed")?.is_null()
    );
    world.api().apply(&manifests::config_map(namespace, "settings", "two"))?;
    eventually("Tokyo follows", SOON, || {
        Ok(tokyo.field(namespace, "configmap/settings", "/data/key")? == "two")
    });
    assert_eq!(taiwan.field(namespace, "configmap/settings", "/data/key")?, "one");
    Ok(())
}

#[test]
fn a_drained_cluster_leaves_with_its_copies_removed() -> Result<()> {
    let world = World::joined("leave")?;
    let namespace = &world.namespace;
    world.api().apply(&manifests::config_map(namespace, "settings", "one"))?;
    world.in_both("configmap/settings");
    world.federation.fedctl(&["unjoin", "taiwan", "--mode", "drain", "--timeout", "90"])?;
    let [(_, taiwan), (_, tokyo)] = world.members();
    eventually("Taiwan's copy is gone", SOON, || Ok(!taiwan.has(namespace, "configmap/settings")?));
    assert!(tokyo.has(namespace, "configmap/settings")?);
    Ok(())
}

#[test]
fn a_cluster_that_is_forgotten_while_cut_off_is_not_wiped_when_it_returns() -> Result<()> {
    let world = World::joined("forget")?;
    let namespace = &world.namespace;
    world.api().apply(&manifests::config_map(namespace, "settings", "one"))?;
    world.in_both("configmap/settings");
    let [taiwan, _] = SITES;
    world.clusters.network.cut(taiwan)?;
    eventually("Taiwan is not called healthy", SOON, || Ok(world.federation.verdict("taiwan")? != "Healthy"));
    world.federation.fedctl(&["unjoin", "taiwan", "--mode", "forget", "--timeout", "30"])?;
    assert!(world.api().get("default", "clusters.federation.rs/taiwan")?.is_none());
    world.api().kubectl(&["-n", namespace, "delete", "configmap/settings", "--timeout=20s"])?;

    world.clusters.network.heal(taiwan)?;
    let member = world.clusters.member(taiwan);
    holds("what is in Taiwan stays", Duration::from_secs(8), || member.has(namespace, "configmap/settings"));
    assert!(
        world.api().get("default", "clusters.federation.rs/taiwan")?.is_none(),
        "it does not join by itself"
    );
    Ok(())
}
