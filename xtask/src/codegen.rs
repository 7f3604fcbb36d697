//! Regenerates the data files of `kube-schema` from the published Kubernetes sources.
//!
//! `codegen openapi DEFINITIONS GENERATED` reads `_definitions.json` of the PyPI package `kubernetes-validate` 1.37.0
//! (`kubernetes-json-schema/v1.37.0-local`), a converted form of the published `swagger.json`, and undoes the conversion.
//! The published form lacks defaults and the values of enumerations, which kube-apiserver serves. GENERATED has them: what
//! `openapi-gen` (Debian package `golang-k8s-kube-openapi-dev`) makes of the Go packages of `golang-k8s-api-dev`,
//! `golang-k8s-apimachinery-dev` and `golang-k8s-apiextensions-apiserver-dev` 0.36.4, written as JSON, name → schema.
//! `codegen protobuf API APIMACHINERY` reads the published `generated.proto` and Go files of the Debian source packages
//! `golang-k8s-api` and `golang-k8s-apimachinery` 0.36.4.
//! `codegen fixtures API` packs that package's `testdata/HEAD` (each kind with every field filled, as JSON and as
//! protobuf) for the round-trip test.
//! All write a zlib stream of minified JSON; `--out` names another folder than `kube-schema/data`.

mod openapi;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

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
        ["openapi", definitions, generated] => {
            openapi::write(Path::new(definitions), Path::new(generated), &out.join("openapi.json.z"))
        }
        ["protobuf", api, apimachinery] => {
            protobuf(Path::new(api), Path::new(apimachinery), &out.join("protobuf.json.z"))
        }
        ["fixtures", api] => {
            fixtures(Path::new(api), Path::new("kube-schema/tests/fixtures/published.json.z"))
        }
        _ => bail!(
            "usage: codegen [--out DIR] openapi DEFINITIONS.json GENERATED.json | protobuf API_DIR APIMACHINERY_DIR | fixtures API_DIR"
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
