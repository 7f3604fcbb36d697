//! Runs a case on one server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::{Value, json};

use super::cases::{Case, Step};
use super::normal;
use crate::bench_api_client::{Client, Target};

/// How long controllers may take.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Headers that clients look at.
const HEADERS: [&str; 5] =
    ["content-type", "cache-control", "warning", "retry-after", "x-content-type-options"];
/// Headers of which only their presence is comparable.
const PRESENT: [&str; 3] =
    ["audit-id", "x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid"];

/// What comparisons see of an answer: `status`, `headers`, `body`.
pub(super) type Answer = Value;

/// The answers of all steps. A server of older versions has `renamed` of ours for the kinds of the case.
pub(super) async fn run(
    case: &Case,
    target: &Target,
    renamed: &BTreeMap<String, String>,
) -> Result<Vec<Answer>> {
    let mut client = Client::connect(target).await?;
    let namespace: String =
        case.name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let mut names = BTreeMap::from([("ns".to_owned(), namespace.clone())]);
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    client.create("/api/v1/namespaces", &object).await?;
    // Pods and the like need it, and it comes by a controller.
    let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
    let deadline = Instant::now() + PATIENCE;
    while client.get(&account).await.is_err() {
        ensure!(Instant::now() < deadline, "no service account appears in {namespace}");
        tokio::time::sleep(PAUSE).await;
    }
    let mut answers = Vec::new();
    for (place, step) in case.steps.iter().enumerate() {
        let context = || format!("step {} ({})", place + 1, step.request);
        let deadline = Instant::now() + PATIENCE;
        let (answer, raw) = loop {
            let (answer, raw) =
                ask(&mut client, step, &names, renamed, target).await.with_context(context)?;
            if fits(step, &answer, &raw) {
                break (answer, raw);
            }
            ensure!(Instant::now() < deadline, "{} stays {answer}", context());
            tokio::time::sleep(PAUSE).await;
        };
        for (name, pointer) in &step.save {
            let found =
                raw.pointer(pointer).with_context(|| format!("{}: no {pointer} in {raw}", context()))?;
            let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            names.insert(name.clone(), text);
        }
        answers.push(if step.unseen { Value::Null } else { answer });
    }
    Ok(answers)
}

fn fits(step: &Step, answer: &Answer, raw: &Value) -> bool {
    step.until.is_none_or(|status| answer["status"] == status)
        && step.until_has.iter().all(|(pointer, wanted)| raw.pointer(pointer) == Some(wanted))
}

async fn ask(
    client: &mut Client,
    step: &Step,
    names: &BTreeMap<String, String>,
    renamed: &BTreeMap<String, String>,
    target: &Target,
) -> Result<(Answer, Value)> {
    let (method, path) = step.request.split_once(' ').context("no method and path")?;
    let to = |text: String| renamed.iter().fold(text, |text, (own, older)| text.replace(own, older));
    let path = to(filled(path, names));
    let body = match (&step.body, &step.text) {
        (Some(body), _) => to(filled(&body.to_string(), names)),
        (None, Some(text)) => to(filled(text, names)),
        (None, None) => String::new(),
    };
    let mut headers = vec![("content-type", step.content_type.as_deref().unwrap_or("application/json"))];
    if let Some(accept) = &step.accept {
        headers.push(("accept", accept));
    }
    if let Some(user) = &step.user {
        headers.push(("impersonate-user", user));
    }
    headers.extend(step.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    // Some answers end their connection.
    if client.is_closed() {
        *client = Client::connect(target).await?;
    }
    let (status, headers, bytes) = client.exchange(method, &path, &headers, body.into()).await?;
    let bytes = match std::str::from_utf8(&bytes) {
        Ok(text) if !renamed.is_empty() => {
            let text = text.to_owned();
            renamed.iter().fold(text, |text, (own, older)| text.replace(older, own)).into()
        }
        _ => bytes,
    };
    let raw = parsed(&bytes);
    let compared = step.part.as_ref().map_or(&raw, |part| raw.pointer(part).unwrap_or(&Value::Null));
    let answer = json!({
        "status": status,
        "headers": told(&headers),
        "body": normal::value(compared, &target.address, names),
    });
    Ok((answer, raw))
}

fn filled(text: &str, names: &BTreeMap<String, String>) -> String {
    names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value))
}

/// A body as JSON; one frame for each line of a watch; else as text.
fn parsed(bytes: &Bytes) -> Value {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    let frames: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
    match frames {
        Ok(frames) if !frames.is_empty() => {
            Value::Array(frames.into_iter().filter(|frame| frame["type"] != "BOOKMARK").collect())
        }
        _ => String::from_utf8_lossy(bytes).into_owned().into(),
    }
}

fn told(headers: &HeaderMap) -> Value {
    let text = |name: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(" | ")
    };
    let mut told = serde_json::Map::new();
    for name in HEADERS {
        let value = text(name);
        if !value.is_empty() {
            told.insert(name.to_owned(), value.into());
        }
    }
    for name in PRESENT {
        told.insert(name.to_owned(), headers.contains_key(name).into());
    }
    Value::Object(told)
}
