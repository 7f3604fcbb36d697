//! DELETE, of one object and of many.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use apimachinery::{
    ApiError,
    status::{self, Details, GroupResource},
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use http::{Response, StatusCode};
use serde_json::Value;

use super::{Call, commit, delete_options::options, list, object};
use crate::{
    admission::{self, webhook},
    crd::{self, conversion},
    deletion::{self, DeleteDecision, DeleteOptions, Propagation},
    http::Body,
    store::{Key, Stored, Write, WriteError},
};

const ROUNDS: usize = 64;

/// Deletes of one collection that are under way together: they share the store's commits, and leave most of each to others.
const CONCURRENT: usize = 64;

/// Warnings that webhooks and policies may leave before somebody looks which of them will be told.
const TOLD_MANY: usize = 256;
/// Characters of warnings that an answer tells, as [`respond::warn`](crate::http::respond::warn) writes them.
const TOLD_MAX_CHARS: usize = 4 << 10;
/// Characters of one warning there.
const TOLD_TEXT_MAX_CHARS: usize = 256;

/// Namespaces that cannot go.
const LASTING: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Priority classes that cannot go.
const SYSTEM_CLASSES: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

pub(super) enum Outcome {
    Removed(Arc<Stored>),
    Marked(Arc<Stored>),
}

/// Deletes the object that the URL names.
pub(super) async fn delete(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let (options, dry_run) = options(call)?;
    warn_of_orphans(call, &options);
    let name = call.name().to_owned();
    if call.kind.is("", "namespaces") && LASTING.contains(&name.as_str()) {
        return Err(ApiError::forbidden(&call.resource(), &name, "this namespace may not be deleted"));
    }
    if call.kind.is("scheduling.k8s.io", "priorityclasses") && SYSTEM_CLASSES.contains(&name.as_str()) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(ApiError::forbidden(&call.resource(), &name, why));
    }
    match delete_one(call, &name, &options, dry_run).await? {
        // Who asks in the old way for dependents to go, too, is told that it is not done yet.
        Outcome::Marked(stored) if options.orphan_dependents == Some(false) => {
            call.answer(StatusCode::ACCEPTED, &stored).await
        }
        Outcome::Marked(stored) => call.answer(StatusCode::OK, &stored).await,
        Outcome::Removed(stored) if call.kind.returns_deleted => call.answer(StatusCode::OK, &stored).await,
        Outcome::Removed(stored) => {
            let details = Details {
                name,
                group: call.kind.group.to_owned(),
                kind: call.kind.plural.to_owned(),
                uid: stored.meta.uid.clone(),
                ..Details::default()
            };
            Ok(call.answer_value(StatusCode::OK, &status::success(Some(&details))))
        }
    }
}

/// Deletes every object that the selectors choose.
///
/// All namespaces at once are no collection to delete: kube-apiserver serves no such route either, and one slip of a URL would
/// take every object of a kind.
pub(super) async fn delete_collection(call: &mut Call) -> Result<Response<Body>, ApiError> {
    if call.kind.namespaced() && call.path.namespace.is_none() {
        return Err(ApiError::no_such_method());
    }
    let (options, dry_run) = options(call)?;
    warn_of_orphans(call, &options);
    let (chosen, meta) = list::chosen(call).await?;
    // Told as they were found, as kube-apiserver does it. As text, which is all that a list needs: parsed, a collection
    // takes many times its size.
    let found = conversion::seen_all(&call.shared.storage, &call.kind, chosen.clone()).await?;
    let (call, options) = (&*call, &options);
    let mut ended =
        stream::iter(chosen).map(|stored| delete_stored(call, stored, options, dry_run)).buffered(CONCURRENT);
    let mut told_at_most = TOLD_MANY;
    while let Some(outcome) = ended.next().await {
        match outcome {
            Ok(_) => {}
            // Somebody else was faster.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
        let mut told = call.shared_warnings.lock();
        if told.len() > told_at_most {
            keep_told(&mut told);
            told_at_most = 2 * told.len() + TOLD_MANY;
        }
    }
    Ok(call.finish(list::answer(call, call.format, found, &meta).await?))
}

/// Drops the texts that no answer has room for: it tells each once, and has an end.
fn keep_told(told: &mut Vec<String>) {
    let (mut seen, mut written) = (HashSet::new(), 0);
    told.retain(|text| {
        if written >= TOLD_MAX_CHARS || !seen.insert(text.clone()) {
            return false;
        }
        written += text.chars().count().min(TOLD_TEXT_MAX_CHARS);
        true
    });
}

/// What a delete of a Job is answered with that does not say what is to become of its pods.
fn warn_of_orphans(call: &mut Call, options: &DeleteOptions) {
    if call.kind.group == "batch" && call.kind.orphans && options.asked().is_none() {
        call.warnings.push(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"
                .to_owned(),
        );
    }
}

fn delete_stored<'a>(
    call: &'a Call,
    stored: Arc<Stored>,
    options: &'a DeleteOptions,
    dry_run: bool,
) -> BoxFuture<'a, Result<Outcome, ApiError>> {
    async move { delete_in(call, &stored.key.namespace, &stored.key.name, options, dry_run).await }.boxed()
}

pub(super) async fn delete_one(
    call: &Call,
    name: &str,
    options: &DeleteOptions,
    dry_run: bool,
) -> Result<Outcome, ApiError> {
    delete_in(call, call.namespace(), name, options, dry_run).await
}

