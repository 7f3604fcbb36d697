//! GET of a collection.

use std::{sync::Arc, time::Duration};

use apimachinery::{ApiError, fields::FieldSelectorError};
use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};
use http::{Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Call, component_status};
use crate::{
    crd::conversion,
    encode::{self, ListMeta, Pieces},
    http::{
        Body, compress,
        negotiate::Format,
        query::{ListOptions, VersionMatch},
        respond,
    },
    long_work,
    registry::{Kind, KindRef},
    store::{Key, ResourceKey, Snapshot, SnapshotError, Stored, WaitError},
};

/// kube-apiserver waits as long for a version that is not written yet.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(3);

/// The list goes on in the newest state: inconsistently, for whoever asks for that.
const NEWEST: i64 = -1;

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Go's `base64.RawURLEncoding`, which does not look at bits behind the last byte.
const TOKEN: GeneralPurpose =
    GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Where the next page starts, and in which snapshot.
#[derive(Serialize, Deserialize)]
struct Continue {
    v: String,
    /// [`NEWEST`] if the snapshot of the first page is forgotten.
    rv: i64,
    namespace: String,
    name: String,
    /// The interval of compaction in which the first page was made.
    #[serde(default)]
    interval: u64,
}

impl Continue {
    /// Reads a token, or says what is wrong with it as Go does.
    fn read(token: &str) -> Result<Self, String> {
        let bytes = TOKEN.decode(token).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
                    token.len().saturating_sub(token.len() % 4)
                }
            };
            format!("illegal base64 data at input byte {at}")
        })?;
        let value = super::parse_errors::parsed(&bytes)?;
        let version = value["v"].as_str().unwrap_or_default();
        if version != TOKEN_VERSION {
            return Err(format!("server does not recognize this encoded version {version:?}"));
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

/// Answers with the objects that the options choose.
pub(super) async fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut options = ListOptions::parse(&call.query)?;
    if options.any_version() && options.continuation.is_none() && is_cached(&call.kind) {
        options.limit = 0;
    }
    let filter = Filter::new(call, &options)?;
    let page = if let Some(mut items) = component_status::all(call) {
        items.retain(|item| filter.matches(item));
        Page { items, meta: ListMeta::default() }
    } else {
        let (snapshot, after) = snapshot(call, &options).await?;
        list_page(call, &filter, &options, &snapshot, after.as_ref()).await?
    };
    let items = conversion::seen_all(&call.shared.storage, &call.kind, page.items).await?;
    let mut response = answer(call, call.format, items, &page.meta).await?;
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    respond::warn(response.headers_mut(), &call.warnings);
    Ok(response)
}

/// Whether kube-apiserver answers lists of version 0 from its cache, which begins no pages: informers get all in one answer.
fn is_cached(kind: &Kind) -> bool {
    !matches!((kind.group, kind.plural), ("" | "events.k8s.io", "events"))
}

/// The answer that has these objects, in a form.
pub(super) async fn answer(
    call: &Call,
    format: Format,
    items: Vec<Arc<Stored>>,
    meta: &ListMeta,
) -> Result<Response<Body>, ApiError> {
    let items = match Pieces::new(&call.kind, format, items, meta, call.now) {
        Ok(pieces) => {
            return compress::pieces_for(&call.headers, format.content_type(false), pieces).await;
        }
        Err(items) => items,
    };
    let write = || {
        let (content_type, bytes) = encode::list(&call.kind, format, &items, meta, call.now)?;
        Ok(compress::bytes_for(&call.headers, StatusCode::OK, content_type, bytes))
    };
    if encode::is_large(&items) { long_work::apart(write) } else { write() }
}

/// Objects that a deletecollection without a limit reads at a time (`deleteCollectionPageSize`).
const DELETED_AT_A_TIME: usize = 10_000;

/// The objects that a deletecollection is about, and what its answer says of their list: those that the options would list, read in pages.
pub(super) async fn chosen(call: &Call) -> Result<(Vec<Arc<Stored>>, ListMeta), ApiError> {
    let mut options = ListOptions::parse(&call.query)?;
    let wanted = if options.any_version() && is_cached(&call.kind) { 0 } else { options.limit };
    // As that of a list with a limit, its version is exact.
    if options.limit == 0 {
        options.limit = DELETED_AT_A_TIME;
    }
    let filter = Filter::new(call, &options)?;
    let (snapshot, after) = snapshot(call, &options).await?;
    // Without a limit all pages are read: of the first one's snapshot.
    options.limit = wanted;
    let page = list_page(call, &filter, &options, &snapshot, after.as_ref()).await?;
    Ok((page.items, page.meta))
}

