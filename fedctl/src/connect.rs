//! How a command finds the federation's API.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Where the federation is.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// Kubeconfig of the federation; DIR/admin.conf if not given.
    #[arg(long, env = "FEDERATION_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The federation's data directory.
    #[arg(long, env = "FEDERATION_DATA_DIR", default_value = "federation", value_name = "DIR")]
    pub data_dir: PathBuf,
}

impl Connection {
    fn path(&self) -> PathBuf {
        self.kubeconfig.clone().unwrap_or_else(|| self.data_dir.join("admin.conf"))
    }

    /// A client of the federation's API.
    ///
    /// # Errors
    /// When there is no kubeconfig, or it cannot be used.
    pub async fn client(&self) -> Result<kube::Client> {
        client(&self.path()).await
    }
}

fn read(path: &Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(path).with_context(|| {
        format!("{} cannot be read: name the federation with --kubeconfig or --data-dir, or start one with `fedctl up`", path.display())
    })
}

/// A client from a kubeconfig file.
///
/// # Errors
/// When the file cannot be used.
pub async fn client(path: &Path) -> Result<kube::Client> {
    let config = kube::Config::from_custom_kubeconfig(read(path)?, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
