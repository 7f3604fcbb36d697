//! The options of a delete, which stand in its body or in its query.

use apimachinery::{ApiError, FieldError, FieldPath, FieldReason, field::quoted};
use serde_json::{Value, json};

use super::{Call, decode, parse_errors};
use crate::{deletion::DeleteOptions, http::query};

/// The options, and whether it is a dry run.
pub(super) fn options(call: &Call) -> Result<(DeleteOptions, bool), ApiError> {
    let value = sent_options(call)?;
    let mut errors = Vec::new();
    let asked = value["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let dry_run = query::dry_run(asked, &mut errors);
    let options = DeleteOptions::from_value(&value).map_err(|error| {
        let unsupported = error.message.starts_with("Unsupported value");
        let error = FieldError {
            reason: if unsupported { FieldReason::NotSupported } else { FieldReason::Invalid },
            field: error.field.to_owned(),
            message: error.message,
        };
        ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[error])
    });
    if errors.is_empty() {
        options.map(|options| (options, dry_run))
    } else {
        errors
            .extend(options.err().map(|error| FieldError::forbidden(&FieldPath::default(), &error.message)));
        Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &errors))
    }
}

/// The options as JSON. Where there is a body, kube-apiserver does not look at the query, be it for `dryRun`.
pub(crate) fn sent_options(call: &Call) -> Result<Value, ApiError> {
    if call.body.is_empty() {
        return queried(call);
    }
    let mut value = call.decode_any()?;
    if value.is_null() {
        value = json!({});
    }
    if let Some(error) = parse_errors::no_object(&value) {
        let why = format!("couldn't get version/kind; json parse error: {error}");
        return Err(ApiError::bad_request(why));
    }
    if let Some(why) = decode::untyped(&value).or_else(|| of_another_kind(&value)) {
        return Err(ApiError::bad_request(why));
    }
    let report = call.shared.schemas().validate("", "v1", "DeleteOptions", &value);
    if let Some(first) = report.iter().flat_map(|report| &report.mismatches).next() {
        return Err(ApiError::bad_request(first.to_string()));
    }
    Ok(value)
}

fn queried(call: &Call) -> Result<Value, ApiError> {
    let mut value = json!({});
    let dry_run: Vec<&str> = call.query.all("dryRun").collect();
    if !dry_run.is_empty() {
        value["dryRun"] = json!(dry_run);
    }
    if let Some(policy) = call.query.get("propagationPolicy") {
        value["propagationPolicy"] = policy.into();
    }
    if let Some(seconds) = call.query.number("gracePeriodSeconds")? {
        value["gracePeriodSeconds"] = seconds.into();
    }
    if call.query.get("orphanDependents").is_some() {
        value["orphanDependents"] = call.query.flag("orphanDependents").into();
    }
    Ok(value)
}

/// Kinds that Kubernetes has in every group and version.
const ANYWHERE: [&str; 7] = [
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "CreateOptions",
    "Status",
    "UpdateOptions",
];

/// Those that are in both versions of `meta.k8s.io`, too.
const IN_META: [&str; 4] = ["PartialObjectMetadata", "PartialObjectMetadataList", "Table", "TableOptions"];

/// Those of `meta.k8s.io/v1` alone.
const IN_META_V1: [&str; 4] = ["GetOptions", "ListOptions", "PatchOptions", "WatchEvent"];

/// What is said of a body that is no DeleteOptions; none if it is. They may be of any group.
fn of_another_kind(value: &Value) -> Option<String> {
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version.matches('/').count() > 1 {
        return Some(format!("unexpected GroupVersion string: {version}"));
    }
    if matches!(kind, "" | "DeleteOptions") {
        return None;
    }
    let version = if version.is_empty() { "meta.k8s.io/v1" } else { version };
    let is_known = ANYWHERE.contains(&kind)
        || version.starts_with("meta.k8s.io/v1") && IN_META.contains(&kind)
        || version == "meta.k8s.io/v1" && IN_META_V1.contains(&kind);
    Some(if is_known {
        let beta = version == "meta.k8s.io/v1beta1" && kind == "PartialObjectMetadataList";
        let go = if beta { "v1beta1" } else { "v1" };
        format!("converting ({go}.{kind}) to (v1.DeleteOptions): unknown conversion")
    } else {
        let (kind, version) = (quoted(kind), quoted(version));
        format!(
            r#"no kind {kind} is registered for version {version} in scheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27""#
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kind_is_refused_as_kube_apiserver_refuses_it() {
        let told = |kind: &str, version: &str| of_another_kind(&json!({"kind": kind, "apiVersion": version}));
        for (kind, version) in
            [("DeleteOptions", "v1"), ("DeleteOptions", "other.io/v7"), ("", "v1"), ("", "")]
        {
            assert_eq!(told(kind, version), None, "{kind} {version}");
        }
        let within = r#"in scheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27""#;
        for (kind, version, shown) in
            [("Pod", "v1", "v1"), ("Pod", "", "meta.k8s.io/v1"), ("ListOptions", "v1", "v1")]
        {
            let expect = format!("no kind {kind:?} is registered for version {shown:?} {within}");
            assert_eq!(told(kind, version), Some(expect));
        }
        for (kind, version) in [("Status", "apps/v1"), ("ListOptions", ""), ("Table", "meta.k8s.io/v1beta1")]
        {
            let expect = format!("converting (v1.{kind}) to (v1.DeleteOptions): unknown conversion");
            assert_eq!(told(kind, version), Some(expect));
        }
        assert_eq!(told("Pod", "a/b/c").as_deref(), Some("unexpected GroupVersion string: a/b/c"));
    }
}
