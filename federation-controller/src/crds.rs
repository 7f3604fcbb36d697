//! The federation's kinds as CustomResourceDefinitions, for a control plane on a plain kube-apiserver.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use federation_core::api::{
    ClientRegionsSpec, ClientRegionsStatus, ClusterSpec, ClusterStatus, DNSRecordSetSpec, DNSRecordSetStatus,
    DNSZoneSpec, DNSZoneStatus, DeletionBudgetSpec, FailoverDrillSpec, FailoverDrillStatus, GROUP,
    HeldRemovalSpec, PlacementPolicySpec, PlacementSpec, PlacementStatus, PolicyStatus, SafetyStatus,
    TrafficPolicySpec, TrafficPolicyStatus, TrashSpec, VERSION,
};

/// One CustomResourceDefinition for each kind of group `federation.rs`.
pub fn crds() -> Vec<Value> {
    let placement_columns = json!([
        {"name": "Clusters", "type": "string", "jsonPath": ".spec.clusters[*].name"},
        {"name": "Replicas", "type": "string", "jsonPath": ".spec.clusters[*].replicas"},
        {"name": "Policy", "type": "string", "jsonPath": ".spec.policy"},
        {"name": "Epoch", "type": "integer", "jsonPath": ".spec.epoch"},
    ]);
    let cluster_columns = json!([
        {"name": "Region", "type": "string", "jsonPath": ".spec.region"},
        {"name": "Verdict", "type": "string", "jsonPath": ".status.verdict"},
        {"name": "Cordoned", "type": "boolean", "jsonPath": ".spec.cordoned"},
        {"name": "Version", "type": "string", "jsonPath": ".status.kubernetesVersion"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    vec![
        crd::<ClusterSpec, ClusterStatus>("Cluster", "clusters", "Cluster", &["fcl"], cluster_columns),
        crd::<PlacementSpec, PlacementStatus>(
            "Placement",
            "placements",
            "Namespaced",
            &["pl"],
            placement_columns.clone(),
        ),
        crd::<PlacementSpec, PlacementStatus>(
            "ClusterPlacement",
            "clusterplacements",
            "Cluster",
            &["cpl"],
            placement_columns,
        ),
        crd::<PlacementPolicySpec, PolicyStatus>(
            "PlacementPolicy",
            "placementpolicies",
            "Namespaced",
            &["pp"],
            json!([]),
        ),
        crd::<PlacementPolicySpec, PolicyStatus>(
            "ClusterPlacementPolicy",
            "clusterplacementpolicies",
            "Cluster",
            &["cpp"],
            json!([]),
        ),
        crd::<DNSZoneSpec, DNSZoneStatus>("DNSZone", "dnszones", "Cluster", &["fdz"], json!([])),
        crd::<DNSRecordSetSpec, DNSRecordSetStatus>(
            "DNSRecordSet",
            "dnsrecordsets",
            "Namespaced",
            &["fdr"],
            json!([]),
        ),
        crd::<TrafficPolicySpec, TrafficPolicyStatus>(
            "TrafficPolicy",
            "trafficpolicies",
            "Namespaced",
            &["tp"],
            json!([
                {"name": "Service", "type": "string", "jsonPath": ".spec.service"},
                {"name": "Strategy", "type": "string", "jsonPath": ".spec.strategy"},
                {"name": "Answering", "type": "string", "jsonPath": ".status.answering"},
                {"name": "Epoch", "type": "integer", "jsonPath": ".status.epoch"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            ]),
        ),
        crd::<ClientRegionsSpec, ClientRegionsStatus>(
            "ClientRegions",
            "clientregions",
            "Cluster",
            &["fcr"],
            json!([
                {"name": "Prefixes", "type": "integer", "jsonPath": ".status.prefixes"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            ]),
        ),
        crd::<FailoverDrillSpec, FailoverDrillStatus>(
            "FailoverDrill",
            "failoverdrills",
            "Cluster",
            &["fdrill"],
            json!([
                {"name": "Lose", "type": "string", "jsonPath": ".spec.lose"},
                {"name": "App", "type": "string", "jsonPath": ".spec.app.name"},
                {"name": "Scope", "type": "string", "jsonPath": ".spec.scope"},
                {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            ]),
        ),
        crd::<DeletionBudgetSpec, SafetyStatus>(
            "DeletionBudget",
            "deletionbudgets",
            "Cluster",
            &["fdb"],
            json!([{"name": "Objects", "type": "integer", "jsonPath": ".spec.objects"}]),
        ),
        crd::<HeldRemovalSpec, SafetyStatus>(
            "HeldRemoval",
            "heldremovals",
            "Cluster",
            &["fhr"],
            json!([
                {"name": "Cause", "type": "string", "jsonPath": ".spec.cause"},
                {"name": "Copies", "type": "integer", "jsonPath": ".spec.copies"},
                {"name": "Decision", "type": "string", "jsonPath": ".spec.decision"},
            ]),
        ),
        crd::<TrashSpec, SafetyStatus>(
            "Trash",
            "trash",
            "Cluster",
            &["ftr"],
            json!([
                {"name": "Kind", "type": "string", "jsonPath": ".spec.kind"},
                {"name": "Namespace", "type": "string", "jsonPath": ".spec.namespace"},
                {"name": "Object", "type": "string", "jsonPath": ".spec.name"},
                {"name": "Expires", "type": "string", "jsonPath": ".spec.expires"},
            ]),
        ),
    ]
}

fn crd<Spec: JsonSchema, Status: JsonSchema>(
    kind: &str,
    plural: &str,
    scope: &str,
    short_names: &[&str],
    columns: Value,
) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_lowercase(),
                "shortNames": short_names,
                "categories": ["federation"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {"spec": structural::<Spec>(), "status": structural::<Status>()},
                }},
            }],
        },
    })
}

