//! Regenerates the data files of `kube-schema` from the published Kubernetes sources.
//!
//! `codegen openapi DEFINITIONS` reads `_definitions.json` of the PyPI package `kubernetes-validate` 1.37.0
//! (`kubernetes-json-schema/v1.37.0-local`), a converted form of the published `swagger.json`, and undoes the conversion.
//! `codegen protobuf API APIMACHINERY` reads the published `generated.proto` and Go files of the Debian source packages
//! `golang-k8s-api` and `golang-k8s-apimachinery` 0.36.4.
//! `codegen fixtures API` packs that package's `testdata/HEAD` (each kind with every field filled, as JSON and as
//! protobuf) for the round-trip test.
//! All write a zlib stream of minified JSON; `--out` names another folder than `kube-schema/data`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

/// The definition prefixes whose kinds are served; whatever they refer to comes along.
const SERVED: &[&str] = &[
    "io.k8s.api.admissionregistration.v1.",
    "io.k8s.api.apps.v1.",
    "io.k8s.api.authentication.v1.",
    "io.k8s.api.authorization.v1.",
    "io.k8s.api.autoscaling.v1.",
    "io.k8s.api.autoscaling.v2.",
    "io.k8s.api.batch.v1.",
    "io.k8s.api.certificates.v1.",
    "io.k8s.api.coordination.v1.",
    "io.k8s.api.core.v1.",
    "io.k8s.api.discovery.v1.",
    "io.k8s.api.events.v1.",
    "io.k8s.api.flowcontrol.v1.",
    "io.k8s.api.networking.v1.",
    "io.k8s.api.node.v1.",
    "io.k8s.api.policy.v1.",
    "io.k8s.api.rbac.v1.",
    "io.k8s.api.resource.v1.",
    "io.k8s.api.scheduling.v1.",
    "io.k8s.api.storage.v1.",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
    "io.k8s.apimachinery.pkg.",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.",
];

/// Defaults that the input lost and that server-side apply needs, because the field is a list-map key
/// (`// +default=` markers and `SetDefaults_*` in `k8s.io/api/core/v1`).
const KEY_DEFAULTS: &[(&str, &str, &str)] = &[
    ("io.k8s.api.core.v1.ContainerPort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.ServicePort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.EndpointPort", "protocol", "TCP"),
];

/// Runs `codegen openapi|protobuf`.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let mut out = PathBuf::from("kube-schema/data");
    let mut inputs = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--out" {
            out = rest.next().context("--out needs a folder")?.into();
        } else {
            inputs.push(arg.as_str());
        }
    }
    match inputs.as_slice() {
        ["openapi", definitions] => openapi(Path::new(definitions), &out.join("openapi.json.z")),
        ["protobuf", api, apimachinery] => {
            protobuf(Path::new(api), Path::new(apimachinery), &out.join("protobuf.json.z"))
        }
        ["fixtures", api] => {
            fixtures(Path::new(api), Path::new("kube-schema/tests/fixtures/published.json.z"))
        }
        _ => bail!(
            "usage: codegen [--out DIR] openapi DEFINITIONS.json | protobuf API_DIR APIMACHINERY_DIR | fixtures API_DIR"
        ),
    }
}

fn write_compressed(path: &Path, value: &Value) -> anyhow::Result<()> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&serde_json::to_vec(value)?)?;
    let bytes = encoder.finish()?;
    println!("{}: {} bytes", path.display(), bytes.len());
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

// ---- OpenAPI ----

fn openapi(input: &Path, output: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(input).with_context(|| format!("reading {}", input.display()))?;
    let document: Value = serde_json::from_slice(&text)?;
    let all = document.get("$defs").and_then(Value::as_object).context("the input has no $defs")?;
    let mut wanted: Vec<String> =
        all.keys().filter(|name| SERVED.iter().any(|prefix| name.starts_with(prefix))).cloned().collect();
    let mut kept = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if kept.contains_key(&name) {
            continue;
        }
        let mut schema =
            all.get(&name).with_context(|| format!("{name} is referred to, but not defined"))?.clone();
        restore(&name, &mut schema);
        references(&schema, &mut wanted);
        kept.insert(name, schema);
    }
    for (name, field, default) in KEY_DEFAULTS {
        let property = kept
            .get_mut(*name)
            .and_then(|schema| schema.get_mut("properties"))
            .and_then(|properties| properties.get_mut(field))
            .and_then(Value::as_object_mut)
            .with_context(|| format!("{name} has no property {field}"))?;
        property.insert("default".into(), json!(default));
    }
    println!("{} definitions", kept.len());
    write_compressed(output, &serde_json::to_value(kept)?)
}

