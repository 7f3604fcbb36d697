//! Conversion webhooks, which convert objects of a custom kind between its versions.
//!
//! Follows `apiextensions-apiserver/pkg/apiserver/conversion`: a ConversionReview holds all objects that are not of the wanted version
//! yet, and of the metadata in its response only labels and annotations are accepted. Converted objects are cached for some time while the
//! definition does not change, so that many watchers of a version cost one call for each change.

mod review;

use std::{collections::HashMap, sync::Arc, time::Duration};

use apimachinery::{ApiError, status::Reason};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    outbound::{self, Server},
    registry::Kind,
    store::{Snapshot, Storage, Stored},
};

/// `webhookutil`'s time-out of a conversion.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of objects in one review: the response may be several times as long, and is read up to 8 MiB.
const REVIEW_MAX: usize = 2 << 20;
/// Bytes of converted objects in the cache of one definition; a full cache is emptied.
const REMEMBERED_MAX: usize = 32 << 20;
/// How long they are cached: a webhook at an unchanged address may convert differently without notice.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Objects in the cache, those whose conversion is under way included: some 8 MiB.
const OBJECTS_MAX: usize = 1 << 16;

/// The conversion webhook of one definition.
pub(crate) struct Converter {
    server: Result<Server, String>,
    /// `v1` or `v1beta1`; none if it speaks neither.
    review_version: Option<&'static str>,
    remembered: Mutex<Remembered>,
}

/// Converted objects by the write that made them and the version they are in.
struct Remembered {
    objects: HashMap<(u64, String), Arc<OnceCell<Bytes>>>,
    size: usize,
    since: Instant,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { objects: HashMap::new(), size: 0, since: Instant::now() }
    }
}

impl Remembered {
    /// Drops entries that are too old: the webhook may convert differently by now.
    fn forget_old(&mut self) {
        if self.since.elapsed() >= REMEMBERED_FOR {
            *self = Self::default();
        }
    }
}

