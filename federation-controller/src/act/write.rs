//! Writes to the federation's API: finalizers, Placements, statuses. At most [`WRITES`] at once.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use federation_core::api::{API_VERSION, HeldRemovalSpec, PlacementSpec, PlacementStatus, marks};
use federation_core::trash;

use super::api::Api;
use crate::observe::{Key, Template};

/// Writes in flight: enough to fill the store's group commit, too few to starve other clients of it.
pub(crate) const WRITES: usize = 64;

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request could not be built.
    #[error("build the request for {0}")]
    Build(String, #[source] kube::core::request::Error),
    /// Another writer was first; the watch will deliver the newer object.
    #[error("{0} was changed meanwhile")]
    Conflict(String),
    /// The object is gone.
    #[error("{0} is gone")]
    Gone(String),
    /// The API refused, or did not answer.
    #[error("write {0}")]
    Api(String, #[source] kube::Error),
}

impl Error {
    /// Whether the API found what was written invalid.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self, Self::Api(_, kube::Error::Api(status)) if status.code == 422)
    }

    /// Whether a retry would get the same answer.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Gone(_) => true,
            Self::Api(_, kube::Error::Api(status)) => (400..500).contains(&status.code) && status.code != 429,
            _ => false,
        }
    }
}

/// The writer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    api: Api,
    writes: Arc<Semaphore>,
}

impl Writer {
    pub(crate) fn new(api: Api) -> Self {
        Self { api, writes: Arc::new(Semaphore::new(WRITES)) }
    }

    /// Puts our finalizer on a template; returns the template as it is then.
    pub(crate) async fn add_finalizer(&self, template: &Template) -> Result<Value, Error> {
        let mut finalizers = template.other_finalizers();
        finalizers.push(marks::FINALIZER.into());
        self.patch_finalizers(template, finalizers).await
    }

