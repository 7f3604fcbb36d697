//! Removals that wait for a person, and what comes back from the trash, by the commands that operators use.

use anyhow::{Context as _, Result};
use federation_tests::{eventually, manifests};

use crate::{SOON, World};

/// The first word of the first line that holds `text`.
fn first_word_of(table: &str, text: &str) -> Result<String> {
    let line = table.lines().find(|line| line.contains(text));
    let line = line.with_context(|| format!("no line of it holds {text:?}:\n{table}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

#[test]
fn a_namespace_over_budget_waits_for_fedctl_confirm_and_returns_by_fedctl_undo() -> Result<()> {
    let world = World::joined("gate")?;
    let namespace = &world.namespace;
    let budget = "apiVersion: federation.rs/v1alpha1\nkind: DeletionBudget\nmetadata: {name: small}\nspec: {objects: 3}\n---\n";
    world.api().apply(
        &(budget.to_owned()
            + &manifests::config_map(namespace, "settings", "one")
            + &manifests::config_map(namespace, "others", "two")),
    )?;
    world.in_both("configmap/settings");
    world.in_both("configmap/others");
    world.api().kubectl(&["delete", "namespace", namespace, "--wait=false"])?;

    let cause = format!("Namespace {namespace}");
    let mut id = String::new();
    eventually("the deletion is held", SOON, || {
        id = first_word_of(&world.federation.fedctl(&["gate", "list"])?, &cause)?;
        Ok(true)
    });
    world.in_both("configmap/settings");
    eventually("the log says why", SOON, || {
        Ok(world.federation.fedctl(&["gate", "log"])?.contains("without a person's word"))
    });
    let unknown = world.federation.fedctl_outcome(&["confirm", "0123"])?;
    assert!(!unknown.success && unknown.stderr.contains("fedctl gate list"), "{}", unknown.stderr);

    world.federation.fedctl(&["confirm", &id])?;
    world.in_neither("configmap/settings");
    eventually("the Namespace is gone", SOON, || {
        Ok(!world.api().has("default", &format!("namespace/{namespace}"))?)
    });

    let trash = world.federation.fedctl(&["trash"])?;
    assert!(trash.contains("settings") && trash.contains("others"), "{trash}");
    for (site, member) in world.members() {
        eventually(&format!("the Namespace is gone from {site} too"), SOON, || {
            Ok(!member.has("default", &format!("namespace/{namespace}"))?)
        });
    }
    world.federation.fedctl(&["undo", "--namespace", namespace])?;
    world.in_both("configmap/settings");
    world.in_both("configmap/others");
    for (_, member) in world.members() {
        assert_eq!(member.field(namespace, "configmap/settings", "/data/key")?, "one");
    }
    Ok(())
}