async fn list_page(
    call: &Call,
    filter: &Filter,
    options: &ListOptions,
    snapshot: &Snapshot,
    after: Option<&Continue>,
) -> Result<Page, ApiError> {
    let start = after.map(|after| (after.namespace.as_str(), after.name.as_str()));
    if filter.by_seen {
        let mut chosen = chosen_by_seen(call, filter, snapshot, start, options.limit).await?.into_iter();
        return Ok(page(call, filter, options, snapshot, after, &mut chosen));
    }
    Ok(page(call, filter, options, snapshot, after, &mut filter.range(call, snapshot, start)))
}

/// Objects that are converted for a selector at a time.
const SEEN_AT_A_TIME: usize = 500;

/// The chosen objects of a snapshot where a webhook makes the fields that are selected by, in order: as stored, and not many more than `limit`
/// ones unless that is 0.
async fn chosen_by_seen(
    call: &Call,
    filter: &Filter,
    snapshot: &Snapshot,
    after: Option<(&str, &str)>,
    limit: usize,
) -> Result<Vec<Arc<Stored>>, ApiError> {
    let candidates: Vec<_> = filter.range(call, snapshot, after).collect();
    let mut chosen = Vec::new();
    for some in candidates.chunks(SEEN_AT_A_TIME) {
        let seen = conversion::seen_all(&call.shared.storage, &call.kind, some.to_vec()).await?;
        chosen.extend(
            some.iter().zip(seen).filter(|(_, seen)| filter.shows(seen)).map(|(one, _)| Arc::clone(one)),
        );
        if limit > 0 && chosen.len() > limit {
            break;
        }
    }
    Ok(chosen)
}

/// What the selectors and the URL choose.
#[derive(Clone)]
pub(super) struct Filter {
    namespace: Option<String>,
    /// Of the one object that an old `watch/` path names.
    name: Option<String>,
    options: ListOptions,
    kind: KindRef,
    trivial: bool,
    /// A webhook makes the fields that are selected by. [`Self::matches`] leaves them out, and [`Self::shows`] looks at them.
    pub(super) by_seen: bool,
}

impl Filter {
    /// Checks that the fields can be selected by.
    pub(super) fn new(call: &Call, options: &ListOptions) -> Result<Self, ApiError> {
        options.fields.check_supported(&call.kind.selectable_names()).map_err(|error| {
            // Kinds with fields of their own name the wrong one, those without name the two that all have.
            let FieldSelectorError::NotSupported(field) = &error else {
                return ApiError::bad_request(error.to_string());
            };
            ApiError::bad_request(if call.kind.custom.is_some() {
                format!("field label not supported: {field}")
            } else if call.kind.selectable.is_empty() {
                format!(
                    "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            } else {
                error.to_string()
            })
        })?;
        Ok(Self {
            namespace: call.kind.namespaced().then(|| call.path.namespace.clone()).flatten(),
            name: call.path.name.clone(),
            options: options.clone(),
            kind: call.kind.clone(),
            trivial: call.path.name.is_none()
                && options.labels.is_everything()
                && options.fields.is_everything(),
            by_seen: conversion::is_asked(&call.kind)
                && options.fields.terms.iter().any(|term| !is_in_key(&term.field)),
        })
    }

    /// Whether an object, as its version shows it, is chosen by the fields that a webhook makes.
    pub(super) fn shows(&self, seen: &Stored) -> bool {
        let custom = self.kind.custom.as_ref().filter(|_| self.by_seen);
        let Some(custom) = custom else { return true };
        let values = seen.value().map(|seen| custom.field_values(&seen)).unwrap_or_default();
        let value = |name: &str| values.get(name).map_or("", String::as_str);
        let terms = self.options.fields.terms.iter().filter(|term| !is_in_key(&term.field));
        terms.into_iter().all(|term| (value(&term.field) == term.value) == term.equal)
    }

    /// Whether an object is chosen.
    pub(super) fn matches(&self, object: &Stored) -> bool {
        if self.namespace.as_ref().is_some_and(|namespace| *namespace != object.key.namespace) {
            return false;
        }
        if self.name.as_ref().is_some_and(|name| *name != object.key.name) {
            return false;
        }
        self.trivial || (self.options.labels.matches(&object.meta.labels) && self.matches_fields(object))
    }

    fn matches_fields(&self, object: &Stored) -> bool {
        // What the object does not have is the empty text. Asked of each object of a list, and of each change by each watcher.
        let value = |name: &str| match name {
            "metadata.name" => object.key.name.as_str(),
            "metadata.namespace" => object.key.namespace.as_str(),
            name => object.meta.fields.get(name).map_or("", String::as_str),
        };
        let mut terms =
            self.options.fields.terms.iter().filter(|term| !self.by_seen || is_in_key(&term.field));
        terms.all(|term| (value(&term.field) == term.value) == term.equal)
    }

    /// The one place (namespace, name) at which a chosen object can be, if there is only one.
    fn only_place(&self) -> Option<(&str, &str)> {
        let required = |field: &str| self.options.fields.required_value(field);
        let name = self.name.as_deref().or_else(|| required("metadata.name"))?;
        let namespace = match &self.namespace {
            Some(namespace) => namespace.as_str(),
            None if self.kind.namespaced() => required("metadata.namespace")?,
            None => "",
        };
        Some((namespace, name))
    }

    /// The chosen objects of a snapshot, in order.
    pub(super) fn range<'a>(
        &'a self,
        call: &Call,
        snapshot: &'a Snapshot,
        after: Option<(&str, &str)>,
    ) -> impl Iterator<Item = Arc<Stored>> + 'a {
        let all = self.candidates(call.kind.storage(), snapshot, after);
        // The range is of the namespace already.
        all.filter(|object| self.trivial || self.matches(object))
    }

    /// Those among which the chosen ones are, in order.
    fn candidates<'a>(
        &'a self,
        storage: ResourceKey,
        snapshot: &'a Snapshot,
        after: Option<(&str, &str)>,
    ) -> Box<dyn Iterator<Item = Arc<Stored>> + 'a> {
        match self.only_place() {
            // So everybody asks who lists and watches one object.
            Some((namespace, name)) if after.is_none_or(|after| after < (namespace, name)) => {
                Box::new(snapshot.get(&Key::new(storage, namespace, name)).into_iter())
            }
            Some(_) => Box::new(std::iter::empty()),
            None => Box::new(snapshot.range(&storage, self.namespace.as_deref(), after)),
        }
    }
}

