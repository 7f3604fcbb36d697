//! Renders the manifests for each member and gives them to its session.

use bytes::Bytes;
use serde_json::Value;

use federation_core::api::{ClusterTarget, Conflict, PlacementSpec, marks};
use federation_core::placement::Decision;
use federation_core::render::{self, RenderError};
use federation_core::template as core_template;
use hub_protocol::hub::Desired;
use proto::v1;

use super::ledger::Rendered;
use super::queue::Priority;
use super::reconcile::Reconciler;
use crate::observe::Template;

impl Reconciler {
    /// Gives each target's manifest to its session. Returns whether all of them could be rendered.
    pub(super) fn distribute(&self, template: &Template, spec: &PlacementSpec, decision: &Decision) -> bool {
        self.distribute_by(render::render_by, template, spec, decision)
    }

    fn distribute_by(
        &self,
        render: impl Fn(&Value, &Decision, &ClusterTarget, u64) -> Result<Value, RenderError>,
        template: &Template,
        spec: &PlacementSpec,
        decision: &Decision,
    ) -> bool {
        let key = &template.key;
        let policy = format!("{}@{}", decision.policy, decision.policy_generation.unwrap_or_default());
        let version = template.resource_version.clone();
        let rendered = Rendered { version, epoch: spec.epoch, policy, forgotten: self.sessions.forgotten() };
        let fingerprint = fingerprint(&template.object);
        let own_generation = core_template::generation(&template.object);
        let given = self.ledger.with(key, &template.uid, |entry| {
            if entry.rendered.as_ref() == Some(&rendered) {
                return None;
            }
            // Until all of it is distributed none of it counts as that, also where something panics.
            entry.rendered = None;
            // Where there is a metadata.generation it rises with what is wanted, and is what users see.
            let generation = match entry.wanted {
                Some((last, generation)) if last == fingerprint && template.generation().is_none() => {
                    generation
                }
                _ => own_generation,
            };
            entry.wanted = Some((fingerprint, generation));
            Some((generation, entry.withdrawn.clone()))
        });
        let Some((generation, withdrawn)) = given else { return true };
        let mut whole = true;
        let mut object = Value::clone(&template.object);
        if template.generation().is_none()
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("resourceVersion".into(), generation.to_string().into());
        }
        // Without overrides and replicas all clusters hold the same: then they share the bytes.
        let mut last = Bytes::new();
        for target in &decision.clusters {
            match render(&object, decision, target, spec.epoch) {
                Ok(mut manifest) => {
                    // With the manifest, so that digests tell agents' leases apart.
                    if decision.lease.is_some()
                        && let Some(annotations) =
                            manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
                    {
                        annotations.insert(marks::LEASE.into(), decision.lease_ms().to_string().into());
                    }
                    let text = manifest.to_string();
                    if text.as_bytes() != last {
                        last = text.into_boxed_str().into_boxed_bytes().into();
                    }
                    let desired = Desired {
                        key: key.to_wire().into(),
                        uid: template.uid.to_string(),
                        generation,
                        epoch: spec.epoch,
                        manifest: last.clone(),
                        conflict: conflict(decision.conflict),
                        lease_ms: decision.lease_ms(),
                    };
                    // What it said, or says yet, is of a copy that may be gone by now; of this one it tells anew.
                    let asked = withdrawn.get(&target.name);
                    let is_gone = asked.is_some_and(|withdrawn| withdrawn.gone)
                        || self.sessions.may_be_gone(&target.name, &desired.key, &template.uid);
                    if is_gone && self.world.give_anew(key, &target.name, &template.uid, spec.epoch) {
                        self.traffic.poke();
                    }
                    // Before it is given: an answer to what was asked of it earlier says nothing of this copy.
                    if asked.is_some() {
                        self.ledger.with(key, &template.uid, |entry| entry.withdrawn.remove(&target.name));
                    }
                    self.sessions.desire(&target.name, desired);
                }
                Err(error) => {
                    whole = false;
                    let message = format!("{}: {error}", target.name);
                    self.recorder.warn(template, "FailedRender", &message, &target.name);
                    self.world.report(key, &target.name, |report| {
                        report.not_rendered(&template.uid, &error.to_string());
                    });
                    self.statuses.add(key.clone(), Priority::Normal);
                }
            }
        }
        if whole {
            self.ledger.with(key, &template.uid, |entry| entry.rendered = Some(rendered));
        }
        whole
    }
}

/// Hash of everything that a user wrote: without status and without what servers write into metadata.
fn fingerprint(object: &Value) -> u64 {
    let mut hash = Hasher::default();
    if let Some(fields) = object.as_object() {
        for (name, value) in fields.iter().filter(|(name, _)| *name != "status" && *name != "metadata") {
            hash.add(name, value);
        }
    }
    for name in ["labels", "annotations"] {
        if let Some(value) = object.pointer(&format!("/metadata/{name}")) {
            hash.add(name, value);
        }
    }
    hash.finish()
}

