//! Carries actions out against the store.

use std::time::Instant;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Action, Edit, Kinds, QueueMetrics, definitions, pod_gc};
use crate::{
    deletion::{DeleteDecision, DeleteOptions, Propagation, decide_delete, is_released, seconds},
    store::{Encoded, Key, Meta, ResourceKey, Storage, Stored, Write, WriteError},
};

/// Actions under way together: a quarter of the writer's batch, so that clients' writes keep their share of it.
const CONCURRENT: usize = 64;
/// Attempts against others who write the same object, before the decision itself is made anew.
const ATTEMPTS: usize = 6;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot parse the stored object")]
    Parse(#[from] serde_json::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("too many conflicts with other writers of the object")]
    Busy,
}

/// Whether a write is all of an action, or whether it is looked at again after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    First,
    Last,
}

pub(super) struct Executor<'a> {
    storage: &'a Storage,
    kinds: &'a dyn Kinds,
    work: &'a QueueMetrics,
}

impl<'a> Executor<'a> {
    pub(super) fn new(storage: &'a Storage, kinds: &'a dyn Kinds, work: &'a QueueMetrics) -> Self {
        Self { storage, kinds, work }
    }

    /// Does all of it, and returns the objects for which it failed.
    pub(super) async fn run(&self, actions: Vec<Action>) -> Vec<Key> {
        let decided = Instant::now();
        self.work.add(actions.len());
        stream::iter(actions)
            .map(|action| async move {
                let begun = Instant::now();
                self.work.begun(begun - decided);
                let outcome = self.act(&action).await;
                self.work.done(begun.elapsed(), outcome.is_ok());
                match outcome {
                    Ok(()) => None,
                    Err(error) => {
                        tracing::warn!(key = %action.key(), %error, "housekeeping failed here; it will be tried again");
                        Some(action.key().clone())
                    }
                }
            })
            .buffer_unordered(CONCURRENT)
            .filter_map(|failed| async { failed })
            .collect()
            .await
    }

    async fn act(&self, action: &Action) -> Result<(), Error> {
        let _alone = match action {
            Action::Edit { edit: Edit::Accept(_), .. } => Some(self.kinds.naming().lock().await),
            _ => None,
        };
        // What the first of two writes made has another revision.
        let mut begun = None;
        for _ in 0..ATTEMPTS {
            let Some((write, step)) = self.prepare(action, begun)? else { return Ok(()) };
            match self.storage.write(write).await {
                Ok(stored) if step == Step::First => begun = Some(stored.revision),
                // Somebody else made or removed it: as wanted.
                Ok(_) | Err(WriteError::Exists(_) | WriteError::NotFound) => return Ok(()),
                Err(WriteError::Conflict { .. } | WriteError::Moved) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy)
    }

    /// The write that brings the action about from the present state; none if nothing is left to do.
    fn prepare(&self, action: &Action, begun: Option<u64>) -> Result<Option<(Write, Step)>, Error> {
        let now = Timestamp::now();
        let current = self.storage.get(action.key());
        let still = |uid: &str, revision: Option<u64>| {
            current
                .clone()
                .filter(|found| found.meta.uid == uid && revision.is_none_or(|at| at == found.revision))
        };
        let whole = |write| Some((write, Step::Last));
        Ok(match action {
            Action::Create { key, object } => {
                let mut object = object.clone();
                object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
                object["metadata"]["creationTimestamp"] = json!(seconds(now));
                if current.is_some() {
                    return Ok(None);
                }
                let within = if key.namespace.is_empty() {
                    None
                } else {
                    let namespace = Key::new(ResourceKey::new("", "namespaces"), "", key.namespace.as_str());
                    let open = self.storage.get(&namespace).filter(|found| !found.meta.deleting);
                    let Some(open) = open else { return Ok(None) };
                    Some((namespace, open.revision))
                };
                whole(Write::Create { key: key.clone(), object: self.encode(key, &object), within })
            }
            Action::Delete { uid, propagation, revision, .. } => {
                let Some(current) = still(uid, begun.or(*revision)) else { return Ok(None) };
                let options = DeleteOptions { propagation: *propagation, ..DeleteOptions::default() };
                self.delete(&current, &current.value()?, &options, now)
            }
            Action::End { uid, condition, .. } => {
                let Some(current) = still(uid, None) else { return Ok(None) };
                let mut value = current.value()?;
                if pod_gc::fail(&mut value, condition.as_ref(), now) {
                    return Ok(Some((self.replace(&current, &value), Step::First)));
                }
                let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
                self.delete(&current, &value, &options, now)
            }
            Action::Edit { uid, edit, .. } => {
                let Some(current) = still(uid, None) else { return Ok(None) };
                let value = current.value()?;
                let mut next = value.clone();
                let names;
                let edit = match edit {
                    // Others may have been accepted since this was decided.
                    Edit::Accept(_) => {
                        names = Edit::Accept(definitions::taken(&self.storage.snapshot(), &current));
                        &names
                    }
                    edit => edit,
                };
                edit.apply(&mut next, now);
                if is_released(&next) {
                    whole(self.remove(&current, &next))
                } else if next == value {
                    None
                } else {
                    if matches!(edit, Edit::Accept(_)) {
                        next = self.kinds.own_status(&current.key.resource, &value, next, &seconds(now));
                    }
                    whole(self.replace(&current, &next))
                }
            }
        })
    }

    fn delete(
        &self,
        current: &Stored,
        value: &Value,
        options: &DeleteOptions,
        now: Timestamp,
    ) -> Option<(Write, Step)> {
        match decide_delete(value, options, now, Propagation::Background) {
            DeleteDecision::RemoveNow => Some((self.remove(current, value), Step::Last)),
            DeleteDecision::MarkAndRemove(next) => Some((self.replace(current, &next), Step::First)),
            DeleteDecision::MarkDeleting(next) => Some((self.replace(current, &next), Step::Last)),
            DeleteDecision::AlreadyDeleting | DeleteDecision::PreconditionFailed { .. } => None,
        }
    }

    fn replace(&self, current: &Stored, next: &Value) -> Write {
        let key = current.key.clone();
        Write::Update { object: self.encode(&key, next), key, expect: Some(current.revision) }
    }

    fn remove(&self, current: &Stored, last: &Value) -> Write {
        let key = current.key.clone();
        Write::Delete { last: self.encode(&key, last), key, expect: Some(current.revision) }
    }

    fn encode(&self, key: &Key, object: &Value) -> Encoded {
        Encoded::new(object, Meta::from_value(object, self.kinds.fields(&key.resource, object)))
    }
}
