//! Cases, as they stand in files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Requests that follow each other, in a namespace of their own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// `FILE/NAME` once it is read.
    pub(super) name: String,
    /// Group versions of ours, and the older ones by which kube-apiserver knows the same kinds.
    #[serde(default)]
    pub(super) kube: BTreeMap<String, String>,
    pub(super) steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// `GET /api/v1/namespaces/<ns>/configmaps`. In angles: `ns`, or what an earlier step saved.
    #[serde(rename = "do")]
    pub(super) request: String,
    /// Sent as JSON.
    #[serde(default)]
    pub(super) body: Option<Value>,
    /// Sent as it is.
    #[serde(default)]
    pub(super) text: Option<String>,
    /// Content-Type; JSON if not given.
    #[serde(default, rename = "type")]
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) accept: Option<String>,
    /// Whom the administrator acts as.
    #[serde(default, rename = "as")]
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Names for values of the answer, by JSON pointer.
    #[serde(default)]
    pub(super) save: BTreeMap<String, String>,
    /// Asks again until the answer has this status code.
    #[serde(default)]
    pub(super) until: Option<u16>,
    /// Asks again until the answer has these values, by JSON pointer.
    #[serde(default)]
    pub(super) until_has: BTreeMap<String, Value>,
    /// What of the body is compared, by JSON pointer; all of it if not given.
    #[serde(default)]
    pub(super) part: Option<String>,
    /// Prepares something whose answer is not what the case is about.
    #[serde(default)]
    pub(super) unseen: bool,
}

/// Reads every file of a folder but the differences, in order.
pub(super) fn load(folder: &Path) -> Result<Vec<Case>> {
    let mut paths: Vec<_> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| path.file_stem().is_some_and(|stem| stem != "differences"))
        .collect();
    paths.sort();
    let mut all: Vec<Case> = Vec::new();
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let cases: Vec<Case> = serde_saphyr::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("cannot read {}", path.display()))?;
        for case in cases {
            let name = format!("{stem}/{}", case.name);
            ensure!(all.iter().all(|other| other.name != name), "two cases are called {name}");
            all.push(Case { name, ..case });
        }
    }
    Ok(all)
}
