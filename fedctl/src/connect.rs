//! How a command finds the federation's API.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use federation_runtime::pki::Identity;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

/// Longest wait for a connection, and for the first answer: a hub of another continent answers sooner.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let is_missing = |error: &KubeconfigError| matches!(error, KubeconfigError::ReadConfig(error, _) if error.kind() == ErrorKind::NotFound);
    Kubeconfig::read_from(path).map_err(|error| {
        let path = path.display();
        let what = if is_missing(&error) {
            format!("{path} does not exist: name the federation with --kubeconfig or --data-dir (or in FEDERATION_KUBECONFIG or FEDERATION_DATA_DIR), or start one with `fedctl up`")
        } else {
            format!("{path} is not a kubeconfig that can be read: restore it, or name another with --kubeconfig")
        };
        anyhow::Error::new(error).context(what)
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
    let unusable = || format!("{} cannot be used", path.display());
    let mut config = kube::Config::from_custom_kubeconfig(read(path)?, &KubeConfigOptions::default())
        .await
        .with_context(unusable)?;
    // What the server says is for whoever waits for it, not to be waited out.
    config.default_retry = false;
    config.connect_timeout = Some(PATIENCE);
    let url = config.cluster_url.clone();
    let client = kube::Client::try_from(config).with_context(unusable)?;
    answers(client, PATIENCE)
        .await
        .with_context(|| format!("the federation's API at {url}, which {} names", path.display()))
}

/// A client of an API that answers within that time. What it refuses, it says of what is asked of it.
async fn answers(client: kube::Client, patience: Duration) -> Result<kube::Client> {
    match tokio::time::timeout(patience, client.apiserver_version()).await {
        Ok(Ok(_) | Err(kube::Error::Api(_))) => Ok(client),
        Ok(Err(error)) if is_unreachable(&error) => Err(error).context(
            "cannot be reached: start the hub (`fedctl up`), or name the federation with --kubeconfig or --data-dir",
        ),
        Ok(Err(error)) => Err(error).context(
            "does not answer as the federation's API does: name the federation with --kubeconfig or --data-dir",
        ),
        Err(_) => bail!("took the connection, and did not answer within {patience:?}"),
    }
}

/// Whether nobody took the connection.
fn is_unreachable(error: &kube::Error) -> bool {
    let error: &(dyn std::error::Error + 'static) = error;
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        // What TLS refuses is an io::Error too.
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() != ErrorKind::InvalidData)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use federation_runtime::errors::Chain;
    use federation_runtime::kubeconfig;
    use federation_runtime::pki::{Authority, Subject};
    use kube::client::Body;

    use super::*;

    async fn refusal(path: &Path) -> String {
        let error = client(path).await.err().unwrap();
        Chain(&*error).to_string()
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_named_with_the_file_that_names_it() {
        federation_runtime::tls::install_provider();
        let data_dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(data_dir.path()).unwrap();
        let admin = authority.load_or_issue(data_dir.path(), "admin", &Subject::admin(), &[]).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = data_dir.path().join("admin.conf");
        let server = format!("https://{nobody}");
        kubeconfig::write(&path, &server, &authority.certificate_pem, "admin", &admin).unwrap();
        let said = refusal(&path).await;
        for part in [server.as_str(), "admin.conf names", "`fedctl up`", "--data-dir", "Connection refused"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        std::fs::write(&path, "").unwrap();
        assert!(refusal(&path).await.contains("admin.conf cannot be used"));
        std::fs::write(&path, "apiVersion: v1\nclusters: [").unwrap();
        let said = refusal(&path).await;
        assert!(said.contains("admin.conf is not a kubeconfig that can be read: restore it"), "{said}");
        let absent = data_dir.path().join("absent.conf");
        let said = refusal(&absent).await;
        for part in ["absent.conf does not exist", "FEDERATION_DATA_DIR"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }

    #[tokio::test]
    async fn who_answers_otherwise_or_not_at_all_is_not_called_unreachable() {
        let said = async |answer: Option<&'static str>| {
            let service = tower::service_fn(move |_: http::Request<Body>| async move {
                match answer {
                    Some(text) => {
                        Ok::<_, tower::BoxError>(http::Response::new(Body::from(text.as_bytes().to_vec())))
                    }
                    None => std::future::pending().await,
                }
            });
            let client = kube::Client::new(service, "default");
            let error = answers(client, Duration::from_millis(50)).await.err().unwrap();
            Chain(&*error).to_string()
        };
        let other = said(Some("<html>a proxy</html>")).await;
        assert!(other.starts_with("does not answer as the federation's API does"), "{other}");
        assert_eq!(said(None).await, "took the connection, and did not answer within 50ms");
    }
}