/// Whether a field stands in an object's key, in whatever version the object is.
fn is_in_key(field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace")
}

struct Page {
    items: Vec<Arc<Stored>>,
    meta: ListMeta,
}

fn page(
    call: &Call,
    filter: &Filter,
    options: &ListOptions,
    snapshot: &Snapshot,
    after: Option<&Continue>,
    rest: &mut dyn Iterator<Item = Arc<Stored>>,
) -> Page {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let items: Vec<_> = rest.take(limit).collect();
    let mut meta = ListMeta { resource_version: snapshot.revision(), ..ListMeta::default() };
    // The count under a selector would cost a walk that nobody asked for; Kubernetes leaves it out, too.
    let left = if filter.trivial { rest.count() } else { usize::from(rest.next().is_some()) };
    if left > 0
        && let Some(last) = items.last()
    {
        let next = Continue {
            v: TOKEN_VERSION.to_owned(),
            rv: i64::try_from(snapshot.revision()).unwrap_or(i64::MAX),
            namespace: last.key.namespace.clone(),
            name: last.key.name.clone(),
            interval: match after {
                Some(after) if after.rv != NEWEST => after.interval,
                _ => call.shared.storage.interval(),
            },
        };
        meta.continuation = serde_json::to_vec(&next).ok().map(|token| TOKEN.encode(token));
        meta.remaining = filter.trivial.then_some(left);
    }
    Page { items, meta }
}

