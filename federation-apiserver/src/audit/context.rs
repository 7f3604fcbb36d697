//! One request's events.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc};

use apimachinery::ApiError;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json, value::to_raw_value};

use super::{
    Audit,
    event::{Empty, Event, Metadata, MicroTime, Reference, ResponseStatus},
    policy::{Choice, Level, Stage},
};
use crate::auth::{User, impersonation::ImpersonatedUser};

/// What is known of a request from the start.
pub(crate) struct RequestAttributes<'a> {
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
    /// What it is about; none for a path.
    pub(crate) reference: Option<Reference>,
}

/// Room for a line: most are not larger.
const LINE_BYTES: usize = 1024;

/// The record of one request: an event for each stage that the policy wants.
pub(crate) struct AuditContext {
    audit: Arc<Audit>,
    choice: Choice,
    event: Mutex<Event>,
}

impl AuditContext {
    pub(super) fn new(audit: Arc<Audit>, choice: Choice, attributes: RequestAttributes<'_>) -> Self {
        let event = Event {
            annotations: BTreeMap::new(),
            api_version: "audit.k8s.io/v1",
            audit_id: attributes.id.to_owned(),
            authentication_metadata: None,
            impersonated_user: None,
            kind: "Event",
            level: choice.level.as_str(),
            object_ref: attributes.reference,
            request_object: None,
            request_received_timestamp: MicroTime(attributes.received),
            request_uri: attributes.uri,
            response_object: None,
            response_status: None,
            source_ips: attributes.sources,
            stage: "",
            stage_timestamp: MicroTime(attributes.received),
            user: to_raw_value(attributes.user).ok(),
            user_agent: attributes.agent.to_owned(),
            verb: attributes.verb.to_owned(),
        };
        Self { audit, choice, event: Mutex::new(event) }
    }

    /// How much is recorded.
    pub(crate) fn level(&self) -> Level {
        self.choice.level
    }

    /// Notes whom the user acts as.
    pub(crate) fn impersonated(&self, impersonated_user: &ImpersonatedUser) {
        let mut event = self.event.lock();
        event.impersonated_user = Some(impersonated_user.user.to_value());
        event.authentication_metadata = impersonated_user
            .constraint
            .clone()
            .map(|impersonation_constraint| Metadata { impersonation_constraint });
    }

    /// Notes what authorization said.
    pub(crate) fn decided(&self, decision: &'static str, reason: &str) {
        self.event.lock().annotations = BTreeMap::from([
            (Cow::Borrowed("authorization.k8s.io/decision"), Cow::Borrowed(decision)),
            (Cow::Borrowed("authorization.k8s.io/reason"), Cow::Owned(reason.to_owned())),
        ]);
    }

    /// Adds an annotation.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.event.lock().annotations.insert(key.to_owned().into(), value.to_owned().into());
    }

    /// Adds to an annotation, behind what others said, unless it was said before.
    pub(crate) fn gather(&self, key: &str, value: &str) {
        let mut event = self.event.lock();
        let said = match event.annotations.get(key) {
            None => value.to_owned(),
            Some(known) if known.is_empty() => value.to_owned(),
            Some(known) if known.split(", ").any(|said| said == value) => return,
            Some(known) => format!("{known}, {value}"),
        };
        event.annotations.insert(key.to_owned().into(), said.into());
    }

    /// Notes the object that was sent: its names in any case, itself if the level says so.
    pub(crate) fn requested(&self, object: &Value) {
        let mut event = self.event.lock();
        if let Some(reference) = &mut event.object_ref {
            let parts = [
                ("name", &mut reference.name),
                ("namespace", &mut reference.namespace),
                ("uid", &mut reference.uid),
                ("resourceVersion", &mut reference.resource_version),
            ];
            for (part, place) in parts {
                if place.is_empty() {
                    object["metadata"][part].as_str().unwrap_or_default().clone_into(place);
                }
            }
        }
        if self.choice.level >= Level::Request && !object.is_null() {
            event.request_object = Some(self.stripped(object.clone()));
        }
    }

    /// Notes the object that is answered.
    pub(crate) fn answered(&self, object: Value) {
        let object = self.stripped(object);
        self.event.lock().response_object = Some(object);
    }

    /// Notes the code of the answer, and the error if it is one.
    pub(crate) fn ended(&self, code: u16, error: Option<&ApiError>) {
        let ending = match error {
            None => ResponseStatus::Code { code, metadata: Empty {} },
            Some(error) => {
                let mut status = error.to_value();
                if let Some(status) = status.as_object_mut() {
                    status.remove("kind");
                    status.remove("apiVersion");
                }
                ResponseStatus::Status(status)
            }
        };
        self.event.lock().response_status = Some(ending);
    }

    /// Notes the code, and the message that goes with it.
    pub(crate) fn ended_with(&self, code: u16, message: &str) {
        let status = json!({"metadata": {}, "status": "Failure", "message": message, "code": code});
        self.event.lock().response_status = Some(ResponseStatus::Status(status));
    }

    /// The line of a stage; none if the policy leaves it out.
    fn line(&self, stage: Stage) -> Option<Vec<u8>> {
        if self.choice.omit_stages.contains(&stage) {
            return None;
        }
        let mut event = self.event.lock();
        (event.stage, event.stage_timestamp) = (stage.as_str(), MicroTime(Timestamp::now()));
        let mut line = Vec::with_capacity(LINE_BYTES);
        serde_json::to_writer(&mut line, &*event).ok()?;
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