/// Undoes what the JSON-schema conversion changed: nullable types, reference prefixes, `oneOf` of the two scalar unions,
/// and the `enum` that ties apiVersion and kind of a top-level object.
fn restore(name: &str, schema: &mut Value) {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
            *schema = json!({"type": "string", "description": "Quantity is a fixed-point representation of a number. \
                It serialises as a decimal number with an optional suffix: n, u, m, k, M, G, T, P, E (powers of ten), \
                Ki, Mi, Gi, Ti, Pi, Ei (powers of two), or a decimal exponent."});
            return;
        }
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
            *schema = json!({"type": "string", "format": "int-or-string",
                "description": "IntOrString is a type that can hold an int32 or a string."});
            return;
        }
        _ => {}
    }
    restore_types(schema);
    if schema.get("x-kubernetes-group-version-kind").is_some()
        && let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut)
    {
        for field in ["apiVersion", "kind"] {
            if let Some(property) = properties.get_mut(field).and_then(Value::as_object_mut) {
                property.remove("enum");
            }
        }
    }
}

fn restore_types(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = schema.get("type")
        && let Some(first) = types.iter().find(|t| t.as_str() != Some("null")).cloned()
    {
        schema.insert("type".into(), first);
    }
    if let Some(Value::String(reference)) = schema.get_mut("$ref") {
        *reference = reference.replace("#/$defs/", "#/components/schemas/");
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(restore_types);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            restore_types(inner);
        }
    }
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref")
                && let Some(name) = reference.strip_prefix("#/components/schemas/")
            {
                found.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

// ---- protobuf ----

/// One field of a Go struct: what the wire descriptor does not say.
struct GoField {
    json: String,
    pointer: bool,
    omitempty: bool,
    inline: bool,
}

/// Go files that hold wire structs under another name than `types.go`.
const GO_FILES: &[&str] = &["types.go", "micro_time.go", "time_proto.go", "quantity.go", "intstr.go"];

fn protobuf(api: &Path, apimachinery: &Path, output: &Path) -> anyhow::Result<()> {
    let mut protos = Vec::new();
    find_protos(api, &mut protos)?;
    find_protos(apimachinery, &mut protos)?;
    protos.sort();
    let mut messages = Map::new();
    for path in &protos {
        if path.components().any(|part| part.as_os_str() == "testapigroup") {
            continue;
        }
        let text = std::fs::read_to_string(path)?;
        let folder = path.parent().context("a proto file without a folder")?;
        let mut go = BTreeMap::new();
        for file in GO_FILES {
            if let Ok(source) = std::fs::read_to_string(folder.join(file)) {
                go_structs(&source, &mut go);
            }
        }
        proto_messages(&text, &go, &mut messages).with_context(|| format!("in {}", path.display()))?;
    }
    let known: BTreeSet<&String> = messages.keys().collect();
    for (name, fields) in &messages {
        for field in fields.as_array().into_iter().flatten() {
            if let Some(target) = field.get(2).and_then(Value::as_str).and_then(|kind| kind.strip_prefix('.'))
                && !known.contains(&target.to_owned())
            {
                bail!("{name} refers to {target}, which no input defines");
            }
        }
    }
    println!("{} messages", messages.len());
    write_compressed(output, &Value::Object(messages))
}

fn find_protos(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, found)?;
        } else if path.file_name().is_some_and(|name| name == "generated.proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// Packs `NAME.json` and `NAME.pb` (base64) of the stable groups: `{NAME: {json, pb}}`.
fn fixtures(api: &Path, output: &Path) -> anyhow::Result<()> {
    use base64::Engine as _;
    let folder = api.join("testdata/HEAD");
    let mut packed = Map::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let Some(name) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".pb"))
        else {
            continue;
        };
        if name.contains("alpha") || name.contains("beta") {
            continue;
        }
        let object: Value = serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json")))?)?;
        let bytes = base64::engine::general_purpose::STANDARD.encode(std::fs::read(&path)?);
        packed.insert(name.to_owned(), json!({"json": object, "pb": bytes}));
    }
    println!("{} objects", packed.len());
    write_compressed(output, &Value::Object(packed))
}

