//! How a command finds the federation's API.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use federation_runtime::pki::Identity;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Where the federation is.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// Kubeconfig of the federation; admin.conf in the data directory if not given.
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

    /// The authority and the client certificate to present to the hub: the data directory's, else the kubeconfig's. Where the API is a plain
    /// kube-apiserver, the kubeconfig is from another authority, and the hub accepts only the former.
    ///
    /// # Errors
    /// When neither has them.
    pub fn identity(&self) -> Result<(String, Identity)> {
        let pki = self.data_dir.join("pki");
        if let Ok(identity) = Identity::load(&pki, "admin") {
            let path = pki.join("ca.crt");
            let authority = std::fs::read_to_string(&path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            return Ok((authority, identity));
        }
        of_kubeconfig(&self.path())
    }

    /// The name of the user that the client certificate is for.
    pub fn user(&self) -> Option<String> {
        let (_, identity) = of_kubeconfig(&self.path()).ok()?;
        identity.peer().ok().map(|peer| peer.user)
    }
}

fn read(path: &Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(path).with_context(|| {
        format!("{} cannot be read: name the federation with --kubeconfig or --data-dir, or start one with `fedctl up`", path.display())
    })
}

/// Authority and client certificate of a kubeconfig's current context.
fn of_kubeconfig(path: &Path) -> Result<(String, Identity)> {
    // As JSON: kube keeps the key as a secret, and we are who it is for.
    let config = serde_json::to_value(read(path)?)?;
    let named = |list: &str, name: &serde_json::Value| {
        config[list].as_array().into_iter().flatten().find(|entry| entry["name"] == *name).cloned()
    };
    let context = named("contexts", &config["current-context"]).unwrap_or_default();
    let cluster = named("clusters", &context["context"]["cluster"]).unwrap_or_default();
    let user = named("users", &context["context"]["user"]).unwrap_or_default();
    let pem = |entry: &serde_json::Value, field: &str| -> Result<String> {
        if let Some(data) = entry[format!("{field}-data")].as_str() {
            use base64::Engine as _;
            return Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data)?)?);
        }
        let file = entry[field].as_str().with_context(|| {
            format!("{} has no {field}: name the federation's --data-dir, whose pki/ has one", path.display())
        })?;
        std::fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))
    };
    let identity = Identity {
        certificate_pem: pem(&user["user"], "client-certificate")?,
        key_pem: pem(&user["user"], "client-key")?,
    };
    Ok((pem(&cluster["cluster"], "certificate-authority")?, identity))
}

/// A client from a kubeconfig file.
///
/// # Errors
/// When the file cannot be used.
pub async fn client(path: &Path) -> Result<kube::Client> {
    let config = kube::Config::from_custom_kubeconfig(read(path)?, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