/// The schema of a type in the form that Kubernetes calls structural: everything inline, one type each, no unions.
fn structural<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    simplify(&mut value);
    value
}

fn simplify(schema: &mut Value) {
    if *schema == Value::Bool(true) || *schema == json!({}) {
        *schema = json!({"x-kubernetes-preserve-unknown-fields": true});
        return;
    }
    let Some(fields) = schema.as_object_mut() else { return };
    // Defaults are serde's: written into objects by the API server they would only be noise.
    for noise in ["$schema", "title", "default", "components"] {
        fields.remove(noise);
    }
    one_type(fields);
    merge_variants(fields);
    if fields.get("additionalProperties") == Some(&Value::Bool(true)) {
        fields.remove("additionalProperties");
        fields.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
    // Rust's integer widths are no formats of OpenAPI.
    if let Some(format) = fields.get("format").and_then(Value::as_str)
        && format.starts_with("uint")
    {
        let wide = if format == "uint64" { "int64" } else { "int32" };
        fields.insert("format".into(), wide.into());
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(simplify);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = fields.get_mut(nested) {
            simplify(nested);
            // Items must have a type: what may be anything is an object here (the operations of a JSON patch).
            if let Some(fields) = nested.as_object_mut()
                && fields.contains_key("x-kubernetes-preserve-unknown-fields")
            {
                fields.entry("type").or_insert_with(|| "object".into());
            }
        }
    }
}

/// `type: [T, null]` and `nullable` become `T`: an absent field says the same.
fn one_type(fields: &mut Map<String, Value>) {
    fields.remove("nullable");
    if let Some(Value::Array(types)) = fields.get("type") {
        let only = types.iter().find(|kind| *kind != "null").cloned();
        if let Some(only) = only {
            fields.insert("type".into(), only);
        }
    }
}

/// `oneOf` or `anyOf` over documented variants becomes one `enum`; over `T` and null becomes `T`.
fn merge_variants(fields: &mut Map<String, Value>) {
    for union in ["oneOf", "anyOf", "allOf"] {
        let Some(Value::Array(variants)) = fields.remove(union) else { continue };
        let mut names = Vec::new();
        for variant in variants {
            let Value::Object(mut variant) = variant else { continue };
            if let Some(constant) = variant.remove("const") {
                names.push(constant);
            } else if let Some(Value::Array(values)) = variant.remove("enum") {
                names.extend(values.into_iter().filter(|value| !value.is_null()));
            } else if variant.get("type").is_some_and(|kind| kind != "null") || variant.contains_key("oneOf")
            {
                for (name, value) in variant {
                    fields.entry(name).or_insert(value);
                }
                one_type(fields);
                merge_variants(fields);
            }
        }
        if !names.is_empty() {
            fields.insert("type".into(), "string".into());
            fields.insert("enum".into(), names.into());
        }
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(path: &str, schema: &Value) {
        match schema {
            Value::Object(fields) => {
                for forbidden in ["$ref", "oneOf", "anyOf", "allOf", "const", "$defs", "default"] {
                    // A property may have any name; a keyword may not.
                    assert!(
                        path.ends_with("/properties") || !fields.contains_key(forbidden),
                        "{path}: {forbidden}"
                    );
                }
                assert!(
                    !matches!(fields.get("type"), Some(Value::Array(_))) || path.ends_with("/properties"),
                    "{path}"
                );
                for (name, value) in fields {
                    check(&format!("{path}/{name}"), value);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| check(path, value)),
            _ => {}
        }
    }

    #[test]
    fn every_schema_is_structural() {
        let crds = crds();
        assert_eq!(crds.len(), 13);
        for crd in crds {
            check(
                crd["metadata"]["name"].as_str().unwrap(),
                &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            );
        }
    }

    #[test]
    fn an_enum_lists_its_values() {
        let cluster = &crds()[0];
        let status = &cluster["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        let verdicts = status["properties"]["verdict"]["enum"].as_array().unwrap();
        assert!(verdicts.iter().any(|verdict| verdict == "Healthy"), "{verdicts:?}");
    }
}
