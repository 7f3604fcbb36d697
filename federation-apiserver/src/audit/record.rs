//! One request's events.

use std::{net::IpAddr, sync::Arc};

use apimachinery::ApiError;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::{
    Audit,
    policy::{Choice, Level, Stage},
};
use crate::auth::User;

/// What is known of a request from the start.
pub(crate) struct Opening<'a> {
    /// `Audit-Id`.
    pub(crate) id: &'a str,
    /// When it came.
    pub(crate) received: Timestamp,
    /// Path and query.
    pub(crate) uri: String,
    /// What it wants.
    pub(crate) verb: &'a str,
    /// Who asks.
    pub(crate) user: &'a User,
    /// Whence, nearest last.
    pub(crate) sources: Vec<IpAddr>,
    /// `User-Agent`.
    pub(crate) agent: &'a str,
    /// What it is about; null for a path.
    pub(crate) reference: Value,
}

/// The record of one request: an event for each stage that the policy wants.
pub(crate) struct Record {
    audit: Arc<Audit>,
    choice: Choice,
    event: Mutex<Map<String, Value>>,
}

impl Record {
    pub(super) fn new(audit: Arc<Audit>, choice: Choice, opening: &Opening<'_>) -> Self {
        let mut event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": choice.level.as_str(),
            "auditID": opening.id,
            "requestURI": opening.uri,
            "verb": opening.verb,
            "user": opening.user.to_value(),
            "requestReceivedTimestamp": micro(opening.received),
        });
        if !opening.sources.is_empty() {
            event["sourceIPs"] = opening.sources.iter().map(IpAddr::to_string).collect();
        }
        if !opening.agent.is_empty() {
            event["userAgent"] = opening.agent.into();
        }
        if opening.reference.is_object() {
            event["objectRef"] = opening.reference.clone();
        }
        let event = match event {
            Value::Object(event) => event,
            _ => Map::new(),
        };
        Self { audit, choice, event: Mutex::new(event) }
    }

    /// How much is recorded.
    pub(crate) fn level(&self) -> Level {
        self.choice.level
    }

    /// Notes whom the user acts as.
    pub(crate) fn impersonated(&self, user: &User) {
        self.event.lock().insert("impersonatedUser".into(), user.to_value());
    }

    /// Notes what authorization said.
    pub(crate) fn decided(&self, decision: &str, reason: &str) {
        self.event.lock().insert(
            "annotations".into(),
            json!({"authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": reason}),
        );
    }

    /// Adds an annotation.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        let mut event = self.event.lock();
        let annotations = event.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(key.to_owned(), value.into());
        }
    }

    /// Adds to an annotation, behind what others said, unless it was said before.
    pub(crate) fn gather(&self, key: &str, value: &str) {
        let mut event = self.event.lock();
        let annotations = event.entry("annotations").or_insert_with(|| json!({}));
        let Some(annotations) = annotations.as_object_mut() else { return };
        let known = annotations.get(key).and_then(Value::as_str).unwrap_or_default();
        let said = match known {
            "" => value.to_owned(),
            known if known.split(", ").any(|said| said == value) => return,
            known => format!("{known}, {value}"),
        };
        annotations.insert(key.to_owned(), said.into());
    }

    /// Notes the object that was sent: its names in any case, itself if the level says so.
    pub(crate) fn requested(&self, object: &Value) {
        let mut event = self.event.lock();
        if let Some(reference) = event.get_mut("objectRef").and_then(Value::as_object_mut) {
            for part in ["name", "namespace", "uid", "resourceVersion"] {
                let text = object["metadata"][part].as_str().unwrap_or_default();
                if !text.is_empty() && !reference.contains_key(part) {
                    reference.insert(part.to_owned(), text.into());
                }
            }
        }
        if self.choice.level >= Level::Request && !object.is_null() {
            event.insert("requestObject".into(), self.stripped(object.clone()));
        }
    }

    /// Notes the object that is answered.
    pub(crate) fn answered(&self, object: Value) {
        let object = self.stripped(object);
        self.event.lock().insert("responseObject".into(), object);
    }

    /// Notes the code of the answer, and the error if it is one.
    pub(crate) fn ended(&self, code: u16, error: Option<&ApiError>) {
        let mut status = json!({"metadata": {}, "code": code});
        if let Some(error) = error {
            status = error.to_value();
            if let Some(status) = status.as_object_mut() {
                status.remove("kind");
                status.remove("apiVersion");
            }
        }
        self.event.lock().insert("responseStatus".into(), status);
    }

    /// Notes the code, and the message that goes with it.
    pub(crate) fn ended_with(&self, code: u16, message: &str) {
        let status = json!({"metadata": {}, "status": "Failure", "message": message, "code": code});
        self.event.lock().insert("responseStatus".into(), status);
    }

    /// The line of a stage; none if the policy leaves it out.
    fn line(&self, stage: Stage) -> Option<Vec<u8>> {
        if self.choice.omit_stages.contains(&stage) {
            return None;
        }
        let mut event = self.event.lock();
        event.insert("stage".into(), stage.as_str().into());
        event.insert("stageTimestamp".into(), micro(Timestamp::now()).into());
        let mut line = serde_json::to_vec(&*event).unwrap_or_default();
        line.push(b'\n');
        Some(line)
    }

    /// Writes the event of a stage.
    pub(crate) async fn write(&self, stage: Stage) {
        if let Some(line) = self.line(stage) {
            self.audit.send(line).await;
        }
    }

    /// The same from where nothing can wait.
    pub(crate) fn write_detached(&self, stage: Stage) {
        if let Some(line) = self.line(stage) {
            self.audit.send_detached(line);
        }
    }

    fn stripped(&self, mut object: Value) -> Value {
        if self.choice.omit_managed_fields {
            let strip = |object: &mut Value| {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
            };
            strip(&mut object);
            object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
        }
        object
    }
}

/// `metav1.MicroTime`.
fn micro(time: Timestamp) -> String {
    format!("{time:.6}")
}
