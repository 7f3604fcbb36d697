//! `/version`.

use serde::Serialize;

/// The Kubernetes version whose behaviour is followed, with our own version behind it.
pub(crate) const GIT_VERSION: &str = concat!("v1.36.2+federation.", env!("CARGO_PKG_VERSION"));

pub(crate) const MAJOR: &str = "1";
pub(crate) const MINOR: &str = "36";

/// The commit that a release is built from; empty if its sources do not tell.
const GIT_COMMIT: &str = env!("FEDERATION_GIT_COMMIT");

/// `version.Info`, with its fields in the order in which kube-apiserver writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    major: &'static str,
    minor: &'static str,
    emulation_major: &'static str,
    emulation_minor: &'static str,
    min_compatibility_major: &'static str,
    min_compatibility_minor: &'static str,
    git_version: &'static str,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
}

/// Whether the sources were those of the commit nobody knows, and there is no Go in it.
pub(crate) fn info() -> Info {
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    Info {
        major: MAJOR,
        minor: MINOR,
        emulation_major: MAJOR,
        emulation_minor: MINOR,
        min_compatibility_major: "1",
        min_compatibility_minor: "35",
        git_version: GIT_VERSION,
        git_commit: GIT_COMMIT,
        git_tree_state: "",
        build_date: "1970-01-01T00:00:00Z",
        go_version: "",
        compiler: "rustc",
        platform: format!("{}/{architecture}", std::env::consts::OS),
    }
}