    /// Removes our finalizer. Succeeds if the template is already gone.
    pub(crate) async fn drop_finalizer(&self, template: &Template) -> Result<(), Error> {
        match self.patch_finalizers(template, template.other_finalizers()).await {
            Ok(_) | Err(Error::Gone(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn patch_finalizers(&self, template: &Template, finalizers: Vec<Value>) -> Result<Value, Error> {
        // The uid and the version as preconditions: never a namesake, and never over another finalizer.
        let patch = json!({"metadata": {
            "uid": &*template.uid,
            "resourceVersion": &*template.resource_version,
            "finalizers": finalizers,
        }});
        let key = &template.key;
        let request = Request::new(key.kind.path(&key.namespace));
        let path = key.path();
        let request = request
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .map_err(|error| Error::Build(path.clone(), error))?;
        self.ask(path, request).await
    }

    /// Writes a Placement's spec; `known` says whether it is believed to exist.
    pub(crate) async fn put_placement(
        &self,
        template: &Template,
        spec: &PlacementSpec,
        known: bool,
    ) -> Result<(), Error> {
        if known {
            match self.replace_spec(&template.key, spec).await {
                Err(Error::Gone(_)) => self.create_placement(template, spec).await,
                other => other,
            }
        } else {
            match self.create_placement(template, spec).await {
                // One exists, perhaps from an earlier run: its owner reference may name an earlier object of the same name.
                Err(Error::Conflict(_)) => self.replace_spec_and_owner(template, spec).await,
                other => other,
            }
        }
    }

    async fn create_placement(&self, template: &Template, spec: &PlacementSpec) -> Result<(), Error> {
        let key = &template.key;
        let (kind, _) = placement_kind(key);
        let object = json!({
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": key.placement_name(), "ownerReferences": owners(template)},
            "spec": spec,
        });
        let collection = placements_path(key);
        let path = format!("{collection}/{}", key.placement_name());
        let request = Request::new(collection)
            .create(&PostParams::default(), object.to_string().into_bytes())
            .map_err(|error| Error::Build(path.clone(), error))?;
        self.send(path, request).await
    }

    async fn replace_spec(&self, key: &Key, spec: &PlacementSpec) -> Result<(), Error> {
        self.patch_placement(key, json!([{"op": "replace", "path": "/spec", "value": spec}])).await
    }

    async fn replace_spec_and_owner(&self, template: &Template, spec: &PlacementSpec) -> Result<(), Error> {
        let patch = json!([
            {"op": "replace", "path": "/spec", "value": spec},
            {"op": "add", "path": "/metadata/ownerReferences", "value": owners(template)},
        ]);
        self.patch_placement(&template.key, patch).await
    }

    async fn patch_placement(&self, key: &Key, patch: Value) -> Result<(), Error> {
        let collection = placements_path(key);
        let path = format!("{collection}/{}", key.placement_name());
        let request = Request::new(collection)
            .patch(&key.placement_name(), &PatchParams::default(), &json_patch(patch)?)
            .map_err(|error| Error::Build(path.clone(), error))?;
        self.send(path, request).await
    }

    /// Writes a Placement's status.
    pub(crate) async fn put_placement_status(
        &self,
        key: &Key,
        status: &PlacementStatus,
    ) -> Result<(), Error> {
        let collection = placements_path(key);
        self.put_status(&collection, &key.placement_name(), &json!(status)).await
    }

    /// Replaces the status of any object.
    pub(crate) async fn put_status(&self, collection: &str, name: &str, status: &Value) -> Result<(), Error> {
        let path = format!("{collection}/{name}/status");
        // "add" replaces what is there, so that no field of an older status survives.
        let patch = json_patch(json!([{"op": "add", "path": "/status", "value": status}]))?;
        let request = Request::new(collection)
            .patch_subresource("status", name, &PatchParams::default(), &patch)
            .map_err(|error| Error::Build(path.clone(), error))?;
        self.send(path, request).await
    }

    /// Merges metadata annotations into an object.
    pub(crate) async fn annotate(
        &self,
        collection: &str,
        name: &str,
        annotations: Value,
    ) -> Result<(), Error> {
        self.merge(collection, name, json!({"metadata": {"annotations": annotations}})).await
    }

    /// Merges a patch into an object; a resourceVersion in it is a precondition.
    pub(crate) async fn merge(&self, collection: &str, name: &str, patch: Value) -> Result<(), Error> {
        let path = format!("{collection}/{name}");
        let request = Request::new(collection)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .map_err(|error| Error::Build(path.clone(), error))?;
        self.send(path, request).await
    }

    /// Deletes a Placement. Succeeds if it is already gone.
    pub(crate) async fn delete_placement(&self, key: &Key) -> Result<(), Error> {
        let collection = placements_path(key);
        let path = format!("{collection}/{}", key.placement_name());
        let request = Request::new(collection)
            .delete(&key.placement_name(), &kube::api::DeleteParams::default())
            .map_err(|error| Error::Build(path.clone(), error))?;
        match self.send(path, request).await {
            Ok(()) | Err(Error::Gone(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates a HeldRemoval. Succeeds if it already exists.
    pub(crate) async fn create_held(&self, id: &str, spec: &HeldRemovalSpec) -> Result<(), Error> {
        self.create_own("HeldRemoval", "heldremovals", id, &json!(spec)).await
    }

    /// Puts a deleted template into the trash. Succeeds if it is already there.
    pub(crate) async fn create_trash(
        &self,
        template: &Template,
        clusters: Vec<String>,
        grace: Duration,
    ) -> Result<(), Error> {
        let key = &template.key;
        // Who keeps them for longer than time can say keeps them for ever.
        let expires = jiff::Timestamp::now().checked_add(grace).unwrap_or(jiff::Timestamp::MAX);
        let spec = trash::keep(&template.object, key.kind.plural, clusters, format!("{expires:.0}"));
        let name = trash::name(&key.placement_name(), &key.namespace, &template.uid);
        self.create_own("Trash", "trash", &name, &json!(spec)).await
    }

    async fn create_own(&self, kind: &str, plural: &str, name: &str, spec: &Value) -> Result<(), Error> {
        let object =
            json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
        let collection = format!("/apis/{API_VERSION}/{plural}");
        let path = format!("{collection}/{name}");
        let request = Request::new(collection)
            .create(&PostParams::default(), object.to_string().into_bytes())
            .map_err(|error| Error::Build(path.clone(), error))?;
        match self.send(path, request).await {
            Ok(()) | Err(Error::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends a write and ignores the returned object.
    async fn send(&self, path: String, request: http::Request<Vec<u8>>) -> Result<(), Error> {
        self.ask::<IgnoredAny>(path, request).await.map(|_| ())
    }

    /// Sends a write and returns the API's response.
    async fn ask<T: DeserializeOwned>(
        &self,
        path: String,
        request: http::Request<Vec<u8>>,
    ) -> Result<T, Error> {
        // The semaphore is never closed; were it, an unbounded write is better than none.
        let _one_of_few = self.writes.acquire().await.ok();
        self.api.send::<T>(request).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 409 => Error::Conflict(path),
            kube::Error::Api(status) if status.code == 404 => Error::Gone(path),
            _ => Error::Api(path, error),
        })
    }
}

fn json_patch(patch: Value) -> Result<Patch<()>, Error> {
    serde_json::from_value(patch).map(Patch::Json).map_err(|error| {
        Error::Build("a JSON patch".into(), kube::core::request::Error::SerializeBody(error))
    })
}

/// Kind and plural of the decision for a template.
fn placement_kind(key: &Key) -> (&'static str, &'static str) {
    if key.kind.namespaced { ("Placement", "placements") } else { ("ClusterPlacement", "clusterplacements") }
}

fn placements_path(key: &Key) -> String {
    let (_, plural) = placement_kind(key);
    if key.kind.namespaced {
        format!("/apis/{API_VERSION}/namespaces/{}/{plural}", key.namespace)
    } else {
        format!("/apis/{API_VERSION}/{plural}")
    }
}

fn owners(template: &Template) -> Value {
    json!([{
        "apiVersion": template.key.kind.api_version(),
        "kind": template.key.kind.kind,
        "name": &*template.key.name,
        "uid": &*template.uid,
        "controller": true,
    }])
}
