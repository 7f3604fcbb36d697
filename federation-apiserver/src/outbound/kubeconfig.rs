//! Webhooks that are described by a kubeconfig: its cluster is the other server, its user is this one.

use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use federation_runtime::pki::Identity;
use serde_json::Value;

use super::{Credentials, Destination, Server, Trust};

/// A kubeconfig that describes no server to call.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct KubeconfigError {
    path: PathBuf,
    why: String,
}

/// The server that the current context of a kubeconfig names.
pub(crate) fn from_kubeconfig(path: &Path) -> Result<Server, KubeconfigError> {
    let failed = |why: String| KubeconfigError { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    read(&text, folder).map_err(failed)
}

fn read(text: &str, folder: &Path) -> Result<Server, String> {
    let config: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let named = |list: &str, kind: &str, name: &Value| {
        let mut entries = config[list].as_array().into_iter().flatten();
        entries.find(|entry| entry["name"] == *name).map(|entry| entry[kind].clone())
    };
    let current = &config["current-context"];
    let context =
        named("contexts", "context", current).ok_or("its current-context is not among its contexts")?;
    let cluster =
        named("clusters", "cluster", &context["cluster"]).ok_or("the context's cluster is not there")?;
    let user = named("users", "user", &context["user"]).unwrap_or_default();
    // Inside, or in a file beside it.
    let content = |from: &Value, name: &str| -> Result<Option<String>, String> {
        let inside = from[format!("{name}-data")].as_str().filter(|data| !data.is_empty());
        if let Some(data) = inside {
            let bytes =
                BASE64_STANDARD.decode(data).map_err(|error| format!("{name}-data is no base64: {error}"))?;
            return String::from_utf8(bytes).map(Some).map_err(|_| format!("{name}-data is no PEM"));
        }
        from[name].as_str().filter(|file| !file.is_empty()).map(|file| file_of(folder, file)).transpose()
    };
    let ca_pem = content(&cluster, "certificate-authority")?;
    let identity = match (content(&user, "client-certificate")?, content(&user, "client-key")?) {
        (Some(certificate_pem), Some(key_pem)) => Some(Identity { certificate_pem, key_pem }),
        (None, None) => None,
        _ => return Err("client-certificate and client-key need each other".to_owned()),
    };
    let token = match user["token"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => Some(token.to_owned()),
        None => user["tokenFile"]
            .as_str()
            .map(|file| file_of(folder, file))
            .transpose()?
            .map(|token| token.trim().to_owned()),
    };
    let place = Destination::from_url(cluster["server"].as_str().ok_or("the cluster names no server")?)?;
    let trust = if cluster["insecure-skip-tls-verify"] == true {
        Trust::Anybody
    } else {
        Trust::Authority(ca_pem.as_deref())
    };
    Server::new(place, trust, &Credentials { identity, token })
}

fn file_of(folder: &Path, name: &str) -> Result<String, String> {
    std::fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"))
}
