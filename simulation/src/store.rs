//! The federation's API, as the controller and users know it: objects with versions, finalizers, preconditions, watches and backups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use federation_controller::Direct;
use federation_core::api::marks;
use kube::core::Status;
use parking_lot::Mutex;
use serde_json::Value;

use crate::dice::Dice;

/// A change, as watches tell it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) collection: String,
    pub(crate) object: Arc<Value>,
    pub(crate) present: bool,
}

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    /// By URL path.
    pub(crate) objects: BTreeMap<String, Arc<Value>>,
    revision: u64,
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) data: Data,
    /// Since the watches were last told.
    pub(crate) changes: Vec<Change>,
    /// Writes fail.
    pub(crate) down: bool,
    /// After so many writes more the controller is killed in the middle of one.
    pub(crate) kill_in: Option<u32>,
    /// It was, just now.
    pub(crate) killed: bool,
    // Never goes back, whatever is restored.
    uids: u64,
    pub(crate) writes: u64,
    /// Requests and answers take their time, by these dice.
    pub(crate) slow: Option<Dice>,
}

/// The store, shared with the controller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<Store>>);

/// `/apis/apps/v1/namespaces/default/deployments/web` is in the collection `/apis/apps/v1/deployments`.
pub(crate) fn collection_of(path: &str) -> String {
    let collection = path.rsplit_once('/').map_or(path, |(collection, _)| collection);
    match collection.split_once("/namespaces/") {
        Some((root, rest)) => match rest.split_once('/') {
            Some((_, plural)) => format!("{root}/{plural}"),
            None => collection.to_owned(),
        },
        None => collection.to_owned(),
    }
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Store {
    fn keep(&mut self, path: &str, mut object: Value) -> Arc<Value> {
        self.data.revision += 1;
        object["metadata"]["resourceVersion"] = self.data.revision.to_string().into();
        let object = Arc::new(object);
        let change = Change { collection: collection_of(path), object: object.clone(), present: true };
        self.changes.push(change);
        self.data.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn drop(&mut self, path: &str) {
        self.data.revision += 1;
        if let Some(object) = self.data.objects.remove(path) {
            self.changes.push(Change { collection: collection_of(path), object, present: false });
        }
    }

    /// Makes an object; its uid.
    pub(crate) fn create(&mut self, path: &str, mut object: Value) -> Option<String> {
        if self.data.objects.contains_key(path) {
            return None;
        }
        self.uids += 1;
        let uid = format!("u{}", self.uids);
        object["metadata"]["uid"] = uid.clone().into();
        if object.pointer("/spec").is_some() {
            object["metadata"]["generation"] = 1.into();
        }
        self.keep(path, object);
        Some(uid)
    }

    /// Changes an object as its user wants it.
    pub(crate) fn change(&mut self, path: &str, change: impl FnOnce(&mut Value)) {
        let Some(mut object) = self.data.objects.get(path).map(|object| Value::clone(object)) else { return };
        change(&mut object);
        if let Some(generation) = object.pointer_mut("/metadata/generation") {
            *generation = (generation.as_i64().unwrap_or_default() + 1).into();
        }
        self.keep(path, object);
    }

    /// Deletes an object: at once, or when its finalizers are seen to.
    pub(crate) fn delete(&mut self, path: &str, propagation: &str) {
        let Some(object) = self.data.objects.get(path) else { return };
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        if finalizers.is_none_or(Vec::is_empty) {
            return self.drop(path);
        }
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            return;
        }
        let mut object = Value::clone(object);
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        object["metadata"]["annotations"][marks::DELETION_PROPAGATION] = propagation.into();
        self.keep(path, object);
    }

    pub(crate) fn is_deleting(&self, path: &str) -> bool {
        self.data
            .objects
            .get(path)
            .is_some_and(|object| object.pointer("/metadata/deletionTimestamp").is_some())
    }

    fn answer(&mut self, method: &str, path: &str, body: Value) -> Result<Arc<Value>, u16> {
        match method {
            "GET" => self.data.objects.get(path).cloned().ok_or(404),
            "POST" => {
                let name = text(&body, "/metadata/name").to_owned();
                let mut body = body;
                if let Some((_, rest)) = path.split_once("/namespaces/")
                    && let Some((namespace, _)) = rest.split_once('/')
                {
                    body["metadata"]["namespace"] = namespace.into();
                }
                let path = format!("{path}/{name}");
                self.create(&path, body).ok_or(409_u16)?;
                self.data.objects.get(&path).cloned().ok_or(404)
            }
            "PUT" => {
                let kept = self.data.objects.get(path).ok_or(404_u16)?;
                let same = |pointer: &str| kept.pointer(pointer) == body.pointer(pointer);
                if !same("/metadata/resourceVersion") {
                    return Err(409);
                }
                Ok(self.keep(path, body))
            }
            "DELETE" => {
                self.data.objects.get(path).ok_or(404_u16)?;
                self.drop(path);
                Ok(Arc::default())
            }
            "PATCH" => self.patch(path, &body),
            _ => Err(405),
        }
    }

    fn patch(&mut self, path: &str, patch: &Value) -> Result<Arc<Value>, u16> {
        let path = path.strip_suffix("/status").unwrap_or(path);
        let mut object = Value::clone(self.data.objects.get(path).ok_or(404_u16)?);
        if let Some(operations) = patch.as_array() {
            for operation in operations {
                let value = operation.get("value").cloned().unwrap_or_default();
                match text(operation, "/path") {
                    "/spec" => object["spec"] = value,
                    "/status" => object["status"] = value,
                    "/metadata/ownerReferences" => object["metadata"]["ownerReferences"] = value,
                    _ => return Err(422),
                }
            }
            return Ok(self.keep(path, object));
        }
        // A merge patch: of what is to be as it was, and of finalizers.
        for precondition in ["/metadata/uid", "/metadata/resourceVersion"] {
            let wanted = patch.pointer(precondition);
            if wanted.is_some() && wanted != object.pointer(precondition) {
                return Err(409);
            }
        }
        if let Some(finalizers) = patch.pointer("/metadata/finalizers") {
            object["metadata"]["finalizers"] = finalizers.clone();
            let none = finalizers.as_array().is_none_or(Vec::is_empty);
            if none && object.pointer("/metadata/deletionTimestamp").is_some() {
                self.drop(path);
                return Ok(Arc::new(object));
            }
        }
        Ok(self.keep(path, object))
    }
}

impl Direct for Shared {
    fn delays(&self) -> (Duration, Duration) {
        let mut store = self.0.lock();
        let Some(dice) = &mut store.slow else { return Default::default() };
        let mut delay =
            || if dice.chance(300) { Duration::from_millis(dice.between(1, 600)) } else { Duration::ZERO };
        (delay(), delay())
    }

    fn answer(&self, request: http::Request<Vec<u8>>) -> Option<Result<Value, kube::Error>> {
        let mut store = self.0.lock();
        let failed = |code: u16| {
            kube::Error::Api(Box::new(Status { code, message: "simulated".into(), ..Status::default() }))
        };
        if store.killed {
            return None;
        }
        let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let method = request.method().as_str();
        if store.down {
            return Some(Err(failed(503)));
        }
        if method != "GET" {
            store.writes += 1;
            if let Some(left) = &mut store.kill_in {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    store.kill_in = None;
                    store.killed = true;
                    // Half of them are carried out, and nobody hears of it.
                    if store.writes.is_multiple_of(2) {
                        let _ = store.answer(method, request.uri().path(), body);
                    }
                    return None;
                }
            }
        }
        let answer = store.answer(method, request.uri().path(), body);
        Some(answer.map(Arc::unwrap_or_clone).map_err(failed))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_objects_collection_is_that_of_all_namespaces() {
        for (path, collection) in [
            ("/apis/apps/v1/namespaces/default/deployments/web", "/apis/apps/v1/deployments"),
            ("/api/v1/namespaces/default/services/web", "/api/v1/services"),
            ("/apis/federation.rs/v1alpha1/clusters/a", "/apis/federation.rs/v1alpha1/clusters"),
            ("/api/v1/namespaces/kube-system", "/api/v1/namespaces"),
        ] {
            assert_eq!(collection_of(path), collection);
        }
    }

    #[test]
    fn what_has_a_finalizer_goes_when_that_is_seen_to() {
        let mut store = Store::default();
        let path = "/api/v1/namespaces/default/configmaps/a";
        store.create(path, json!({"metadata": {"name": "a", "finalizers": ["f"]}})).expect("it is new");
        store.delete(path, "Background");
        assert!(store.is_deleting(path));
        let patch = |version: &str| json!({"metadata": {"resourceVersion": version, "finalizers": []}});
        assert_eq!(store.answer("PATCH", path, patch("1")), Err(409));
        assert!(store.answer("PATCH", path, patch("2")).is_ok());
        assert!(store.data.objects.is_empty());
        assert_eq!(store.changes.last().map(|change| change.present), Some(false));
    }
}
