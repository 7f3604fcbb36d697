//! What the writer of a pod is warned of where files of its volumes would stand in each other's place (`warningsForOverlappingVirtualPaths`).

use std::{
    collections::{BTreeSet, HashSet},
    ops::Bound,
};

use apimachinery::{FieldPath, field::quoted};
use serde_json::Value;

use super::{items, text};

/// Of the volumes of a spec that stands at `path`.
pub(super) fn warn(spec: &Value, path: &FieldPath, warnings: &mut Vec<String>) {
    for volume in items(spec, "volumes") {
        overlaps(volume, warnings);
    }
    beside_tokens(spec, &path.child("volumes"), warnings);
}

/// Paths that a source names, one for each file.
fn paths(source: &Value) -> Vec<&str> {
    items(source, "items").map(|item| text(item, "path")).collect()
}

fn overlaps(volume: &Value, warnings: &mut Vec<String>) {
    let name = quoted(text(volume, "name"));
    for (field, title, of) in [
        ("configMap", "ConfigMap", "name"),
        ("secret", "Secret", "secretName"),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        let source = &volume[field];
        let of = if of.is_empty() { String::new() } else { format!(" {}", quoted(text(source, of))) };
        let told = format!("volume {name} ({title}{of}): overlapping paths");
        Paths::default().add(paths(source), &told, warnings);
    }
    let mut all = Paths::default();
    for source in items(&volume["projected"], "sources") {
        if source.as_object().is_some_and(serde_json::Map::is_empty) {
            warnings.push(format!("volume {name} (Projected) has no sources provided"));
        }
        let (bundle, token) = (&source["clusterTrustBundle"], &source["serviceAccountToken"]);
        let (paths, what) = if source["configMap"].is_object() {
            (paths(&source["configMap"]), format!("ConfigMap {}", quoted(text(&source["configMap"], "name"))))
        } else if source["secret"].is_object() {
            (paths(&source["secret"]), format!("Secret {}", quoted(text(&source["secret"], "name"))))
        } else if source["downwardAPI"].is_object() {
            (paths(&source["downwardAPI"]), "DownwardAPI".to_owned())
        } else if token.is_object() {
            (vec![text(token, "path")], "ServiceAccountToken".to_owned())
        } else if bundle.is_object() {
            let called = bundle["name"].as_str().unwrap_or_else(|| text(bundle, "signerName"));
            (vec![text(bundle, "path")], format!("ClusterTrustBundle {}", quoted(called)))
        } else {
            continue;
        };
        let told = format!("volume {name} (Projected {what}): overlapping paths");
        all.add(paths, &told, warnings);
    }
}

/// Paths that files have already.
#[derive(Default)]
struct Paths<'a>(BTreeSet<&'a str>);

/// Paths above another one that are looked at: few are that deep.
const DEPTH: usize = 64;

impl<'a> Paths<'a> {
    fn add(&mut self, paths: Vec<&'a str>, told: &str, warnings: &mut Vec<String>) {
        for path in paths {
            let path = path.trim_end_matches('/');
            if path.is_empty() {
                continue;
            }
            if let Some(other) = self.like(path) {
                warnings.push(format!("{told}: {} with {}", quoted(path), quoted(other)));
            }
            self.0.insert(path);
        }
    }

    /// One that begins as this one does, or the other way about. kube-apiserver does not ask whether the rest is the name of a file.
    fn like(&self, path: &str) -> Option<&'a str> {
        let mut after = self.0.range::<str, _>((Bound::Included(path), Bound::Unbounded));
        if let Some(below) = after.next().filter(|other| other.starts_with(path)) {
            return Some(below);
        }
        // What this one begins with stands before it, and all between the two begins so as well.
        let mut end = path;
        for _ in 0..DEPTH {
            let before = self.0.range::<str, _>((Bound::Unbounded, Bound::Included(end))).next_back()?;
            if path.starts_with(before) {
                return Some(before);
            }
            let mut shared = before.bytes().zip(end.bytes()).take_while(|(one, other)| one == other).count();
            while !end.is_char_boundary(shared) {
                shared -= 1;
            }
            end = end.get(..shared)?;
        }
        None
    }
}

/// Files that stand where the token of the pod's account is to be.
fn beside_tokens(spec: &Value, path: &FieldPath, warnings: &mut Vec<String>) {
    let tokens: HashSet<&str> = items(spec, "volumes")
        .flat_map(|volume| items(&volume["projected"], "sources"))
        .filter(|source| source["serviceAccountToken"].is_object())
        .map(|source| text(&source["serviceAccountToken"], "path"))
        .collect();
    if tokens.is_empty() {
        return;
    }
    let mut tell = |place: &FieldPath, path: &str| {
        if tokens.contains(path) {
            let path = quoted(path);
            warnings.push(format!("{}: has duplicated path with ServiceAccountToken {path}", place.as_str()));
        }
    };
    for (index, volume) in items(spec, "volumes").enumerate() {
        let place = path.index(index).child("projected").child("sources");
        for source in items(&volume["projected"], "sources") {
            // The places are named as kube-apiserver names them.
            for (field, called) in
                [("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")]
            {
                for (at, path) in paths(&source[field]).into_iter().enumerate() {
                    tell(&place.child(called).index(at), path);
                }
            }
            if source["clusterTrustBundle"].is_object() {
                tell(&place.child("ClusterTrustBundle"), text(&source["clusterTrustBundle"], "path"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(volumes: Value, expect: &[&str]) {
        let mut warnings = Vec::new();
        warn(&json!({"volumes": volumes}), &FieldPath::new("spec"), &mut warnings);
        assert_eq!(warnings, expect);
    }

    fn files(paths: &[&str]) -> Value {
        paths.iter().map(|path| json!({"key": "k", "path": path})).collect()
    }

    #[test]
    fn files_do_not_stand_in_each_others_place() {
        told(json!([{"name": "v", "configMap": {"name": "m", "items": files(&["a/b", "a/c", "d"])}}]), &[]);
        told(
            json!([{"name": "v", "configMap": {"name": "m", "items": files(&["a/b", "a/", "d/e/f", "d/e/f/g", "d/e/f"])}}]),
            &[
                r#"volume "v" (ConfigMap "m"): overlapping paths: "a" with "a/b""#,
                r#"volume "v" (ConfigMap "m"): overlapping paths: "d/e/f/g" with "d/e/f""#,
                r#"volume "v" (ConfigMap "m"): overlapping paths: "d/e/f" with "d/e/f""#,
            ],
        );
        told(
            json!([{"name": "v", "projected": {"sources": [
                {"secret": {"name": "s", "items": files(&["é", "x"])}}, {"downwardAPI": {"items": files(&["éa", "ê"])}}, {},
            ]}}]),
            &[
                r#"volume "v" (Projected DownwardAPI): overlapping paths: "éa" with "é""#,
                r#"volume "v" (Projected) has no sources provided"#,
            ],
        );
    }

    #[test]
    fn nothing_stands_where_the_token_is_to_be() {
        told(
            json!([{"name": "v", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"secret": {"name": "s", "items": files(&["a", "token"])}},
            ]}}]),
            &[
                r#"volume "v" (Projected Secret "s"): overlapping paths: "token" with "token""#,
                r#"spec.volumes[0].projected.sources.secrets[1]: has duplicated path with ServiceAccountToken "token""#,
            ],
        );
    }

    #[test]
    fn many_files_are_told_apart_at_once() {
        let paths: Vec<_> = (0..50_000).map(|number| format!("d/{number:06}")).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        told(json!([{"name": "v", "secret": {"secretName": "s", "items": files(&paths)}}]), &[]);
    }
}
