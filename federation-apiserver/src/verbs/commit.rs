//! The last steps of a write: the store, or for a dry run only what the store would hold.

use std::sync::{Arc, LazyLock};

use apimachinery::{
    ApiError, apply,
    order::Ordered,
    status::{GroupResource, Reason},
};
use serde_json::Value;

use super::{Call, definition, object, patch};
use crate::{
    admission::{self, webhook},
    store::{Encoded, Key, ResourceKey, Stored, Write, WriteError},
};

static NAMESPACES: LazyLock<ResourceKey> = LazyLock::new(|| ResourceKey::new("", "namespaces"));

/// Rounds of a create against those who change its namespace.
const ROUNDS: usize = 64;

/// How a write ended.
pub(super) enum Outcome {
    /// It is done, or nothing was to do.
    Done(Arc<Stored>),
    /// The object was removed: its last finalizer went.
    Removed(Arc<Stored>),
    /// Somebody else wrote in between.
    Stale,
}

impl Outcome {
    /// The state to answer with; an unexpected writer in between is a conflict.
    pub(super) fn into_stored(self, call: &Call, name: &str) -> Result<Arc<Stored>, ApiError> {
        match self {
            Self::Done(stored) | Self::Removed(stored) => Ok(stored),
            Self::Stale => Err(ApiError::stale(&call.resource(), name)),
        }
    }
}

/// Refuses new content where there is no namespace for it, or no more. Returns the namespace that was found.
pub(super) fn check_namespace(call: &Call, name: &str) -> Result<Option<(Key, u64)>, ApiError> {
    if !call.kind.namespaced() {
        return Ok(None);
    }
    let namespaces = GroupResource::new("", "namespaces");
    let key = Key::new(NAMESPACES.clone(), "", call.namespace());
    match call.shared.storage.get(&key) {
        None => Err(ApiError::not_found(&namespaces, call.namespace())),
        Some(namespace) if namespace.meta.deleting => {
            Err(ApiError::namespace_terminating(&call.resource(), name, call.namespace()))
        }
        Some(namespace) => Ok(Some((key, namespace.revision))),
    }
}