/// The snapshot that the options ask for, and where in it to start.
async fn snapshot(call: &Call, options: &ListOptions) -> Result<(Snapshot, Option<Continue>), ApiError> {
    let storage = &call.shared.storage;
    if let Some(token) = &options.continuation {
        let token = Continue::read(token).map_err(|why| {
            ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        })?;
        if options.version_text.is_some() && !options.any_version() {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        if token.rv == NEWEST {
            return Ok((storage.snapshot(), Some(token)));
        }
        if storage.is_over(token.interval) {
            return Err(expired(&token));
        }
        let revision = u64::try_from(token.rv).unwrap_or(u64::MAX);
        let snapshot = storage.snapshot_at(revision).map_err(|error| match error {
            SnapshotError::Expired(_) => expired(&token),
            SnapshotError::Future { .. } => ApiError::bad_request(
                "invalid continue token: continue key is not valid: it is from the future",
            ),
        })?;
        return Ok((snapshot, Some(token)));
    }
    let exact = options.version_match == Some(VersionMatch::Exact)
        // The older convention, from before resourceVersionMatch.
        || (options.version_match.is_none() && options.limit > 0);
    let snapshot = match options.list_version()? {
        None | Some(0) => storage.snapshot(),
        Some(version) if exact => match storage.snapshot_at(version) {
            Ok(snapshot) => snapshot,
            Err(SnapshotError::Expired(_)) => {
                return Err(ApiError::expired("The resourceVersion for the provided list is too old."));
            }
            Err(SnapshotError::Future { newest }) => {
                return Err(ApiError::too_large_resource_version(version, newest, 1));
            }
        },
        Some(version) => fresh(call, version).await?,
    };
    Ok((snapshot, None))
}

/// The snapshot of the first page is forgotten. The answer holds a token that goes on without it.
fn expired(token: &Continue) -> ApiError {
    const WHY: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let next = Continue {
        rv: NEWEST,
        v: token.v.clone(),
        namespace: token.namespace.clone(),
        name: token.name.clone(),
        interval: token.interval,
    };
    let text = serde_json::to_vec(&next).ok().map(|token| TOKEN.encode(token));
    ApiError { continuation: text.map(Into::into), ..ApiError::expired(WHY) }
}

/// The newest snapshot, once it is not older than `version`.
pub(super) async fn fresh(call: &Call, version: u64) -> Result<Snapshot, ApiError> {
    let deadline = Instant::now() + FRESHNESS_TIMEOUT;
    call.shared.storage.wait_for(version, deadline).await.map_err(|error| {
        let WaitError::Timeout { newest } = error;
        ApiError::too_large_resource_version(version, newest, 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::{Bounds, Cache},
        http::query::Query,
        store::{Change, Meta},
    };

    /// What a list of a resource of core chooses by its fields.
    fn filter(plural: &str, namespace: Option<&str>, fields: &str) -> Filter {
        let kind = crate::kinds::all().into_iter().find(|kind| kind.is("", plural)).expect("a kind of core");
        let query = Query::parse(&format!("fieldSelector={fields}"));
        Filter {
            namespace: namespace.map(str::to_owned),
            name: None,
            options: ListOptions::parse(&query).expect("options"),
            kind: KindRef::Fixed(kind),
            by_seen: false,
            trivial: false,
        }
    }

    fn stored(plural: &str, namespace: &str, name: &str, phase: Option<&str>) -> Stored {
        let fields = phase.map(|phase| ("status.phase".to_owned(), phase.to_owned())).into_iter().collect();
        Stored {
            key: Key::new(ResourceKey::new("", plural), namespace, name),
            revision: 1,
            bytes: "{}".into(),
            meta: Meta { fields, ..Meta::default() },
        }
    }

    #[test]
    fn fields_are_those_of_the_object_its_name_and_its_namespace() {
        let pod = stored("pods", "a", "one", Some("Running"));
        let check = |fields: &str, pod: &Stored, expect: bool| {
            assert_eq!(filter("pods", None, fields).matches(pod), expect, "{fields}");
        };
        check("metadata.name=one,metadata.namespace=a,status.phase=Running", &pod, true);
        check("metadata.name!=one", &pod, false);
        check("metadata.namespace=b", &pod, false);
        check("status.phase!=Running", &pod, false);
        check("spec.nodeName=,status.phase!=Failed", &pod, true);
        check("status.phase=", &stored("pods", "a", "two", None), true);
    }

    #[test]
    fn who_asks_for_a_name_is_shown_no_others() {
        let cache = Cache::new(0, Bounds::default());
        let objects =
            [("pods", "a", "one"), ("pods", "a", "two"), ("pods", "b", "one"), ("nodes", "", "one")];
        let changes = objects.iter().zip(1..).map(|((plural, namespace, name), revision)| {
            let object = Stored { revision, ..stored(plural, namespace, name, None) };
            Change { object: Arc::new(object), deleted: false }
        });
        cache.publish(changes);
        let snapshot = cache.snapshot();
        let check = |filter: &Filter, after: Option<(&str, &str)>, expect: &[(&str, &str)]| {
            let all = filter.candidates(filter.kind.storage(), &snapshot, after);
            let all: Vec<_> = all.map(|stored| stored.key.clone()).collect();
            let places: Vec<_> = all.iter().map(|key| (key.namespace.as_str(), key.name.as_str())).collect();
            assert_eq!(places, expect);
        };
        check(&filter("pods", Some("a"), "metadata.name=one"), None, &[("a", "one")]);
        check(&filter("pods", Some("a"), "metadata.name=none"), None, &[]);
        check(&filter("nodes", None, "metadata.name=one"), None, &[("", "one")]);
        check(&filter("pods", None, "metadata.name=one,metadata.namespace=b"), None, &[("b", "one")]);
        // Of a name there may be one in each namespace.
        check(&filter("pods", None, "metadata.name=one"), None, &[("a", "one"), ("a", "two"), ("b", "one")]);
        // The next page begins after the last.
        check(&filter("pods", Some("a"), "metadata.name=one"), Some(("a", "one")), &[]);
        check(&filter("pods", Some("a"), "metadata.name=two"), Some(("a", "one")), &[("a", "two")]);
        // What an old `watch/` path names.
        let named = Filter { name: Some("two".to_owned()), ..filter("pods", Some("a"), "") };
        check(&named, None, &[("a", "two")]);
    }
}