/// 409 of a precondition that does not hold.
fn another(call: &Call, name: &str, field: &str, expected: &str, actual: &str) -> ApiError {
    // Those that go in two steps are looked at by their own registries before the one of all kinds.
    if crd::is_definition(&call.kind) || call.kind.is("", "namespaces") {
        return match field {
            "UID" => ApiError::uid_conflict(&call.resource(), name, expected, actual),
            _ => ApiError::resource_version_conflict(&call.resource(), name, expected, actual),
        };
    }
    let become_of = if field == "UID" { "deleted and then recreated" } else { "modified" };
    let why = format!(
        "the {field} in the precondition ({expected}) does not match the {field} in record ({actual}). The object might have been {become_of}"
    );
    // Told with the kind where everything else has the resource.
    ApiError::conflict(&GroupResource::new(call.kind.group, call.kind.kind), name, &why)
}

async fn delete_in(
    call: &Call,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    dry_run: bool,
) -> Result<Outcome, ApiError> {
    let mut key = call.key(name);
    namespace.clone_into(&mut key.namespace);
    for _ in 0..ROUNDS {
        let current =
            call.shared.storage.get(&key).ok_or_else(|| ApiError::not_found(&call.resource(), name))?;
        let mut old = call.value(&current).await?;
        if !call.is_admitted {
            webhook::Write::removal(call, &old, dry_run).mutate(None).await?;
            admission::check_policies(call, Some(&old), None, dry_run).await?;
            webhook::Write::removal(call, &old, dry_run).validate(None).await?;
        }
        let options = &of_kind(call, &old, options);
        if crd::is_definition(&call.kind) {
            crd::status::begin_deletion(&mut old, &deletion::seconds(call.now));
        }
        let expect = Some(current.revision);
        let default = if call.kind.orphans { Propagation::Orphan } else { Propagation::Background };
        let (write, removed) = match deletion::decide_delete(&old, options, call.now, default) {
            DeleteDecision::PreconditionFailed { field, expected, actual } => {
                return Err(another(call, name, field, &expected, &actual));
            }
            DeleteDecision::AlreadyDeleting => return Ok(Outcome::Marked(current)),
            DeleteDecision::RemoveNow => {
                if dry_run {
                    return Ok(Outcome::Removed(current));
                }
                (Write::Delete { key: key.clone(), expect, last: object::encode_for(call, old).await? }, true)
            }
            DeleteDecision::MarkAndRemove(next) => {
                if dry_run {
                    return commit::dry_run_result(call, key, current.revision, next)
                        .await
                        .map(Outcome::Removed);
                }
                if let Some(removed) = remove_marked(call, key.clone(), current.revision, next).await? {
                    return Ok(Outcome::Removed(removed));
                }
                continue;
            }
            DeleteDecision::MarkDeleting(next) => {
                if dry_run {
                    return commit::dry_run_result(call, key, current.revision, next)
                        .await
                        .map(Outcome::Marked);
                }
                (
                    Write::Update { key: key.clone(), expect, object: object::encode_for(call, next).await? },
                    false,
                )
            }
        };
        match call.shared.storage.write(write).await {
            Ok(stored) if removed => return Ok(Outcome::Removed(stored)),
            Ok(stored) => return Ok(Outcome::Marked(stored)),
            Err(WriteError::Conflict { .. }) => {}
            Err(WriteError::NotFound) => return Err(ApiError::not_found(&call.resource(), name)),
            Err(error) => return Err(commit::unavailable(&error)),
        }
    }
    Err(ApiError::stale(&call.resource(), name))
}

/// Stores the state in which an object goes, and removes it. `None` if somebody else wrote it in between.
async fn remove_marked(
    call: &Call,
    key: Key,
    revision: u64,
    next: Value,
) -> Result<Option<Arc<Stored>>, ApiError> {
    let object = object::encode_for(call, next.clone()).await?;
    let write = Write::Update { key: key.clone(), expect: Some(revision), object };
    let marked = match call.shared.storage.write(write).await {
        Ok(stored) => stored,
        Err(WriteError::Conflict { .. }) => return Ok(None),
        Err(WriteError::NotFound) => return Err(ApiError::not_found(&call.resource(), &key.name)),
        Err(error) => return Err(commit::unavailable(&error)),
    };
    let last = object::encode_for(call, next).await?;
    match call.shared.storage.write(Write::Delete { key, expect: Some(marked.revision), last }).await {
        Ok(stored) => Ok(Some(stored)),
        // Whoever ends it, its node for one, was faster: it is gone as asked.
        Err(WriteError::NotFound) => Ok(Some(marked)),
        Err(WriteError::Conflict { .. }) => Ok(None),
        Err(error) => Err(commit::unavailable(&error)),
    }
}

/// What a delete asks of the kind. Nothing depends on Events (`rest.Unsupported`), and the first delete of a definition only marks it
/// (`customresourcedefinition.REST.Delete`).
fn of_kind<'a>(call: &Call, old: &Value, options: &'a DeleteOptions) -> Cow<'a, DeleteOptions> {
    let first = old["metadata"]["deletionTimestamp"].is_null() && crd::is_definition(&call.kind);
    if first || call.kind.kind == "Event" && call.kind.built_in {
        Cow::Owned(DeleteOptions { propagation: None, orphan_dependents: None, ..options.clone() })
    } else {
        Cow::Borrowed(options)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::http::respond;

    #[test]
    fn warnings_that_no_answer_has_room_for_are_dropped() {
        let written = |told: &[String]| {
            let mut headers = HeaderMap::new();
            respond::warn(&mut headers, told);
            headers
        };
        let texts = |length: usize, different: usize| -> Vec<String> {
            (0..10_000).map(|number| format!("{:0length$}", number % different)).collect()
        };
        for told in [texts(10, 3), texts(10, 10_000), texts(256, 10_000), texts(1000, 10_000), texts(1000, 2)]
        {
            let mut kept = told.clone();
            keep_told(&mut kept);
            assert!(kept.len() <= 410, "{}", kept.len());
            assert_eq!(written(&kept), written(&told));
        }
    }
}
