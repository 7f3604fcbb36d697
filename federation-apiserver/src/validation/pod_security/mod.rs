//! The Pod Security Standards (KEP-2579): what a namespace's labels say that its pods may not do.
//!
//! [`Policy::of`] reads the labels, [`check`] says what is wrong with a pod by a level. Which pods are asked about, and what becomes of the
//! answer, is admission's part.

mod baseline;
mod restricted;
mod wording;

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldPath, labels::Labels};
use serde_json::Value;

use crate::registry::ErrorList;

/// How much is allowed, from all to little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level, by the rules of a minor version of Kubernetes 1; the newest if none is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standard {
    pub(crate) level: Level,
    pub(crate) minor: Option<u32>,
}

impl Standard {
    const ALL: Self = Self { level: Level::Privileged, minor: None };

    /// Whether the rules are of this minor version, or newer.
    fn since(self, minor: u32) -> bool {
        self.minor.is_none_or(|own| own >= minor)
    }
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

/// What a namespace asks for: what pods are refused by, what is noted in the audit log, and what writers are warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) enforce: Standard,
    pub(crate) audit: Standard,
    pub(crate) warn: Standard,
}

impl Policy {
    /// Reads the labels of a namespace, and tells what is wrong with them: `api.PolicyToEvaluate`.
    pub(crate) fn of(labels: &Labels) -> (Self, ErrorList) {
        let mut policy = Self { enforce: Standard::ALL, audit: Standard::ALL, warn: Standard::ALL };
        let mut errors = ErrorList::new();
        let mut enforced = false;
        for (mode, standard) in
            [("enforce", &mut policy.enforce), ("audit", &mut policy.audit), ("warn", &mut policy.warn)]
        {
            let label = format!("pod-security.kubernetes.io/{mode}");
            if let Some(level) = labels.get(&label) {
                match level_of(level) {
                    Some(level) => {
                        standard.level = level;
                        enforced |= mode == "enforce";
                    }
                    None => {
                        // What cannot be read refuses all that may be refused, and stands in nobody's way otherwise.
                        standard.level =
                            if mode == "enforce" { Level::Restricted } else { Level::Privileged };
                        let message = "must be one of privileged, baseline, restricted";
                        errors.push(FieldError::invalid(&place(&label), level.as_str(), message));
                    }
                }
            }
            let label = format!("{label}-version");
            if let Some(version) = labels.get(&label) {
                match minor_of(version) {
                    Ok(minor) => standard.minor = minor,
                    Err(message) => {
                        errors.push(FieldError::invalid(&place(&label), version.as_str(), message));
                    }
                }
            }
        }
        // What will be refused in pods is worth a warning where they are made.
        let warned = labels.contains_key("pod-security.kubernetes.io/warn");
        if !warned && enforced && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !labels.contains_key("pod-security.kubernetes.io/warn-version") {
                policy.warn.minor = policy.enforce.minor;
            }
        }
        (policy, errors)
    }
}

fn place(label: &str) -> FieldPath {
    FieldPath::new("metadata.labels").key(label)
}

fn level_of(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

/// The minor version of `v1.x`, none of `latest`; or what is wrong with the text.
fn minor_of(text: &str) -> Result<Option<u32>, &'static str> {
    const WRONG: &str = "must be \"latest\" or \"v1.x\"";
    if text == "latest" {
        return Ok(None);
    }
    let digits = text.strip_prefix("v1.").ok_or(WRONG)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || digits.len() > 1 && digits.starts_with('0') {
        return Err(WRONG);
    }
    digits.parse().map(Some).map_err(|_| WRONG)
}

/// What is wrong with a pod: in a word, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    reason: String,
    detail: String,
}

impl Violation {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into() }
    }
}

/// Finds what is wrong with a pod, or a template of pods, by a standard: what every level forbids first.
pub(crate) fn check(standard: Standard, metadata: &Value, spec: &Value) -> Vec<Violation> {
    match standard.level {
        Level::Privileged => Vec::new(),
        Level::Baseline => baseline::check(standard, metadata, spec),
        Level::Restricted => {
            let mut found = baseline::check(standard, metadata, spec);
            found.extend(restricted::check(standard, spec));
            found
        }
    }
}

