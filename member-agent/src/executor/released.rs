//! Copies that were released a short while ago: a user may have taken a template back by mistake, and federate it again.
//!
//! A released object is its member's own, and by the policy's `conflict: Refuse` nobody takes it. But as long as it is exactly as it was left, taking it
//! back for the same template overwrites nobody's change. In memory only: after a restart of the agent it is refused.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use hub_protocol::Key;
use serde_json::Value;

/// How long a mistake may last.
const KEPT: Duration = Duration::from_secs(3600);
/// Copies that are remembered, each with some hundred bytes. Of more at once, the rest is refused.
const KEPT_MAX: usize = 50_000;

struct Copy {
    /// The template's uid.
    uid: String,
    object: u64,
    adopted: bool,
    since: Instant,
}

/// The copies, by object.
#[derive(Default)]
pub(super) struct Released(HashMap<Key, Copy>);

impl Released {
    /// A template's copy was released, and is this now.
    pub(super) fn add(&mut self, key: &Key, uid: &str, live: &Value, adopted: bool) {
        if self.0.len() >= KEPT_MAX {
            self.0.retain(|_, copy| copy.since.elapsed() < KEPT);
        }
        if self.0.len() < KEPT_MAX {
            let copy = Copy { uid: uid.to_owned(), object: hash(live), adopted, since: Instant::now() };
            self.0.insert(key.clone(), copy);
        }
    }

    /// Whether what is there is the template's copy as it was left; if so, whether it was adopted then.
    pub(super) fn find(&self, key: &Key, uid: &str, live: &Value) -> Option<bool> {
        let copy = self.0.get(key).filter(|copy| copy.uid == uid && copy.since.elapsed() < KEPT)?;
        (copy.object == hash(live)).then_some(copy.adopted)
    }

    /// It is a copy again, or something else.
    pub(super) fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }
}

/// Of everything that somebody may have set. Statuses change by themselves, and with them the version.
fn hash(live: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, value) in live.as_object().into_iter().flatten().filter(|(name, _)| *name != "status") {
        name.hash(&mut hasher);
        match value.as_object().filter(|_| name == "metadata") {
            Some(metadata) => {
                let set = metadata
                    .iter()
                    .filter(|(name, _)| *name != "resourceVersion" && *name != "managedFields");
                set.for_each(|field| field.hash(&mut hasher));
            }
            None => value.hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copy_is_as_it_was_left_until_somebody_changes_it_or_another_template_wants_it() {
        let key = Key { resource: "configmaps".into(), name: "a".into(), ..Key::default() };
        let copy = json!({"metadata": {"uid": "l", "resourceVersion": "7"}, "data": {"k": "v"}});
        let mut released = Released::default();
        released.add(&key, "t", &copy, true);
        let later = json!({"metadata": {"uid": "l", "resourceVersion": "9", "managedFields": []}, "data": {"k": "v"}, "status": {}});
        assert_eq!(released.find(&key, "t", &later), Some(true));
        assert_eq!(released.find(&key, "other", &later), None);
        for changed in [
            json!({"metadata": {"uid": "l", "labels": {"by": "hand"}}, "data": {"k": "v"}}),
            json!({"metadata": {"uid": "l"}, "data": {"k": "w"}}),
            json!({"metadata": {"uid": "made anew"}, "data": {"k": "v"}}),
        ] {
            assert_eq!(released.find(&key, "t", &changed), None, "{changed}");
        }
        released.remove(&key);
        assert_eq!(released.find(&key, "t", &later), None);
    }
}
