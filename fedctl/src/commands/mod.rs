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
pub(crate) mod output;
pub(crate) mod plans;
pub(crate) mod token;
pub(crate) mod traffic;
pub(crate) mod undo;
pub(crate) mod unjoin;

use anyhow::bail;
use federation_core::api::Cluster;
use kube::Api;

/// A name that a cluster may join under: the hub refuses others.
pub(crate) fn cluster_name(text: &str) -> Result<String, String> {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = !text.starts_with('-') && !text.ends_with('-');
    if (1..=63).contains(&text.len()) && ends && text.bytes().all(inside) {
        return Ok(text.into());
    }
    Err("must be a DNS label (RFC 1123): a-z, 0-9 and '-', at most 63 characters, no '-' at either end"
        .into())
}

/// The Cluster of that name, or an error that lists the names that there are.
pub(crate) async fn existing(api: &Api<Cluster>, name: &str) -> anyhow::Result<Cluster> {
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
