//! `/version`.

use serde_json::{Value, json};

/// The Kubernetes version whose behaviour is followed, with our own version behind it.
pub(crate) const GIT_VERSION: &str = concat!("v1.36.2+federation.", env!("CARGO_PKG_VERSION"));

pub(crate) const MAJOR: &str = "1";
pub(crate) const MINOR: &str = "36";

/// The commit that a release is built from; empty if its sources do not tell.
const GIT_COMMIT: &str = env!("FEDERATION_GIT_COMMIT");

/// `version.Info`. Whether the sources were those of the commit nobody knows, and there is no Go in it.
pub(crate) fn info() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": GIT_COMMIT,
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }),
    })
}
