//! Strategic merge patch: the vectors of Kubernetes' own implementation.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use apimachinery::patch::strategic::{
    FieldMerge, MergeSchema, MergeStrategy, apply, create_three_way, create_two_way,
};
use serde_json::Value;

struct VectorSchema(Value);

impl MergeSchema for VectorSchema {
    fn field(&self, parent: &str, field: &str) -> Option<FieldMerge> {
        let field = self.0.get(parent)?.get(field)?;
        let text = |name: &str| field.get(name).and_then(Value::as_str).map(str::to_owned);
        let strategies = field.get("strategy").and_then(Value::as_array).into_iter().flatten();
        Some(FieldMerge {
            merge_key: text("key"),
            strategies: strategies
                .map(|strategy| match strategy.as_str().unwrap() {
                    "merge" => MergeStrategy::Merge,
                    "replace" => MergeStrategy::Replace,
                    _ => MergeStrategy::RetainKeys,
                })
                .collect(),
            child: text("items").or_else(|| text("type")),
        })
    }
}

#[test]
fn the_vectors_hold() {
    let file: Value = serde_json::from_str(include_str!("vectors/strategic-merge.json")).unwrap();
    let schema = VectorSchema(file["schema"].clone());
    let root = file["schema"]["root"].as_str().unwrap();
    let mut failures = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let name = &case["description"];
        let mut check = |what: &str, got: Result<Value, _>, expect: &Value| {
            if got.as_ref() != Ok(expect) {
                failures.push(format!("{name}: {what}: got {got:?}, expected {expect}"));
            }
        };
        let patched = apply(&schema, root, &case["original"], &case["twoWay"]);
        if let Some(text) = case.get("expectedError").and_then(Value::as_str) {
            let error = patched.unwrap_err().to_string();
            assert!(error.contains(text), "{name}: {error}");
            continue;
        }
        check("apply two-way", patched, case.get("twoWayResult").or_else(|| case.get("modified")).unwrap());
        if let Some(three_way) = case.get("threeWay") {
            let (original, modified, current) = (&case["original"], &case["modified"], &case["current"]);
            check("create two-way", create_two_way(&schema, root, original, modified), &case["twoWay"]);
            let created = create_three_way(&schema, root, original, modified, current);
            check("create three-way", created, three_way);
            check("apply three-way", apply(&schema, root, current, three_way), &case["result"]);
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
