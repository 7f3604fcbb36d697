//! Checks the patch and apply engines against files of vectors.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use apimachinery::apply::{Duplicates, ObjectType, Schema, TypeRef};
use apimachinery::patch::strategic::{
    FieldMerge, MergeSchema, MergeStrategy, apply, create_three_way, create_two_way,
};
use serde_json::Value;

/// Runs `strategic-merge|structured-merge|structured-validate FILE`.
pub(crate) fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    match args {
        [which, path] if which == "strategic-merge" => strategic_merge(Path::new(path)),
        [which, path] if which == "structured-merge" => structured_merge(Path::new(path)),
        [which, path] if which == "structured-validate" => structured_validate(Path::new(path)),
        _ => bail!("usage: vectors strategic-merge|structured-merge|structured-validate FILE"),
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn cases<'v>(file: &'v Value, name: &str) -> anyhow::Result<&'v Vec<Value>> {
    file.get(name).and_then(Value::as_array).with_context(|| format!("the file has no list {name:?}"))
}

/// Prints the failures to stderr and `N passed of M` to stdout.
fn report(results: &[Result<(), String>]) -> ExitCode {
    for failure in results.iter().filter_map(|result| result.as_ref().err()) {
        eprintln!("{failure}");
    }
    let passed = results.iter().filter(|result| result.is_ok()).count();
    println!("{passed} passed of {}", results.len());
    if passed == results.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct VectorSchema(Value);

impl MergeSchema for VectorSchema {
    fn field(&self, parent: &str, field: &str) -> Option<FieldMerge> {
        let field = self.0.get(parent)?.get(field)?;
        let text = |name: &str| field.get(name).and_then(Value::as_str).map(str::to_owned);
        let strategies = field.get("strategy").and_then(Value::as_array).into_iter().flatten();
        Some(FieldMerge {
            merge_key: text("key"),
            strategies: strategies
                .filter_map(|strategy| match strategy.as_str()? {
                    "merge" => Some(MergeStrategy::Merge),
                    "replace" => Some(MergeStrategy::Replace),
                    "retainKeys" => Some(MergeStrategy::RetainKeys),
                    _ => None,
                })
                .collect(),
            child: text("items").or_else(|| text("type")),
        })
    }
}

/// Strategic merge patches: applied two-way and three-way, and created where the case gives both.
pub(crate) fn strategic_merge(path: &Path) -> anyhow::Result<ExitCode> {
    let file = read(path)?;
    let schema = VectorSchema(file.get("schema").cloned().unwrap_or_default());
    let root = schema.0.get("root").and_then(Value::as_str).context("the schema has no root")?;
    let results: Vec<_> =
        cases(&file, "cases")?.iter().map(|case| strategic_case(&schema, root, case)).collect();
    Ok(report(&results))
}

fn strategic_case(schema: &VectorSchema, root: &str, case: &Value) -> Result<(), String> {
    let get = |name: &str| case.get(name).unwrap_or(&Value::Null);
    let name = get("description");
    let expect = |what: &str, got: Result<Value, _>, expected: &Value| match got {
        Ok(got) if got == *expected => Ok(()),
        other => Err(format!("{name}: {what}: got {other:?}, expected {expected}")),
    };
    let patched = apply(schema, root, get("original"), get("twoWay"));
    if let Some(text) = get("expectedError").as_str() {
        return match patched {
            Err(error) if error.to_string().contains(text) => Ok(()),
            other => Err(format!("{name}: got {other:?}, expected an error with {text:?}")),
        };
    }
    expect("apply two-way", patched, case.get("twoWayResult").unwrap_or_else(|| get("modified")))?;
    if case.get("threeWay").is_none() {
        return Ok(());
    }
    let (original, modified, current) = (get("original"), get("modified"), get("current"));
    expect("create two-way", create_two_way(schema, root, original, modified), get("twoWay"))?;
    let created = create_three_way(schema, root, original, modified, current);
    expect("create three-way", created, get("threeWay"))?;
    expect("apply three-way", apply(schema, root, current, get("threeWay")), get("result"))
}

fn structured_schema(vector: &Value) -> Result<(Schema, TypeRef), String> {
    let schema = vector.get("schema").cloned().unwrap_or_default();
    let schema = serde_json::from_value(schema).map_err(|error| format!("schema: {error}"))?;
    Ok((schema, TypeRef::named(vector.get("root").and_then(Value::as_str).unwrap_or_default())))
}

/// Structured merges: `lhs` merged with `rhs` gives `out`.
pub(crate) fn structured_merge(path: &Path) -> anyhow::Result<ExitCode> {
    let file = read(path)?;
    let check = |vector: &Value| {
        let get = |name: &str| vector.get(name).unwrap_or(&Value::Null);
        let (schema, root) = structured_schema(vector)?;
        match ObjectType::new(&schema, &root).merge(get("lhs"), get("rhs")) {
            Ok(merged) if merged == *get("out") => Ok(()),
            other => Err(format!("{}: {} + {}: got {other:?}", get("name"), get("lhs"), get("rhs"))),
        }
    };
    let results: Vec<_> = cases(&file, "vectors")?.iter().map(check).collect();
    Ok(report(&results))
}

/// Structured validation: valid, invalid, or valid only where duplicates are allowed.
pub(crate) fn structured_validate(path: &Path) -> anyhow::Result<ExitCode> {
    let file = read(path)?;
    let check = |vector: &Value| {
        let get = |name: &str| vector.get(name).unwrap_or(&Value::Null);
        let (schema, root) = structured_schema(vector)?;
        let kind = ObjectType::new(&schema, &root);
        let strict = kind.validate(get("object"), Duplicates::Refuse).is_ok();
        let lenient = kind.validate(get("object"), Duplicates::Allow).is_ok();
        let verdict = match (strict, lenient) {
            (true, _) => "valid",
            (false, true) => "duplicates",
            (false, false) => "invalid",
        };
        if get("expect") == verdict {
            Ok(())
        } else {
            Err(format!("{}: {}: got {verdict}", get("name"), get("object")))
        }
    };
    let results: Vec<_> = cases(&file, "vectors")?.iter().map(check).collect();
    Ok(report(&results))
}
