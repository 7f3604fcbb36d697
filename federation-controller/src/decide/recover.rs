//! The starting point of a decision when the store was restored from a backup and may know less than the members.

use std::sync::Arc;
use std::time::Duration;

use federation_core::api::{FailoverPreference, Verdict};
use federation_core::placement::{self, Claim, ClusterView, Witness};
use federation_core::{select, template as core_template};

use super::cluster_state::Snapshot;
use super::reconcile::Reconciler;
use crate::observe::{Decided, Template};

/// Members that have not said yet what they hold are waited for so long before it is looked again. They say so when they come, and are
/// taken for lost when they do not.
pub(super) const INVENTORY_WAIT: Duration = Duration::from_millis(200);

/// Where the next decision starts.
pub(super) enum Recovery {
    /// From this one; none if nobody holds anything.
    From(Option<Arc<Decided>>),
    /// Not all members have said what they hold.
    Wait,
}

impl Reconciler {
    /// Where the next decision about a workload starts: from the store's, or from what members hold by newer ones.
    pub(super) fn recover(
        &self,
        template: &Template,
        view: &core_template::Template,
        snapshot: &Snapshot,
        last: Option<Arc<Decided>>,
    ) -> Recovery {
        if view.replicas.is_none() {
            return Recovery::From(last);
        }
        let key = template.key.to_wire().into();
        let members = || {
            let taken_in = |view: &&ClusterView| view.joined && view.spec.hub_accepts != Some(false);
            snapshot.views.iter().filter(taken_in)
        };
        // While nothing may move, nobody gets replicas in its stead.
        let may_move = snapshot.frozen.is_none();
        let says = |view| self.says(view, &key, &template.uid);
        let doubtful = match &last {
            // It is new, or the store does not know that it is not.
            None => true,
            Some(last) => {
                let epoch = last.spec.epoch;
                let counts_absence = may_move && self.epochs.is_of_before(epoch);
                last.lost
                    || self.epochs.is_doubtful(epoch)
                    || placement::is_doubtful(&last.spec, counts_absence, members().map(says))
            }
        };
        let is_told = |view: &ClusterView| self.sessions.is_compared(&view.name);
        // Nobody knows yet whether it is lost, or it is about to say what it holds.
        let is_awaited = |view: &ClusterView| {
            !is_told(view) && (view.verdict == Verdict::Unknown || self.sessions.is_connected(&view.name))
        };
        if doubtful && members().any(is_awaited) {
            return Recovery::Wait;
        }
        // Of a decision that is not in doubt it is asked only what those hold whom it does not list: the store may be from before they joined.
        let mut asked =
            members().filter(|view| doubtful || !is_listed(last.as_deref(), &view.name)).peekable();
        if asked.peek().is_none() {
            return Recovery::From(last);
        }
        let mut claims: Vec<Claim> = asked
            .filter_map(|view| {
                if doubtful && may_move && self.sessions.holds_none(&view.name, &key) {
                    return Some(Claim::none(&view.name));
                }
                let item = self.sessions.claim(&view.name, &key)?;
                let replicas = item.replicas.map(i64::from);
                (item.uid == *template.uid).then(|| Claim {
                    cluster: view.name.clone(),
                    epoch: item.epoch,
                    replicas,
                })
            })
            .collect();
        let runs = |view: &ClusterView| {
            let claimed = claims.iter().find(|claim| claim.cluster == view.name).map(|claim| claim.replicas);
            let decided = || last.as_ref()?.spec.clusters.iter().find(|target| target.name == view.name);
            claimed.or_else(|| Some(decided()?.replicas)).is_some_and(|replicas| replicas != Some(0))
        };
        if doubtful && self.is_exclusive(view) && !members().any(|view| is_told(view) && runs(view)) {
            // One who is out of reach may run it, by a lease of which the store does not know.
            claims.extend(members().filter(|view| !is_told(view)).map(|unheard| Claim {
                cluster: unheard.name.clone(),
                epoch: u64::MAX,
                replicas: view.replicas,
            }));
        }
        let Some(spec) = placement::recover(last.as_ref().map(|last| &last.spec), &claims) else {
            return Recovery::From(last);
        };
        tracing::warn!(key = %template.key, ?claims, "members hold newer decisions than the store: decided from those");
        Recovery::From(Some(Arc::new(match last {
            Some(last) => Decided { spec, ..Decided::clone(&last) },
            None => Decided { spec, status: Default::default(), lost: true },
        })))
    }