impl Converter {
    /// The webhook of `spec.conversion`; none if versions differ in name only.
    pub(super) fn read(conversion: &Value) -> Option<Self> {
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let mut spoken =
            webhook["conversionReviewVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            server: outbound::configured(&webhook["clientConfig"]),
            review_version: spoken
                .find_map(|version| ["v1", "v1beta1"].into_iter().find(|known| *known == version)),
            remembered: Mutex::default(),
        })
    }

    /// Converts objects to a version. Those that have it already are left alone; if all have it, the webhook is not called.
    ///
    /// # Errors
    /// With kube-apiserver's messages, without a reason or code of their own.
    pub(crate) async fn convert(
        &self,
        snapshot: &Snapshot,
        mut objects: Vec<Value>,
        wanted: &str,
    ) -> Result<Vec<Value>, ApiError> {
        let chosen: Vec<usize> =
            (0..objects.len()).filter(|at| objects[*at]["apiVersion"] != wanted).collect();
        let Some(first) = chosen.first() else { return Ok(objects) };
        let gvk = review::group_version_kind(&objects[*first]);
        let refused = |why: String| {
            tracing::warn!(kind = %gvk, %why, "a conversion webhook failed");
            ApiError::new(500, Reason::Unknown, why)
        };
        let originals: Vec<Value> = chosen.iter().map(|at| objects[*at].take()).collect();
        let mut converted = Vec::with_capacity(originals.len());
        for some in reviews_of(&originals) {
            let made = self.ask(snapshot, some, wanted).await;
            let made = made.map_err(|why| refused(format!("conversion webhook for {gvk} failed: {why}")))?;
            if made.len() != some.len() {
                let (found, expected) = (made.len(), some.len());
                return Err(refused(format!(
                    "conversion webhook for {gvk} returned {found} objects, expected {expected}"
                )));
            }
            converted.extend(made);
        }
        let single = originals.len() == 1;
        for (index, ((at, original), converted)) in chosen.iter().zip(originals).zip(converted).enumerate() {
            objects[*at] = review::accept(&original, converted, wanted, (!single).then_some(index))
                .map_err(|why| refused(format!("conversion webhook for {gvk} returned {why}")))?;
        }
        Ok(objects)
    }

    async fn ask(&self, snapshot: &Snapshot, objects: &[Value], wanted: &str) -> Result<Vec<Value>, String> {
        let server = self.server.as_ref().map_err(Clone::clone)?;
        let version = self.review_version.ok_or("no supported conversion review versions")?;
        let uid = uuid::Uuid::new_v4().to_string();
        let body = review::request(version, &uid, objects, wanted).to_string().into_bytes();
        let query = format!("timeout={}s", TIMEOUT.as_secs());
        let answer = server.post(snapshot, &query, outbound::whole(body), TIMEOUT).await?;
        if !answer.status.is_success() {
            return Err(outbound::failure(answer.status, &answer.body));
        }
        review::read(version, &uid, &answer.body)
    }

    /// A stored object in a version.
    async fn seen(
        &self,
        snapshot: &Snapshot,
        stored: &Arc<Stored>,
        wanted: &str,
    ) -> Result<Arc<Stored>, ApiError> {
        let object = stored.value().map_err(ApiError::internal)?;
        if object["apiVersion"] == wanted {
            return Ok(Arc::clone(stored));
        }
        let make = async {
            let made = self.convert(snapshot, vec![object], wanted).await?;
            let bytes =
                serde_json::to_vec(made.first().unwrap_or(&Value::Null)).map_err(ApiError::internal)?;
            Ok::<_, ApiError>(Bytes::from(bytes))
        };
        let bytes = match self.place(stored, wanted) {
            Some(place) => {
                let fresh = !place.initialized();
                let bytes = place.get_or_try_init(|| make).await?.clone();
                if fresh {
                    self.count(bytes.len());
                }
                bytes
            }
            None => make.await?,
        };
        Ok(Arc::new(Stored { bytes, ..Stored::clone(stored) }))
    }

    /// The cache entry of a converted object; none for objects of a dry run.
    fn place(&self, stored: &Stored, wanted: &str) -> Option<Arc<OnceCell<Bytes>>> {
        if stored.meta.uid.is_empty() {
            return None;
        }
        let mut remembered = self.remembered.lock();
        remembered.forget_old();
        if remembered.objects.len() >= OBJECTS_MAX {
            *remembered = Remembered::default();
        }
        let place = remembered.objects.entry((stored.revision, wanted.to_owned())).or_default();
        Some(Arc::clone(place))
    }

    /// The cached conversion of a stored object.
    fn known(&self, stored: &Stored, wanted: &str) -> Option<Bytes> {
        let mut remembered = self.remembered.lock();
        remembered.forget_old();
        let place = remembered.objects.get(&(stored.revision, wanted.to_owned()))?;
        place.get().filter(|_| !stored.meta.uid.is_empty()).cloned()
    }

    fn count(&self, bytes: usize) {
        let mut remembered = self.remembered.lock();
        remembered.size += bytes;
        if remembered.size > REMEMBERED_MAX {
            *remembered = Remembered::default();
        }
    }

    /// Stored objects in a version: those that are not cached are converted in one call.
    async fn seen_all(
        &self,
        snapshot: &Snapshot,
        mut items: Vec<Arc<Stored>>,
        wanted: &str,
    ) -> Result<Vec<Arc<Stored>>, ApiError> {
        let mut missing = Vec::new();
        let mut objects = Vec::new();
        for (at, stored) in items.iter_mut().enumerate() {
            if let Some(bytes) = self.known(stored, wanted) {
                *stored = Arc::new(Stored { bytes, ..Stored::clone(stored) });
                continue;
            }
            let object = stored.value().map_err(ApiError::internal)?;
            if object["apiVersion"] != wanted {
                missing.push(at);
                objects.push(object);
            }
        }
        let converted = self.convert(snapshot, objects, wanted).await?;
        for (at, object) in missing.into_iter().zip(converted) {
            let stored = &mut items[at];
            let bytes = Bytes::from(serde_json::to_vec(&object).map_err(ApiError::internal)?);
            if let Some(place) = self.place(stored, wanted)
                && place.set(bytes.clone()).is_ok()
            {
                self.count(bytes.len());
            }
            *stored = Arc::new(Stored { bytes, ..Stored::clone(stored) });
        }
        Ok(items)
    }
}

