//! What waits because an object cannot be read that says where templates go: another version of the federation may have written it.

use federation_core::{select, template as core_template};

use super::queue::Priority;
use super::reconcile::Reconciler;
use crate::observe::Template;

impl Reconciler {
    /// Policies that cannot be read, if it cannot be told without them what is to become of a template: the last decision about it was by another
    /// policy than the one that would decide now, or there was none. Otherwise the same policy goes on to decide.
    pub(super) fn unread_policies(
        &self,
        template: &Template,
        view: &core_template::Template,
    ) -> Option<String> {
        let unread = self.world.untaken_policies(&template.key.namespace);
        if unread.is_empty() {
            return None;
        }
        let (policies, cluster_policies) = self.world.policies();
        let selected = select::policy(view, &policies, &cluster_policies);
        let selected = selected.map(|policy| policy.name).unwrap_or_default();
        let last = self.world.decided(&template.key);
        let goes_on = select::goes_on(last.as_deref().map(|last| &last.spec), &template.uid, &selected);
        (!goes_on).then(|| unread.join(", "))
    }

    /// Nothing is decided about a template, and what was decided stays. It is looked at again when all can be read.
    pub(super) fn wait_for_unread(&self, template: &Template, unread: &str) {
        let message = format!(
            "{unread} cannot be read: nothing is decided about this object, and its copies stay as they are, until that can be read or is gone"
        );
        if self.stall(template, Some(message)) {
            self.statuses.add(template.key.clone(), Priority::Normal);
        }
    }

    /// What of the answers to a Service's users waits: what is known of a TrafficPolicy is old, or nothing.
    pub(super) fn unread_traffic(&self, template: &Template) -> Option<String> {
        if !template.key.kind.is_service() {
            return None;
        }
        let unread = self.world.untaken_traffic(&template.key.namespace);
        (!unread.is_empty()).then(|| {
            format!(
                "{} cannot be read: users are answered by what was read of it last, until it can be read or is gone",
                unread.join(", ")
            )
        })
    }

    /// Notes why something waits about a template, or that nothing does, and tells people. Whether that is new.
    pub(super) fn stall(&self, template: &Template, why: Option<String>) -> bool {
        let last = self
            .ledger
            .with(&template.key, &template.uid, |entry| std::mem::replace(&mut entry.stalled, why.clone()));
        let new = last != why;
        if let Some(why) = why.filter(|_| new) {
            tracing::debug!(key = %template.key, why, "a decision waits");
            self.recorder.warn(template, "DecisionWaits", &why, "federation");
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use federation_core::placement::rules;
    use serde_json::{Value, json};

    use crate::machine::{Machine, Word};
    use crate::observe::{Key, Kind};
    use crate::testing::{self, until};

    fn path(plural: &str) -> String {
        format!("/apis/federation.rs/v1alpha1/{plural}")
    }

    fn web() -> Key {
        Key::new(Kind::find("", "configmaps").expect("a kind"), "shop", "web")
    }

    fn cluster(name: &str, spec: Value) -> Value {
        json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster", "metadata": {"name": name, "uid": name}, "spec": spec})
    }

    /// The policy `shop/policy`.
    fn policy(spec: Value) -> Value {
        json!({"apiVersion": "federation.rs/v1alpha1", "kind": "PlacementPolicy",
            "metadata": {"namespace": "shop", "name": "policy", "generation": 1}, "spec": spec})
    }

    fn for_config_maps() -> Value {
        policy(json!({"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap"}], "clusters": {}}))
    }

    /// What another version wrote.
    fn unheard_of() -> Value {
        json!("unheard of")
    }

    /// The Placement of the ConfigMap `shop/web`.
    fn placement(spec: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": "configmaps.web"}, "spec": spec})
    }