    /// What a member says of a template's copy.
    fn says<'v>(&self, view: &'v ClusterView, key: &hub_protocol::Key, uid: &str) -> Witness<'v> {
        let claim = self.sessions.claim(&view.name, key).filter(|item| item.uid == uid);
        Witness {
            cluster: &view.name,
            holds: claim.map(|item| item.epoch),
            is_without: self.sessions.is_without(&view.name, key),
        }
    }

    /// The clusters, without those of which nobody knows yet what they hold of a workload that they are not listed to hold: nothing is given to
    /// them before they have said so. None where there are no such.
    pub(super) fn without_unheard(
        &self,
        view: &core_template::Template,
        snapshot: &Snapshot,
        start: Option<&Decided>,
    ) -> Option<Snapshot> {
        // With another verdict it gets nothing new in any case.
        let is_unheard = |cluster: &ClusterView| {
            cluster.joined
                && cluster.verdict == Verdict::Healthy
                && !is_listed(start, &cluster.name)
                && !self.sessions.has_told(&cluster.name)
        };
        // The first decision about a workload has waited for them.
        if view.replicas.is_none() || start.is_none() || !snapshot.views.iter().any(is_unheard) {
            return None;
        }
        let mut known = snapshot.clone();
        for cluster in &mut known.views {
            cluster.joined &= !is_unheard(cluster);
        }
        Some(known)
    }

    fn is_exclusive(&self, view: &core_template::Template) -> bool {
        let (policies, cluster_policies) = self.world.policies();
        select::policy(view, &policies, &cluster_policies)
            .is_some_and(|policy| policy.spec.failover.prefer == FailoverPreference::Exclusivity)
    }
}

fn is_listed(decided: Option<&Decided>, cluster: &str) -> bool {
    decided.is_some_and(|decided| decided.spec.clusters.iter().any(|target| target.name == cluster))
}

#[cfg(test)]
mod tests {
    use proto::v1::{self, agent_message::Message, digest_reply::Item};
    use serde_json::json;

    use super::*;
    use crate::machine::{Machine, Word};
    use crate::observe::{Key, Kind};
    use crate::testing::{self, until};

    const API: &str = "/apis/federation.rs/v1alpha1";

    fn web() -> Key {
        Key::new(Kind::find("apps", "deployments").expect("a kind"), "shop", "web")
    }

