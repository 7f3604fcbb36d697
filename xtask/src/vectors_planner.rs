//! `cargo xtask vectors planner FILE`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use federation_core::api::ClusterShare;
use federation_core::planner::{PlanRequest, Preferences, plan};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Vector {
    group: String,
    rebalance: bool,
    preferences: BTreeMap<String, ClusterShare>,
    replicas: i64,
    clusters: Vec<String>,
    current: BTreeMap<String, i64>,
    capacity: BTreeMap<String, i64>,
    key: String,
    plan: BTreeMap<String, i64>,
    overflow: BTreeMap<String, i64>,
}

/// Prints one line for each vector that fails, and then `N passed of M`.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let file: File = serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    let total = file.vectors.len();
    let passed =
        file.vectors.into_iter().enumerate().filter_map(|(index, vector)| passes(index, vector)).count();
    println!("{passed} passed of {total}");
    if passed < total {
        bail!("{} vectors failed", total - passed);
    }
    Ok(())
}

fn passes(index: usize, vector: Vector) -> Option<()> {
    let preferences = Preferences { rebalance: vector.rebalance, clusters: vector.preferences };
    let answer = plan(&PlanRequest {
        preferences: &preferences,
        replicas: vector.replicas,
        clusters: &vector.clusters,
        current: &vector.current,
        capacity: &vector.capacity,
        key: &vector.key,
    });
    if answer.replicas == vector.plan && answer.overflow == vector.overflow {
        return Some(());
    }
    println!("vector {index} ({}) fails:", vector.group);
    println!("  plan     {:?}, expected {:?}", answer.replicas, vector.plan);
    println!("  overflow {:?}, expected {:?}", answer.overflow, vector.overflow);
    None
}
