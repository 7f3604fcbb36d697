//! The kubeconfig file of one identity, with everything inside.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::files::{self, Access};
use crate::pki::Identity;

/// The server of a kubeconfig that [`write`] has written. None if there is none at `path`, or it is of somebody else.
pub fn server(path: &Path) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    config.pointer("/clusters/0/cluster/server")?.as_str().map(str::to_owned)
}

/// Writes a kubeconfig at `path`, mode 0600, for `identity` at `server` (a URL), trusting `ca_pem`.
pub fn write(
    path: &Path,
    server: &str,
    ca_pem: &str,
    user: &str,
    identity: &Identity,
) -> std::io::Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "federation",
        "clusters": [{"name": "federation", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "contexts": [{"name": "federation", "context": {"cluster": "federation", "user": user}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
            "client-key-data": STANDARD.encode(&identity.key_pem),
        }}],
    });
    // JSON is YAML, and every reader of kubeconfigs takes it.
    let text = serde_json::to_vec_pretty(&config)?;
    files::replace(path, &text, Access::Private)
}
