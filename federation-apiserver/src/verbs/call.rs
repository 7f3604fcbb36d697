//! One request on a resource, with everything that the verbs need of it.

use std::sync::Arc;

use apimachinery::{ApiError, status::GroupResource};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use kube_schema::Empties;
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    allocation::Reservation,
    audit::{AuditContext, Level},
    auth::User,
    crd::{self, conversion},
    deletion, encode,
    http::{Body, compress, info::ResourcePath, negotiate::Format, query::Query, respond},
    registry::{Kind, KindRef},
    server::Shared,
    store::{Key, Stored},
};

/// A request on a resource.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    /// Who asks, or whom he impersonates.
    pub(crate) user: Arc<User>,
    pub(crate) kind: KindRef,
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) format: Format,
    /// Addresses and ports that were chosen for the object, until the request is done.
    pub(crate) reservation: Mutex<Option<Reservation>>,
    /// Texts for Warning headers.
    pub(crate) warnings: Vec<String>,
    /// The same, from steps that share the call: a delete of many checks each.
    pub(crate) shared_warnings: Arc<Mutex<Vec<String>>>,
    /// The audit log's record of the request, if there is one.
    pub(crate) record: Option<Arc<AuditContext>>,
    /// Policies and webhooks have been asked about the request as what it is: a Scale, a Binding, an Eviction.
    pub(crate) is_admitted: bool,
    /// The client's connection, if a watch may make a WebSocket of it.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// The time of the request: one for everything that it writes.
    pub(crate) now: Timestamp,
}

impl Call {
    /// Group and resource, for messages.
    pub(crate) fn resource(&self) -> GroupResource {
        self.kind.resource()
    }

    /// The namespace of the objects; empty for cluster-scoped kinds.
    pub(crate) fn namespace(&self) -> &str {
        if self.kind.namespaced() { self.path.namespace.as_deref().unwrap_or_default() } else { "" }
    }

    /// The name in the URL.
    pub(crate) fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    /// The key of a name in the URL's namespace.
    pub(crate) fn key(&self, name: &str) -> Key {
        Key::new(self.kind.storage(), self.namespace(), name)
    }

    /// The object that the URL names.
    pub(crate) fn current(&self) -> Result<Arc<Stored>, ApiError> {
        self.shared
            .storage
            .get(&self.key(self.name()))
            .ok_or_else(|| ApiError::not_found(&self.resource(), self.name()))
    }

    /// Brings an object of the table into the one form that Kubernetes gives it. What its schema does not know goes; custom kinds have
    /// rules of their own for all but their metadata.
    pub(crate) fn canonicalise(&self, object: &mut Value) {
        self.canonicalise_as(&self.kind, object);
    }

    /// The same of an object that is in this version of the kind.
    pub(crate) fn canonicalise_as(&self, kind: &Kind, object: &mut Value) {
        if let Some(custom) = &kind.custom {
            let schemas = self.shared.schemas();
            schemas.canonicalise_metadata(object);
            custom.schema.visit_embedded(object, &mut |own, _| schemas.canonicalise_metadata(own));
            return;
        }
        let empties = if kind.built_in { Empties::Omitted } else { Empties::Kept };
        self.shared.schemas().canonicalise(kind.group, kind.version, kind.kind, object, empties);
    }

    /// Completes an object with what the server allocates for it. What is chosen stays so until the request is done.
    pub(crate) fn allocate(&self, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        if !self.kind.allocates {
            return Ok(());
        }
        let mut held = self.reservation.lock();
        // An earlier round's choice would stand in the way of this one's.
        drop(held.take());
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let found = self.shared.allocator.complete(&self.shared.storage, &self.key(&name), object, old);
        let reservation =
            found.map_err(|errors| ApiError::invalid(self.kind.group, self.kind.kind, &name, &errors))?;
        *held = Some(reservation);
        Ok(())
    }

    /// Whether the audit log holds objects of this request.
    pub(crate) fn records_objects(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.level() >= Level::Request)
    }

    /// Parses a stored object, in the form of the kind that was asked for.
    pub(crate) async fn value(&self, stored: &Arc<Stored>) -> Result<Value, ApiError> {
        let stored = conversion::seen(&self.shared.storage, &self.kind, stored).await?;
        parse(&self.kind, &stored)
    }

    /// The same as what a write replaces: in the one form that new objects have, with their defaults, whichever version of this server has
    /// stored it.
    pub(crate) async fn old_value(&self, stored: &Arc<Stored>) -> Result<Value, ApiError> {
        let mut value = self.value(stored).await?;
        self.canonicalise(&mut value);
        if self.kind.built_in {
            (self.kind.default)(&mut value);
        }
        Ok(value)
    }

    /// An object of the kind that was asked for, in the form in which it is stored.
    pub(crate) async fn to_stored(&self, object: Value) -> Result<Value, ApiError> {
        conversion::to_stored(&self.shared.storage, &self.kind, object).await
    }

    /// Answers with an object.
    pub(crate) async fn answer(
        &self,
        code: StatusCode,
        stored: &Arc<Stored>,
    ) -> Result<Response<Body>, ApiError> {
        let stored = conversion::seen(&self.shared.storage, &self.kind, stored).await?;
        let (content_type, bytes) = encode::object(&self.kind, self.format, &stored, self.now)?;
        Ok(self.finish(compress::bytes_for(&self.headers, code, content_type, bytes)))
    }

    /// Answers with a value that is not stored: a dry run's result, a Scale, a Status.
    pub(crate) fn answer_value(&self, code: StatusCode, value: &Value) -> Response<Body> {
        self.finish(respond::value(
            code,
            Format { view: crate::http::negotiate::View::Object, ..self.format },
            value,
        ))
    }

    /// Brings the status of a CustomResourceDefinition up to date with its spec, in the write that changes it.
    pub(crate) fn settle_definition(&self, object: &mut Value) {
        if !crd::is_definition(&self.kind) {
            return;
        }
        let served = self.shared.served();
        let definitions = served.definitions().map(|definition| &**definition);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, name) = (text(&object["spec"]["group"]), text(&object["metadata"]["name"]));
        let taken = crd::status::TakenNames::new(definitions, &group, &name);
        crd::status::settle(object, &taken, &deletion::seconds(self.now));
    }

    /// The manager's name for field ownership: as asked, or the User-Agent up to its slash.
    pub(crate) fn field_manager(&self, asked: Option<&str>) -> String {
        asked.map_or_else(
            || {
                let agent = self.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
                let name = agent.unwrap_or_default().split('/').next().unwrap_or_default();
                if name.is_empty() { "unknown".to_owned() } else { name.chars().take(128).collect() }
            },
            str::to_owned,
        )
    }

    pub(super) fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        respond::warn(headers, self.warnings.iter().chain(self.shared_warnings.lock().iter()));
        response
    }
}

/// Parses a stored object, in the form of `kind`.
pub(crate) fn parse(kind: &Kind, stored: &Stored) -> Result<Value, ApiError> {
    stored.value().map(|value| kind.to_served(value)).map_err(ApiError::internal)
}