/// Stores a new object.
pub(super) async fn create(
    call: &Call,
    name: &str,
    object: Value,
    dry_run: bool,
) -> Result<Arc<Stored>, ApiError> {
    let key = call.key(name);
    let generated = object["metadata"]["generateName"].as_str().is_some_and(|prefix| !prefix.is_empty());
    let taken = |existing: &Stored| taken(call, existing, generated);
    admission::permit(call, name, None, &object).await?;
    admission::secure(call, None, &object)?;
    admission::check_policies(call, None, Some(&object), dry_run).await?;
    webhook::Write::of(call, None, dry_run).validate(Some(&object)).await?;
    let _held = admission::reserve(call, name, None, &object, dry_run)?;
    if dry_run {
        return match call.shared.storage.get(&key) {
            Some(existing) => Err(taken(&existing)),
            None => dry_run_result(call, key, 0, object).await,
        };
    }
    // Only the store of kube-apiserver looks at it, after everybody else has been asked.
    if object::version(&object).parse::<u64>().is_ok() {
        return Err(ApiError::resource_version_on_create());
    }
    let object = encode(call, object, 0).await?;
    for _ in 0..ROUNDS {
        if let Some(existing) = call.shared.storage.get(&key) {
            return Err(taken(&existing));
        }
        let within = check_namespace(call, name)?;
        let write = Write::Create { key: key.clone(), object: object.clone(), within };
        match call.shared.storage.write(write).await {
            Ok(stored) => {
                definition::establish(call, &stored).await;
                return Ok(stored);
            }
            Err(WriteError::Exists(existing)) => return Err(taken(&existing)),
            Err(WriteError::Moved) => {}
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Err(ApiError::stale(&GroupResource::new("", "namespaces"), call.namespace()))
}

/// What a name is refused with that another object has. Whoever lets the server choose the end of it may come again.
fn taken(call: &Call, existing: &Stored, generated: bool) -> ApiError {
    let mut error = if existing.meta.deleting {
        ApiError::being_deleted(&call.resource(), &existing.key.name)
    } else {
        ApiError::already_exists(&call.resource(), &existing.key.name)
    };
    if generated {
        error.message.push_str(", the server was not able to generate a unique name for the object");
        if let Some(details) = &mut error.details {
            details.retry_after_seconds = 1;
        }
    }
    error
}

/// Replaces `current`, unless nothing has changed, or the object is to go instead.
pub(super) async fn replace(
    call: &Call,
    current: &Arc<Stored>,
    old: &Value,
    mut object: Value,
    dry_run: bool,
) -> Result<Outcome, ApiError> {
    if object::same(old, &object) {
        unchanged(call, current, old, dry_run).await?;
        return Ok(Outcome::Done(Arc::clone(current)));
    }
    admission::permit(call, &current.key.name, Some(old), &object).await?;
    admission::secure(call, Some(old), &object)?;
    ask(call, old, &object, dry_run).await?;
    let key = current.key.clone();
    let _held = admission::reserve(call, &key.name, Some((old, current.revision)), &object, dry_run)?;
    let expect = Some(current.revision);
    let released = crate::deletion::is_released(&object);
    if dry_run {
        return dry_run_result(call, key, current.revision, object).await.map(Outcome::Done);
    }
    let _alone = definition::settle(call, &mut object, old).await;
    let object = encode(call, object, current.bytes.len()).await?;
    let write = if released {
        Write::Delete { key, expect, last: object }
    } else {
        Write::Update { key, expect, object }
    };
    match call.shared.storage.write(write).await {
        Ok(stored) if released => Ok(Outcome::Removed(stored)),
        Ok(stored) => Ok(Outcome::Done(stored)),
        Err(WriteError::Conflict { .. }) => Ok(Outcome::Stale),
        Err(WriteError::NotFound) => Err(ApiError::not_found(&call.resource(), &current.key.name)),
        Err(error) => Err(unavailable(&error)),
    }
}

/// etcd's `--max-request-bytes`, of which an object is nearly all.
const OBJECT_MAX_BYTES: usize = 3 << 19;

/// Serializes an object for the store. Refuses what etcd would: members keep their objects there, and agents take no larger ones. An object
/// of an older hub may shrink. If it is too large only with what is known of its fields' owners, that is forgotten, as kube-apiserver does
/// it; but an apply is for nothing without.
pub(super) async fn encode(call: &Call, object: Value, before: usize) -> Result<Encoded, ApiError> {
    let max = OBJECT_MAX_BYTES.max(before);
    let object = object::encode_for(call, object).await?;
    if object.size() <= max {
        return Ok(object);
    }
    if !patch::applies(call) {
        let mut smaller = object.value().map_err(ApiError::internal)?;
        apply::remove_managed_fields(&mut smaller);
        let smaller = object::encode_stored(&call.kind, smaller);
        if smaller.size() <= max {
            return Ok(smaller);
        }
    }
    Err(too_large())
}

/// In etcd's words.
pub(super) fn too_large() -> ApiError {
    ApiError::new(500, Reason::Unknown, "etcdserver: request is too large")
}

/// Checks a write that changes nothing. Who may not write is told so all the same: kube-apiserver looks last for what has changed.
pub(super) async fn unchanged(
    call: &Call,
    current: &Stored,
    old: &Value,
    dry_run: bool,
) -> Result<(), ApiError> {
    admission::permit_unchanged(call, &current.key.name, old).await?;
    ask(call, old, old, dry_run).await
}

/// Asks the policies and the validating webhooks about an update.
async fn ask(call: &Call, old: &Value, object: &Value, dry_run: bool) -> Result<(), ApiError> {
    if call.is_admitted {
        return Ok(());
    }
    admission::check_policies(call, Some(old), Some(object), dry_run).await?;
    webhook::Write::of(call, Some(old), dry_run).validate(Some(object)).await
}

/// What the store would hold.
pub(super) async fn dry_run_result(
    call: &Call,
    key: Key,
    revision: u64,
    object: Value,
) -> Result<Arc<Stored>, ApiError> {
    let mut stored = call.to_stored(object).await?;
    // What is not there yet has the version that was sent with it, if any: nobody looks at that one.
    if revision > 0
        && let Some(metadata) = stored["metadata"].as_object_mut()
    {
        metadata.insert("resourceVersion".into(), revision.to_string().into());
    }
    let bytes = serde_json::to_vec(&Ordered::new(&stored)).map_err(ApiError::internal)?;
    Ok(Arc::new(Stored { key, revision, bytes: bytes.into(), meta: crate::store::Meta::default() }))
}

/// A store that does not take the write.
pub(super) fn unavailable(error: &WriteError) -> ApiError {
    match error {
        WriteError::Overloaded => ApiError::too_many_requests(error.to_string(), 1),
        _ => ApiError::service_unavailable(error.to_string()),
    }
}