/// Violations in one line, with details.
pub(crate) fn details(violations: &[Violation]) -> String {
    let told = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// What is wrong with pods that are in a namespace already, the first ones of `all`: `EvaluatePodsInNamespace`.
pub(crate) fn survey(
    namespace: &str,
    standard: Standard,
    all: usize,
    pods: impl Iterator<Item = Value>,
) -> Vec<String> {
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut checked = 0;
    for pod in pods.take(MOST_PODS) {
        checked += 1;
        let violations = check(standard, &pod["metadata"], &pod["spec"]);
        if violations.is_empty() {
            continue;
        }
        let reasons: Vec<_> = violations.into_iter().map(|violation| violation.reason).collect();
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let (first, count) = found.entry(reasons.join(", ")).or_insert_with(|| (name.to_owned(), 0));
        *count += 1;
        if name < first.as_str() {
            name.clone_into(first);
        }
    }
    let mut warnings = Vec::new();
    if checked < all {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {all} existing pods"
        ));
    }
    if found.is_empty() {
        return warnings;
    }
    warnings.push(format!(
        "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
    ));
    let mut told: Vec<_> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    told.sort();
    warnings.extend(told);
    warnings
}

/// Pods of a namespace that are looked at when its level changes: kube-apiserver's `defaultNamespaceMaxPodsToCheck`.
const MOST_PODS: usize = 3000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(mode, value)| (format!("pod-security.kubernetes.io/{mode}"), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_namespace_says_what_its_pods_may_not_do() {
        let (policy, errors) = Policy::of(&labels(&[("enforce", "baseline"), ("enforce-version", "v1.25")]));
        assert_eq!(*errors, []);
        assert_eq!(policy.enforce.to_string(), "baseline:v1.25");
        assert_eq!(policy.warn.to_string(), "baseline:v1.25", "what is enforced is warned of");
        assert_eq!(policy.audit.to_string(), "privileged:latest");
        let (policy, _) = Policy::of(&labels(&[("enforce", "restricted"), ("warn", "privileged")]));
        assert_eq!(policy.warn.to_string(), "privileged:latest");
    }

    #[test]
    fn labels_that_cannot_be_read_are_told() {
        let (policy, errors) =
            Policy::of(&labels(&[("enforce", "x"), ("warn", "y"), ("audit-version", "v1.07")]));
        assert_eq!(policy.enforce.to_string(), "restricted:latest");
        assert_eq!(policy.warn.to_string(), "privileged:latest");
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "x": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: "v1.07": must be "latest" or "v1.x""#,
                r#"metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "y": must be one of privileged, baseline, restricted"#,
            ]
        );
    }

    #[test]
    fn pods_that_are_there_already_are_counted_by_what_is_wrong() {
        let pod = |name: &str, network: bool| json!({"metadata": {"name": name}, "spec": {"hostNetwork": network, "containers": [{"name": "c"}]}});
        let standard = Standard { level: Level::Baseline, minor: None };
        let pods = [pod("b", true), pod("a", true), pod("c", false)];
        assert_eq!(
            survey("demo", standard, pods.len(), pods.into_iter()),
            [
                r#"existing pods in namespace "demo" violate the new PodSecurity enforce level "baseline:latest""#,
                "a (and 1 other pod): host namespaces",
            ]
        );
    }

    #[test]
    fn so_many_pods_are_looked_at_and_no_more() {
        let standard = Standard { level: Level::Baseline, minor: None };
        let mut read = 0;
        let pods = (0..5000).map(|_| {
            read += 1;
            json!({})
        });
        assert_eq!(
            survey("demo", standard, 5000, pods),
            ["new PodSecurity enforce level only checked against the first 3000 of 5000 existing pods"]
        );
        assert_eq!(read, 3000);
    }
}