#[derive(Default)]
struct Hasher(std::collections::hash_map::DefaultHasher);

impl Hasher {
    fn add(&mut self, name: &str, value: &Value) {
        use std::hash::Hash;
        name.hash(&mut self.0);
        value.hash(&mut self.0);
    }

    fn finish(&self) -> u64 {
        use std::hash::Hasher as _;
        self.0.finish()
    }
}

fn conflict(conflict: Conflict) -> v1::ConflictPolicy {
    match conflict {
        Conflict::Refuse => v1::ConflictPolicy::Refuse,
        Conflict::Adopt => v1::ConflictPolicy::Adopt,
        Conflict::Overwrite => v1::ConflictPolicy::Overwrite,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use federation_runtime::tasks;
    use hub_protocol::hub::Event;
    use serde_json::json;

    use super::*;
    use crate::hub::sessions::Listener as _;
    use crate::observe::Kind;
    use crate::testing;

    #[tokio::test]
    async fn what_panics_for_one_cluster_is_not_distributed_and_is_tried_again_for_all() {
        let reconciler = testing::machine().await.reconciler();
        let config_maps = Kind::find("", "configmaps").expect("a kind");
        let template =
            Template::read(config_maps, json!({"metadata": {"namespace": "shop", "name": "a", "uid": "u"}}));
        let named = |name: &str| ClusterTarget { name: name.into(), ..ClusterTarget::default() };
        let clusters = vec![named("kyoto"), named("osaka"), named("tokyo")];
        let decision = Decision { clusters, ..Decision::default() };
        let spec = PlacementSpec { epoch: 7, ..PlacementSpec::default() };
        let rendered = RefCell::new(Vec::new());
        let distribute = |fails_at: &str| {
            let render = |_: &Value, _: &Decision, target: &ClusterTarget, _| {
                assert!(target.name != fails_at, "rendering fails");
                rendered.borrow_mut().push(target.name.clone());
                Ok(json!({}))
            };
            let whole = tasks::caught_here("a-distribution", || {
                reconciler.distribute_by(render, &template, &spec, &decision)
            });
            (whole.ok(), rendered.take().join(","))
        };
        assert_eq!(distribute("osaka"), (None, "kyoto".into()));
        assert_eq!(distribute(""), (Some(true), "kyoto,osaka,tokyo".into()));
        assert_eq!(distribute(""), (Some(true), String::new()), "once is enough");
        // A cluster leaves, and one of its name comes before the object is looked at again.
        reconciler.sessions.forget("osaka");
        assert_eq!(distribute(""), (Some(true), "kyoto,osaka,tokyo".into()));
    }

    #[tokio::test]
    async fn words_of_a_copy_that_is_gone_are_none_of_the_one_that_is_given_since() {
        let machine = testing::machine().await;
        let reconciler = machine.reconciler();
        let config_maps = Kind::find("", "configmaps").expect("a kind");
        let template =
            Template::read(config_maps, json!({"metadata": {"namespace": "shop", "name": "a", "uid": "u"}}));
        reconciler.ledger.with(&template.key, "u", |entry| {
            entry.asked("osaka", 5);
            entry.answered("osaka", 5);
        });
        let clusters = vec![ClusterTarget { name: "osaka".into(), ..ClusterTarget::default() }];
        let decision = Decision { clusters, ..Decision::default() };
        let spec = PlacementSpec { epoch: 7, ..PlacementSpec::default() };
        assert!(reconciler.distribute(&template, &spec, &decision));
        // A watch in the member may be late.
        let is_current = |epoch| {
            let status =
                v1::ObjectStatus { uid: "u".into(), epoch, status: "{}".into(), ..Default::default() };
            reconciler.world.report(&template.key, "osaka", |report| report.status(&status, 1));
            reconciler.world.reports(&template.key)["osaka"].current
        };
        assert!(!is_current(4) && is_current(7));
        // Its answer may be taken in only now.
        let key = Some(template.key.to_wire());
        let removed = v1::Removed { key, uid: "u".into(), epoch: 5, ..v1::Removed::default() };
        machine.agent_events.heard("osaka", Event::Removed(removed));
        assert!(!is_current(4) && is_current(7));
    }

    #[test]
    fn a_status_or_a_finalizer_changes_nothing_that_is_wanted() {
        let before = json!({"data": {"a": "b"}, "metadata": {"name": "x", "resourceVersion": "1", "labels": {"l": "1"}}});
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = json!("2");
        after["metadata"]["finalizers"] = json!(["f"]);
        after["status"] = json!({"x": 1});
        assert_eq!(fingerprint(&before), fingerprint(&after));
        after["metadata"]["labels"]["l"] = json!("2");
        assert_ne!(fingerprint(&before), fingerprint(&after));
    }
}
