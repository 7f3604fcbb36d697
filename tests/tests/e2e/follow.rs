//! (c) Update, scale and delete follow; a delete follows its propagation policy.

use std::time::Duration;

use anyhow::Result;
use federation_tests::{eventually, holds, manifests};

use crate::{SOON, World};

#[test]
fn updates_and_scaling_follow() -> Result<()> {
    let world = World::joined("follow")?;
    let namespace = &world.namespace;
    world.api().apply(
        &(manifests::config_map(namespace, "settings", "one") + &manifests::deployment(namespace, "web", 2)),
    )?;
    world.in_both("configmap/settings");
    world.divided("deployment/web", [1, 1]);

    world.api().apply(&manifests::config_map(namespace, "settings", "two"))?;
    for (site, member) in world.members() {
        eventually(&format!("{site} has the new value"), SOON, || {
            Ok(member.field(namespace, "configmap/settings", "/data/key")? == "two")
        });
    }
    // A key that is taken away goes away: ownership, not merging.
    let patch = r#"{"data":{"key":null,"other":"three"}}"#;
    world.api().kubectl(&["-n", namespace, "patch", "configmap", "settings", "--type=merge", "-p", patch])?;
    for (site, member) in world.members() {
        eventually(&format!("{site} has lost the old key"), SOON, || {
            let data = member.field(namespace, "configmap/settings", "/data")?;
            Ok(data == serde_json::json!({"other": "three"}))
        });
    }

    world.api().kubectl(&["-n", namespace, "scale", "deployment/web", "--replicas=6"])?;
    world.divided("deployment/web", [3, 3]);
    world.api().kubectl(&["-n", namespace, "scale", "deployment/web", "--replicas=0"])?;
    world.divided("deployment/web", [0, 0]);
    Ok(())
}

#[test]
fn kubectls_own_delete_removes_the_copies() -> Result<()> {
    let world = World::joined("delete")?;
    let namespace = &world.namespace;
    world.api().apply(
        &(manifests::config_map(namespace, "settings", "one") + &manifests::deployment(namespace, "web", 2)),
    )?;
    world.in_both("configmap/settings");
    world.in_both("deployment/web");
    world.api().kubectl(&[
        "-n",
        namespace,
        "delete",
        "configmap/settings",
        "deployment/web",
        "--timeout=20s",
    ])?;
    world.in_neither("configmap/settings");
    world.in_neither("deployment/web");
    Ok(())
}

#[test]
fn orphaning_and_a_delete_that_asks_nothing_leave_the_copies() -> Result<()> {
    let world = World::joined("orphan")?;
    let namespace = &world.namespace;
    world.api().apply(
        &(manifests::config_map(namespace, "kept", "one") + &manifests::config_map(namespace, "raw", "one")),
    )?;
    world.in_both("configmap/kept");
    world.in_both("configmap/raw");

    world.api().kubectl(&[
        "-n",
        namespace,
        "delete",
        "configmap/kept",
        "--cascade=orphan",
        "--timeout=20s",
    ])?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/raw");
    let (code, body) = world.api().raw("DELETE", &path, None)?;
    assert!(code == 200 || code == 202, "{code} {body}");

    for name in ["configmap/kept", "configmap/raw"] {
        eventually(&format!("{name} is gone from the federation"), SOON, || {
            Ok(!world.api().has(namespace, name)?)
        });
        for (site, member) in world.members() {
            holds(&format!("{name} stays in {site}"), Duration::from_secs(1), || member.has(namespace, name));
            eventually(&format!("{name} in {site} is nobody's copy any more"), SOON, || {
                Ok(member.field(namespace, name, "/metadata/labels/federation.rs~1managed")?.is_null())
            });
        }
    }
    Ok(())
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() -> Result<()> {
    let world = World::joined("whole")?;
    let namespace = &world.namespace;
    world.api().apply(&manifests::config_map(namespace, "settings", "one"))?;
    world.in_both("configmap/settings");
    world.api().kubectl(&["delete", "namespace", namespace, "--timeout=60s"])?;
    for (site, member) in world.members() {
        eventually(&format!("the namespace is gone from {site}"), Duration::from_secs(60), || {
            Ok(!member.has("default", &format!("namespace/{namespace}"))?)
        });
    }
    Ok(())
}
