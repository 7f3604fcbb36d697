//! The report of a drill, for people and for programs.
//!
//! [`document`] is what is signed and what the JSON report holds; [`text`] and [`html`] are made of the same [`Report`], so that none of
//! them says what another does not.

mod html;
mod text;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::{DrillPhase, DrillSignature, FailoverDrill};

use super::stages::names;

pub use html::{embedded, html};
pub use text::text;

/// What is signed begins with this, so that no other signature by the same key is one of a report, and none of a report is another.
const CONTEXT: &str = "federation.rs/v1alpha1 FailoverDrill report\n";
/// Earlier drills that a trend tells of.
const TREND_MAX: usize = 50;

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The drill, without what says nothing of its course; this is what was signed.
    pub drill: Value,
    /// By the federation's certificate authority; none if the drill is not over, or its hub could not sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<DrillSignature>,
    /// Drills of the same application, loss and scope that were over before, oldest first, and this one. Not signed here: each of them is
    /// in its own report.
    pub trend: Vec<TrendPoint>,
}

/// One drill among others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrendPoint {
    /// Its name.
    pub name: String,
    /// RFC 3339.
    pub start: String,
    /// How it ended.
    pub phase: DrillPhase,
    /// Milliseconds until users had recovered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered_ms: Option<i64>,
    /// Milliseconds until every DNS server had changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_ms: Option<i64>,
    /// Pages that users asked for.
    pub requests: u64,
    /// Of them, those that did not come.
    pub failed: u64,
}

impl Report {
    /// Of a drill, among all drills that there are.
    pub fn new(drill: &FailoverDrill, all: &[FailoverDrill]) -> Self {
        let same = |other: &&FailoverDrill| {
            let own = other.metadata.uid == drill.metadata.uid;
            let over = other.status.as_ref().is_some_and(|status| status.phase.is_over());
            let alike = (&other.spec.lose, &other.spec.app, other.spec.scope)
                == (&drill.spec.lose, &drill.spec.app, drill.spec.scope);
            alike && (own || over)
        };
        let mut trend: Vec<TrendPoint> = all.iter().filter(same).filter_map(point).collect();
        trend.sort_by(|a, b| (&a.start, &a.name).cmp(&(&b.start, &b.name)));
        let own = start(drill);
        trend.retain(|point| own.as_ref().is_none_or(|own| point.start <= *own));
        let surplus = trend.len().saturating_sub(TREND_MAX);
        trend.drain(..surplus);
        let signature = drill.status.as_ref().and_then(|status| status.signature.clone());
        Self { drill: document(drill), signature, trend }
    }

    /// The drill again, as far as the report holds it.
    pub fn object(&self) -> FailoverDrill {
        serde_json::from_value(self.drill.clone()).unwrap_or_default()
    }
}

fn start(drill: &FailoverDrill) -> Option<String> {
    let time = drill.status.as_ref()?.start_time.as_ref()?;
    Some(format!("{:.3}", time.0))
}

/// None for a drill that never started.
fn point(drill: &FailoverDrill) -> Option<TrendPoint> {
    let status = drill.status.as_ref()?;
    let after =
        |name: &str| status.stages.iter().find(|stage| stage.name == name).map(|stage| stage.after_ms);
    Some(TrendPoint {
        name: drill.name().to_owned(),
        start: start(drill)?,
        phase: status.phase,
        recovered_ms: after(names::RECOVERED),
        dns_ms: after(names::DNS_EVERYWHERE),
        requests: status.users.values().map(|users| users.requests).sum(),
        failed: status.users.values().map(|users| users.failed).sum(),
    })
}

/// The drill without its signature, and without what changes though nothing happens to it.
pub fn document(drill: &FailoverDrill) -> Value {
    let mut spec = json!(drill.spec);
    let mut status = json!(drill.status.clone().unwrap_or_default());
    for (fields, gone) in
        [(&mut spec, &["renewTime", "stop"][..]), (&mut status, &["signature", "observedGeneration"][..])]
    {
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|name, _| !gone.contains(&name.as_str()));
        }
    }
    json!({
        "apiVersion": crate::api::API_VERSION,
        "kind": "FailoverDrill",
        "metadata": {"name": drill.name(), "uid": drill.metadata.uid},
        "spec": spec,
        "status": status,
    })
}

/// The bytes that are signed for a [`document`]: JSON with the keys of all objects in order, after a context of their own.
pub fn signed_bytes(document: &Value) -> Vec<u8> {
    let mut text = CONTEXT.to_owned();
    canonical(document, &mut text);
    text.into_bytes()
}

fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort_unstable();
            text.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                canonical(fields.get(name).unwrap_or(&Value::Null), text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests;
