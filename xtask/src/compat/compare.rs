//! Where two answers differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::cases::Case;
use super::run::Answer;

/// One place where the answers to one request differ.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    /// `FILE/NAME`.
    pub(super) case: String,
    /// The request, and its place in the case.
    pub(super) step: String,
    /// `/body/metadata/labels`.
    pub(super) path: String,
    /// What kube-apiserver says; none if it says nothing.
    pub(super) real: Option<Value>,
    /// What federation-apiserver says.
    pub(super) own: Option<Value>,
}

impl Difference {
    /// A case that one of the two does not come through.
    pub(super) fn stuck(case: &Case, error: &anyhow::Error) -> Self {
        let case = case.name.clone();
        Self {
            case,
            step: "stuck".to_owned(),
            path: String::new(),
            real: None,
            own: Some(format!("{error:#}").into()),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), Value::to_string);
        writeln!(f, "{} {}: {}", self.case, self.step, self.path)?;
        writeln!(f, "    kube-apiserver: {}", text(&self.real))?;
        write!(f, "    federation:     {}", text(&self.own))
    }
}

/// All differences of a case.
pub(super) fn compare(case: &Case, real: &[Answer], own: &[Answer]) -> Vec<Difference> {
    let mut all = Vec::new();
    for (place, ((step, real), own)) in case.steps.iter().zip(real).zip(own).enumerate() {
        let mut places = Vec::new();
        differ(Some(real), Some(own), &mut String::new(), &mut places);
        all.extend(places.into_iter().map(|(path, real, own)| Difference {
            case: case.name.clone(),
            step: format!("{} {}", place + 1, step.request),
            path,
            real,
            own,
        }));
    }
    all
}

type Places = Vec<(String, Option<Value>, Option<Value>)>;

fn differ(real: Option<&Value>, own: Option<&Value>, path: &mut String, places: &mut Places) {
    if real == own {
        return;
    }
    let length = path.len();
    let mut inner = |key: &str, real: Option<&Value>, own: Option<&Value>, path: &mut String| {
        path.push('/');
        path.push_str(key);
        differ(real, own, path, places);
        path.truncate(length);
    };
    match (real, own) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                inner(key, one.get(key), other.get(key), path);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => match (named(one), named(other)) {
            (Some(one), Some(other)) => {
                let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
                for key in keys {
                    inner(key, one.get(key).copied(), other.get(key).copied(), path);
                }
            }
            _ => {
                for place in 0..one.len().max(other.len()) {
                    inner(&place.to_string(), one.get(place), other.get(place), path);
                }
            }
        },
        _ => places.push((path.clone(), real.cloned(), own.cloned())),
    }
}

/// The elements of a list by what names them, if each has a name of its own: a list that is rather a map.
fn named(items: &[Value]) -> Option<BTreeMap<String, &Value>> {
    let name = |item: &Value| {
        let text = |key: &str| item.get(key)?.as_str().map(str::to_owned);
        // Causes of a Status; field ownership; conditions and ports; what discovery lists.
        if let (Some(reason), Some(field)) = (text("reason"), text("field")) {
            return Some(format!("{reason} {field}"));
        }
        match (text("manager"), text("operation")) {
            (Some(manager), Some(operation)) => {
                Some(format!("{manager} {operation} {}", text("subresource").unwrap_or_default()))
            }
            _ => text("name")
                .or_else(|| text("groupVersion"))
                .or_else(|| text("type").filter(|_| item.get("object").is_none())),
        }
    };
    let found: Option<BTreeMap<_, _>> =
        items.iter().map(|item| Some((name(item)?.trim().replace('/', "~"), item))).collect();
    found.filter(|found| found.len() == items.len())
}