    /// It is in both clusters, by this policy.
    fn placed(policy: &str) -> Value {
        let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "web", "uid": "u"});
        placement(
            json!({"template": template, "clusters": [{"name": "taiwan"}, {"name": "tokyo"}], "policy": policy, "epoch": 1}),
        )
    }

    /// A controller that runs, and has found the ConfigMap `shop/web` and these objects.
    async fn controller(found: impl IntoIterator<Item = (&str, Value)>) -> Machine {
        let machine = testing::machine().await;
        let collections = machine.declare(&["configmaps"]);
        let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "web", "uid": "u"}});
        machine.observe("/api/v1/configmaps", Word::Present(config_map));
        for (plural, object) in found {
            machine.observe(&path(plural), Word::Present(object));
        }
        for collection in collections {
            machine.observe(&collection, Word::Synced);
        }
        machine.start(1);
        machine
    }

    /// Why it waits.
    fn stalled(hub: &Machine) -> String {
        hub.ledger.with(&web(), "u", |entry| entry.stalled.clone()).unwrap_or_default()
    }

    /// Where it is, by which policy.
    fn decided(hub: &Machine) -> Option<(Vec<String>, String)> {
        let spec = hub.world.decided(&web())?.spec.clone();
        Some((spec.clusters.into_iter().map(|target| target.name).collect(), spec.policy))
    }

    fn in_both(policy: &str) -> (Vec<String>, String) {
        (vec!["taiwan".into(), "tokyo".into()], policy.into())
    }

    #[tokio::test]
    async fn nothing_is_placed_while_a_policy_cannot_be_read_that_may_say_where() {
        let hub = controller([("placementpolicies", policy(unheard_of()))]).await;
        until(|| stalled(&hub).starts_with("PlacementPolicy shop/policy cannot be read")).await;
        assert_eq!(decided(&hub), None);
        hub.observe(&path("placementpolicies"), Word::Present(for_config_maps()));
        until(|| decided(&hub).is_some_and(|(_, policy)| policy == "PlacementPolicy/policy")).await;
        assert_eq!(stalled(&hub), "");
    }

    #[tokio::test]
    async fn what_a_policy_placed_stays_while_it_cannot_be_read() {
        let found = [
            ("clusters", cluster("taiwan", json!({}))),
            ("clusters", cluster("tokyo", json!({}))),
            ("clusterplacementpolicies", json!({"metadata": {"name": "all"}, "spec": unheard_of()})),
            ("placements", placed("ClusterPlacementPolicy/all")),
        ];
        let hub = controller(found).await;
        until(|| stalled(&hub).starts_with("ClusterPlacementPolicy all cannot be read")).await;
        assert_eq!(decided(&hub), Some(in_both("ClusterPlacementPolicy/all")));
        let gone = json!({"metadata": {"name": "all"}, "spec": unheard_of()});
        hub.observe(&path("clusterplacementpolicies"), Word::Gone(gone));
        until(|| decided(&hub) == Some(in_both(""))).await;
    }

    #[tokio::test]
    async fn the_policy_that_decided_before_goes_on_to_decide_while_another_cannot_be_read() {
        let found = [
            ("clusters", cluster("taiwan", json!({}))),
            ("placementpolicies", for_config_maps()),
            ("clusterplacementpolicies", json!({"metadata": {"name": "all"}, "spec": unheard_of()})),
            ("placements", placed("PlacementPolicy/policy")),
        ];
        let hub = controller(found).await;
        // The other has left.
        until(|| decided(&hub) == Some((vec!["taiwan".into()], "PlacementPolicy/policy".into()))).await;
        assert_eq!(stalled(&hub), "");
    }

    #[tokio::test]
    async fn a_cluster_that_cannot_be_read_keeps_its_copies_until_it_is_gone() {
        let unread = cluster("tokyo", unheard_of());
        let found = [
            ("clusters", cluster("taiwan", json!({}))),
            ("clusters", unread.clone()),
            ("placements", placed("")),
        ];
        let hub = controller(found).await;
        until(|| {
            let reasons = hub.ledger.with(&web(), "u", |entry| entry.reasons.clone());
            reasons.iter().any(|reason| reason.cluster == "tokyo" && reason.rule == rules::CLUSTER_UNREAD)
        })
        .await;
        assert_eq!(decided(&hub), Some(in_both("")));
        hub.observe(&path("clusters"), Word::Gone(unread));
        until(|| decided(&hub) == Some((vec!["taiwan".into()], String::new()))).await;
    }

    #[tokio::test]
    async fn a_service_says_that_its_traffic_policy_cannot_be_read_and_is_placed_all_the_same() {
        let hub = testing::machine().await;
        let collections = hub.declare(&["services"]);
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web", "uid": "u"}, "spec": {}});
        let key = Key::new(Kind::find("", "services").expect("a kind"), "shop", "web");
        hub.observe("/api/v1/services", Word::Present(object));
        hub.observe(&path("clusters"), Word::Present(cluster("taiwan", json!({}))));
        for collection in collections {
            hub.observe(&collection, Word::Synced);
        }
        hub.start(1);
        until(|| hub.world.decided(&key).is_some()).await;
        let stalled = || hub.ledger.with(&key, "u", |entry| entry.stalled.clone()).unwrap_or_default();
        assert_eq!(stalled(), "");
        let traffic_policy = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": unheard_of()});
        hub.observe(&path("trafficpolicies"), Word::Present(traffic_policy.clone()));
        until(|| stalled().starts_with("TrafficPolicy shop/web cannot be read: users are answered")).await;
        hub.observe(&path("trafficpolicies"), Word::Gone(traffic_policy));
        until(|| stalled().is_empty()).await;
    }

    #[tokio::test]
    async fn nothing_is_decided_about_a_template_whose_placement_cannot_be_read() {
        let hub = controller([("placements", placement(unheard_of()))]).await;
        until(|| stalled(&hub).starts_with("its Placement configmaps.web cannot be read")).await;
        assert_eq!(decided(&hub), None);
        hub.observe(&path("placements"), Word::Gone(placement(unheard_of())));
        until(|| decided(&hub).is_some()).await;
    }
}
