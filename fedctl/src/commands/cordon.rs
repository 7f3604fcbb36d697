//! `fedctl cordon NAME` and `fedctl uncordon NAME`

use anyhow::Result;
use federation_core::api::{Cluster, Taint, TaintEffect, marks};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::existing;
use crate::connect::Connection;

/// Options of both.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// The cluster.
    cluster: String,
}

/// What a cluster is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything.
    Open,
    /// Nothing new.
    Cordoned,
    /// Nothing: what is there moves away.
    Drained,
}

pub(crate) async fn run(options: Options, wanted: Wanted) -> Result<()> {
    let api: Api<Cluster> = Api::all(options.connection.client().await?);
    set(&api, &options.cluster, wanted).await?;
    let done = if wanted == Wanted::Open { "uncordoned" } else { "cordoned" };
    println!("cluster/{} {done}", options.cluster);
    Ok(())
}

/// Writes what a cluster is to take. Taints that others set stay.
///
/// # Errors
/// When there is no such cluster, somebody else changed it at the same time, or the write fails.
pub(crate) async fn set(api: &Api<Cluster>, name: &str, wanted: Wanted) -> Result<()> {
    let cluster = existing(api, name).await?;
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch(&cluster, wanted))).await?;
    Ok(())
}

/// The merge patch for that. A drain goes on when the cluster is cordoned: only `uncordon` ends it.
fn patch(cluster: &Cluster, wanted: Wanted) -> Value {
    let mut taints = cluster.spec.taints.clone();
    if wanted != Wanted::Cordoned {
        taints.retain(|taint| taint.key != marks::DRAIN_TAINT);
    }
    if wanted == Wanted::Drained {
        taints.push(Taint {
            key: marks::DRAIN_TAINT.into(),
            value: String::new(),
            effect: TaintEffect::NoExecute,
        });
    }
    json!({
        "metadata": {"resourceVersion": cluster.metadata.resource_version},
        "spec": {"cordoned": wanted != Wanted::Open, "taints": taints},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster with the taints of these keys.
    fn cluster(cordoned: bool, taints: &[&str]) -> Cluster {
        let taint = |key: &&str| json!({"key": key, "effect": "NoExecute"});
        let spec = json!({"cordoned": cordoned, "taints": taints.iter().map(taint).collect::<Vec<_>>()});
        serde_json::from_value(json!({"metadata": {"name": "taiwan", "resourceVersion": "7"}, "spec": spec}))
            .expect("a Cluster")
    }

    #[track_caller]
    fn check(before: &Cluster, wanted: Wanted, cordoned: bool, taints: &[&str]) {
        let patch = patch(before, wanted);
        let keys: Vec<&str> = patch["spec"]["taints"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|taint| taint["key"].as_str())
            .collect();
        assert_eq!((patch["spec"]["cordoned"].as_bool(), keys.as_slice()), (Some(cordoned), taints));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn a_cluster_that_is_being_drained_stays_drained_when_it_is_cordoned() {
        check(&cluster(true, &[marks::DRAIN_TAINT]), Wanted::Cordoned, true, &[marks::DRAIN_TAINT]);
        check(&cluster(false, &["other"]), Wanted::Cordoned, true, &["other"]);
    }

    #[test]
    fn uncordon_ends_a_drain_and_leaves_other_taints() {
        check(&cluster(true, &["other", marks::DRAIN_TAINT]), Wanted::Open, false, &["other"]);
    }

    #[test]
    fn draining_twice_is_draining_once() {
        let before = cluster(false, &["other", marks::DRAIN_TAINT]);
        check(&before, Wanted::Drained, true, &["other", marks::DRAIN_TAINT]);
    }
}