/// Splits objects into reviews whose responses are not too large to read ([`REVIEW_MAX`]): usually one.
fn reviews_of(mut objects: &[Value]) -> Vec<&[Value]> {
    let mut reviews = Vec::new();
    while !objects.is_empty() {
        let mut size = 0;
        let fitting = objects.iter().take_while(|object| {
            size += object.to_string().len();
            size <= REVIEW_MAX
        });
        // One that is too large by itself goes alone.
        let count = fitting.count().max(1);
        let (some, rest) = objects.split_at(count);
        reviews.push(some);
        objects = rest;
    }
    reviews
}

/// The webhook that converts objects of a kind, and the version in which its URL shows them.
fn converter(kind: &Kind) -> Option<(&Converter, &str)> {
    let custom = kind.custom.as_ref()?;
    Some((custom.converter.as_deref()?, &custom.api_version))
}

/// Whether objects of a kind are converted by a webhook.
pub(crate) fn is_asked(kind: &Kind) -> bool {
    converter(kind).is_some()
}

/// A stored object in the version of a kind, before pruning and defaults. This is free unless a webhook converts the kind. The future that calls the
/// webhook is boxed here as elsewhere: it is many times larger than the rest of a request's future, which is moved a few times.
pub(crate) async fn seen(
    storage: &Storage,
    kind: &Kind,
    stored: &Arc<Stored>,
) -> Result<Arc<Stored>, ApiError> {
    match converter(kind) {
        Some((converter, wanted)) => Box::pin(converter.seen(&storage.snapshot(), stored, wanted)).await,
        None => Ok(Arc::clone(stored)),
    }
}

/// The same for many at once.
pub(crate) async fn seen_all(
    storage: &Storage,
    kind: &Kind,
    items: Vec<Arc<Stored>>,
) -> Result<Vec<Arc<Stored>>, ApiError> {
    match converter(kind) {
        Some((converter, wanted)) => Box::pin(converter.seen_all(&storage.snapshot(), items, wanted)).await,
        None => Ok(items),
    }
}

/// An object in the version in which its kind is stored.
pub(crate) async fn to_stored(storage: &Storage, kind: &Kind, object: Value) -> Result<Value, ApiError> {
    let custom = kind.custom.as_ref().filter(|custom| custom.converter.is_some());
    let object = match custom {
        Some(custom) => Box::pin(one(storage, custom, object, &custom.storage_version)).await?,
        None => object,
    };
    Ok(kind.to_stored(object))
}

/// An object of one version of a kind in another.
pub(crate) async fn between(
    storage: &Storage,
    from: &Kind,
    to: &Kind,
    object: Value,
) -> Result<Value, ApiError> {
    let custom = to.custom.as_ref().filter(|custom| custom.converter.is_some());
    match custom {
        Some(custom) => {
            let mut object = Box::pin(one(storage, custom, object, &custom.api_version)).await?;
            custom.complete(&mut object);
            Ok(object)
        }
        None => Ok(to.to_served(from.to_stored(object))),
    }
}

async fn one(
    storage: &Storage,
    custom: &super::Custom,
    object: Value,
    wanted: &str,
) -> Result<Value, ApiError> {
    let Some(converter) = &custom.converter else { return Ok(object) };
    let made = converter.convert(&storage.snapshot(), vec![object], wanted).await?;
    Ok(made.into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_some_time_ago_is_asked_for_again() {
        let mut remembered = Remembered::default();
        remembered.objects.insert((1, "g/v1".to_owned()), Arc::default());
        remembered.forget_old();
        assert_eq!(remembered.objects.len(), 1);
        let before = remembered.since.checked_sub(REMEMBERED_FOR);
        remembered.since = before.expect("the machine has run for longer");
        remembered.forget_old();
        assert!(remembered.objects.is_empty());
    }
}