    fn deployment(name: &str, replicas: u32) -> serde_json::Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": replicas},
            "metadata": {"namespace": "shop", "name": name, "uid": "u", "generation": 1, "resourceVersion": "1"}})
    }

    /// A controller that runs, and whose store has a Deployment of so many replicas, three of them in Taiwan.
    async fn controller(replicas: u32) -> Machine {
        let (machine, collections) = observed(replicas).await;
        for collection in collections {
            machine.observe(&collection, Word::Synced);
        }
        machine.start(1);
        machine
    }

    /// The same before it has heard that it knows everything, and runs; with what is to be heard.
    async fn observed(replicas: u32) -> (Machine, Vec<String>) {
        let machine = testing::machine().await;
        let collections = machine.declare(&["deployments"]);
        for name in ["taiwan", "tokyo"] {
            let cluster = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster",
                "metadata": {"name": name, "uid": name}, "spec": {}});
            machine.observe(&format!("{API}/clusters"), Word::Present(cluster));
        }
        machine.observe("/apis/apps/v1/deployments", Word::Present(deployment("web", replicas)));
        let template = json!({"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "name": "web", "uid": "u"});
        let placement = json!({"metadata": {"namespace": "shop", "name": "deployments.apps.web"},
            "spec": {"template": template, "clusters": [{"name": "taiwan", "replicas": 3}], "epoch": 1}});
        machine.observe(&format!("{API}/placements"), Word::Present(placement));
        (machine, collections)
    }

    fn says(hub: &Machine, cluster: &str, message: Message) {
        assert!(hub.agent_said(cluster, Some(v1::AgentMessage { message: Some(message) })));
    }

    /// That the Deployment is held, and nothing else.
    fn lists(epoch: u64, replicas: u32) -> v1::DigestReply {
        let (key, replicas) = (Some(web().to_wire()), Some(replicas));
        let item = Item { key, uid: "u".into(), generation: 1, epoch, hash: 1, replicas };
        v1::DigestReply { items: vec![item], ..v1::DigestReply::default() }
    }

    /// An agent connects, says what it holds if it is to, and is judged by its heartbeat.
    async fn comes(hub: &Machine, cluster: &str, holds: Option<v1::DigestReply>) {
        hub.agent_connected(cluster);
        says(hub, cluster, Message::Hello(v1::Hello::default()));
        if let Some(holds) = holds {
            says(hub, cluster, Message::DigestReply(holds));
        }
        says(hub, cluster, Message::Heartbeat(v1::Heartbeat { api_ok: true, ..v1::Heartbeat::default() }));
        until(|| {
            let snapshot = hub.cluster_state.snapshot();
            snapshot.views.iter().any(|view| view.name == cluster && view.verdict == Verdict::Healthy)
        })
        .await;
    }

    fn placed(hub: &Machine) -> Vec<(String, Option<i64>)> {
        let decided = hub.world.decided(&web()).expect("it was placed");
        decided.spec.clusters.iter().map(|target| (target.name.clone(), target.replicas)).collect()
    }

    #[tokio::test]
    async fn what_a_cluster_runs_of_which_the_store_knows_nothing_is_where_the_next_decision_starts() {
        let hub = controller(3).await;
        comes(&hub, "taiwan", Some(lists(1, 3))).await;
        // The backup is from before Tokyo joined. Nothing is given to it before it has said what it holds.
        comes(&hub, "tokyo", None).await;
        hub.agent_events.look_at_all();
        until(|| hub.is_idle()).await;
        let share = |name: &str, replicas| (name.to_owned(), Some(replicas));
        assert_eq!(placed(&hub), [share("taiwan", 3)]);
        says(&hub, "tokyo", Message::DigestReply(lists(16, 2)));
        until(|| placed(&hub) == [share("taiwan", 3), share("tokyo", 2)]).await;
    }

    #[tokio::test]
    async fn what_members_hold_by_newer_decisions_than_the_stores_is_where_the_next_one_starts() {
        let hub = controller(3).await;
        comes(&hub, "taiwan", Some(lists(16, 1))).await;
        comes(&hub, "tokyo", Some(lists(16, 2))).await;
        hub.agent_events.look_at_all();
        let share = |name: &str, replicas| (name.to_owned(), Some(replicas));
        until(|| placed(&hub) == [share("taiwan", 1), share("tokyo", 2)]).await;
    }

    #[tokio::test]
    async fn a_cluster_that_holds_nothing_is_given_something_when_it_has_said_so() {
        let hub = controller(5).await;
        comes(&hub, "tokyo", Some(v1::DigestReply::default())).await;
        until(|| placed(&hub).iter().any(|(name, _)| name == "tokyo")).await;
    }

    #[tokio::test]
    async fn the_first_round_does_not_wait_for_a_member_that_never_says_what_it_holds() {
        let (hub, collections) = observed(3).await;
        hub.observe("/apis/apps/v1/deployments", Word::Present(deployment("new", 1)));
        hub.agent_connected("tokyo");
        says(&hub, "tokyo", Message::Hello(v1::Hello::default()));
        for collection in collections {
            hub.observe(&collection, Word::Synced);
        }
        hub.start(1);
        until(|| hub.sessions.is_complete()).await;
        assert!(hub.world.decided(&Key { name: "new".into(), ..web() }).is_none(), "it waits for tokyo");
    }
}
