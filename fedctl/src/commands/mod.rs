//! One module for each noun.

pub(crate) mod answers;
pub(crate) mod clusters;
pub(crate) mod cordon;
pub(crate) mod dns;
pub(crate) mod drain;
pub(crate) mod drill;
pub(crate) mod failback;
pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod plans;
pub(crate) mod token;
pub(crate) mod traffic;
pub(crate) mod undo;
pub(crate) mod unjoin;

use anyhow::{Result, bail};
use federation_core::api::Cluster;
use kube::Api;

/// The Cluster of that name, or an error that lists the names that there are.
pub(crate) async fn existing(api: &Api<Cluster>, name: &str) -> Result<Cluster> {
    if let Some(cluster) = api.get_opt(name).await? {
        return Ok(cluster);
    }
    let names: Vec<String> =
        api.list(&Default::default()).await?.items.iter().map(|c| c.name().to_owned()).collect();
    if names.is_empty() {
        bail!(
            "there is no cluster {name:?}: none has joined yet; see `fedctl token create --print-join-command`"
        );
    }
    bail!("there is no cluster {name:?}: the members are {}", names.join(", "));
}