/// Collects struct name → field number → [`GoField`] from the tags of a gofmt-ed file.
fn go_structs(source: &str, into: &mut BTreeMap<String, BTreeMap<u64, GoField>>) {
    let mut current: Option<String> = None;
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("type ")
            && let Some(name) = rest.strip_suffix(" struct {")
        {
            current = Some(name.to_owned());
            continue;
        }
        if line == "}" {
            current = None;
        }
        let (Some(name), Some(protobuf)) = (&current, tag(line, "protobuf")) else { continue };
        let Some(number) = protobuf.split(',').nth(1).and_then(|n| n.parse().ok()) else { continue };
        let json = tag(line, "json").unwrap_or_default();
        let mut parts = json.split(',');
        let json_name = parts.next().unwrap_or_default().to_owned();
        let options: Vec<&str> = parts.collect();
        let words: Vec<&str> = line.split('`').next().unwrap_or_default().split_whitespace().collect();
        into.entry(name.clone()).or_default().insert(
            number,
            GoField {
                json: json_name,
                pointer: words.last().is_some_and(|kind| kind.starts_with('*')),
                omitempty: options.contains(&"omitempty"),
                inline: options.contains(&"inline"),
            },
        );
    }
}

fn tag<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let start = line.find(&format!("{key}:\""))? + key.len() + 2;
    line[start..].split('"').next()
}

/// Reads the regular proto2 that go-to-protobuf writes; anything else is an error, so that nothing is lost unseen.
///
/// A field becomes `[number, json name, kind, flags]`: kind is a scalar name, `.message`, or `map:VALUE`;
/// flags is a set of letters (`r`epeated, `p`ointer, `o`mitempty, `i`nline).
fn proto_messages(
    text: &str,
    go: &BTreeMap<String, BTreeMap<u64, GoField>>,
    messages: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let mut package = "";
    let mut current: Option<(&str, Vec<Value>)> = None;
    for line in text.lines().map(str::trim) {
        let comment = line.starts_with("//") || line.starts_with("/*") || line.starts_with('*');
        if line.is_empty() || (comment && current.is_some()) {
            continue;
        }
        if let Some(name) = line.strip_prefix("package ") {
            package = name.trim_end_matches(';');
        } else if let Some(name) = line.strip_prefix("message ") {
            current = Some((name.trim_end_matches(" {"), Vec::new()));
        } else if line == "}" {
            let (name, fields) = current.take().context("an unexpected }")?;
            messages.insert(format!("{package}.{name}"), Value::Array(fields));
        } else if let Some((message, fields)) = &mut current {
            fields.push(proto_field(line, package, message, go).with_context(|| format!("field `{line}`"))?);
        }
    }
    Ok(())
}

fn proto_field(
    line: &str,
    package: &str,
    message: &str,
    go: &BTreeMap<String, BTreeMap<u64, GoField>>,
) -> anyhow::Result<Value> {
    let (declaration, number) = line.trim_end_matches(';').rsplit_once(" = ").context("no field number")?;
    let number: u64 = number.parse()?;
    let (kind, name) = declaration.rsplit_once(' ').context("no field name")?;
    let mut flags = String::new();
    let kind = if let Some(entry) = kind.strip_prefix("map<") {
        let (key, value) = entry.trim_end_matches('>').split_once(", ").context("no map value")?;
        if key != "string" {
            bail!("a map with {key} keys");
        }
        format!("map:{}", proto_kind(value, package))
    } else {
        let (label, kind) = kind.split_once(' ').context("no label")?;
        match label {
            "repeated" => flags.push('r'),
            "optional" | "required" => {}
            other => bail!("label {other}"),
        }
        proto_kind(kind, package)
    };
    let known = go.get(message).and_then(|fields| fields.get(&number));
    let json_name = match known {
        Some(field) if !field.json.is_empty() || field.inline => &field.json,
        _ => name,
    };
    if let Some(field) = known {
        for (set, letter) in [(field.pointer, 'p'), (field.omitempty, 'o'), (field.inline, 'i')] {
            if set {
                flags.push(letter);
            }
        }
    }
    Ok(json!([number, json_name, kind, flags]))
}

/// Scalars keep their name; a message is `.` and its full name.
fn proto_kind(kind: &str, package: &str) -> String {
    match kind {
        "bool" | "bytes" | "double" | "float" | "int32" | "int64" | "string" | "uint32" | "uint64" => {
            kind.to_owned()
        }
        full if full.contains('.') => format!(".{}", full.trim_start_matches('.')),
        local => format!(".{package}.{local}"),
    }
}
