//! What becomes of copies that are not wanted any more, and of those that are wanted again.

use hub_protocol::hub::Event;
use parking_lot::Mutex;
use proto::v1::agent_message::Message as Up;
use proto::v1::digest_reply::Item;
use proto::v1::hub_message::Message as Down;
use serde_json::json;

use super::*;
use crate::hub::sessions::Listener as _;
use crate::machine::{Machine, Word};
use crate::testing::{self, until};

const PLACEMENTS: &str = "/apis/federation.rs/v1alpha1/placements";
const POLICIES: &str = "/apis/federation.rs/v1alpha1/placementpolicies";
const CONFIG_MAPS: &str = "/api/v1/configmaps";

/// A Placement of the ConfigMap `shop/web`.
fn placement(spec: &Value) -> Value {
    json!({"metadata": {"namespace": "shop", "name": "configmaps.web"}, "spec": spec})
}

/// What was decided about an earlier `shop/web`, which was in both clusters.
fn of_namesake() -> Value {
    json!({"template": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "web", "uid": "old"},
        "clusters": [{"name": "taiwan"}, {"name": "tokyo"}], "epoch": 1})
}

/// The policy that ConfigMaps go to these clusters.
fn policy(generation: i64, wanted: &[&str]) -> Word {
    let policy = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "PlacementPolicy",
        "metadata": {"namespace": "shop", "name": "policy", "generation": generation},
        "spec": {"resourceSelectors": [{"apiVersion": "v1", "kind": "ConfigMap"}], "clusters": {"names": wanted}}});
    Word::Present(policy)
}

/// The ConfigMap `shop/web` as it is now.
fn config_map(version: u64, labels: &Value) -> Word {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "web",
        "uid": "new", "resourceVersion": version.to_string(), "finalizers": [marks::FINALIZER], "labels": labels}, "data": {}});
    Word::Present(object)
}

/// A controller that runs, and finds this Placement and a ConfigMap `shop/web` of the uid `new`, which is wanted in these clusters.
async fn controller(placement: &Value, wanted: &[&str]) -> Machine {
    let machine = testing::machine().await;
    let collections = machine.declare(&["configmaps"]);
    machine.observe(POLICIES, policy(1, wanted));
    for name in ["taiwan", "tokyo"] {
        let cluster = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name, "uid": name}, "spec": {}});
        machine.observe("/apis/federation.rs/v1alpha1/clusters", Word::Present(cluster));
    }
    machine.observe(CONFIG_MAPS, config_map(1, &json!({})));
    machine.observe(PLACEMENTS, Word::Present(placement.clone()));
    for collection in collections {
        machine.observe(&collection, Word::Synced);
    }
    machine.start(1);
    machine
}

fn web() -> Key {
    Key::new(Kind::find("", "configmaps").expect("a kind"), "shop", "web")
}

/// Copies of namesakes that the decision about the present one names.
fn former(hub: &Machine) -> Vec<(String, String)> {
    let decided = hub.world.decided(&web()).filter(|decided| decided.spec.template.uid == "new");
    let former = decided.map(|decided| decided.spec.former.clone()).unwrap_or_default();
    former.into_iter().map(|copy| (copy.cluster, copy.uid)).collect()
}

fn old(cluster: &str) -> (String, String) {
    (cluster.to_owned(), "old".to_owned())
}

fn asked(hub: &Machine, cluster: &str) -> bool {
    hub.sessions.is_releasing(cluster, &web().to_wire().into(), "old")
}

/// An agent comes, and says that it holds the copy of the template of this uid.
fn comes(hub: &Machine, cluster: &str, uid: &str) {
    let say = |message: Up| hub.agent_said(cluster, Some(v1::AgentMessage { message: Some(message) }));
    hub.agent_connected(cluster);
    say(Up::Hello(v1::Hello::default()));
    let item =
        Item { key: Some(web().to_wire()), uid: uid.into(), epoch: 1, generation: 1, ..Item::default() };
    say(Up::DigestReply(v1::DigestReply { items: vec![item], ..v1::DigestReply::default() }));
    say(Up::Heartbeat(v1::Heartbeat { api_ok: true, ..v1::Heartbeat::default() }));
}

/// An agent is told to apply the present template's copy, and to let none go.
async fn is_applied(hub: &Machine, cluster: &str) {
    let told = Mutex::new(Vec::new());
    until(|| {
        let mut told = told.lock();
        told.extend(std::iter::from_fn(|| hub.to_agent(cluster)).filter_map(|message| message.message));
        told.iter().any(|message| matches!(message, Down::Apply(apply) if apply.uid == "new"))
    })
    .await;
    let lets_go = |message: &Down| matches!(message, Down::Release(_) | Down::Remove(_));
    assert!(!told.lock().iter().any(lets_go));
}

#[tokio::test]
async fn copies_of_a_former_namesake_are_taken_over_where_the_present_one_may_go_as_soon_as_that_is_known() {
    let hub = controller(&placement(&of_namesake()), &["taiwan", "tokyo"]).await;
    // No agent has come yet.
    until(|| former(&hub) == [old("taiwan"), old("tokyo")]).await;
    comes(&hub, "taiwan", "old");
    until(|| former(&hub) == [old("tokyo")]).await;
    is_applied(&hub, "taiwan").await;
    assert!(!asked(&hub, "tokyo"), "nobody knows yet whether it goes there");
}

#[tokio::test]
async fn copies_of_a_former_namesake_are_asked_for_until_their_agents_answer_whoever_restarts() {
    let hub = controller(&placement(&of_namesake()), &["osaka"]).await;
    until(|| asked(&hub, "taiwan") && asked(&hub, "tokyo")).await;
    assert_eq!(former(&hub), [old("taiwan"), old("tokyo")]);
    // The hub restarts before anybody has answered: all that is left of it is the Placement.
    let written = hub.world.decided(&web()).expect("decided").spec.clone();
    let hub = controller(&placement(&json!(written)), &["osaka"]).await;
    until(|| asked(&hub, "taiwan") && asked(&hub, "tokyo")).await;
    let answer = v1::Removed {
        key: Some(web().to_wire()),
        uid: "old".into(),
        result: v1::RemoveResult::Released.into(),
        ..v1::Removed::default()
    };
    hub.agent_events.heard("taiwan", Event::Removed(answer));
    until(|| former(&hub) == [old("tokyo")]).await;
}

#[tokio::test]
async fn a_former_namesakes_copy_is_taken_over_where_a_policy_wants_the_cluster_again_before_its_agent_comes()
{
    let hub = controller(&placement(&of_namesake()), &["osaka"]).await;
    until(|| asked(&hub, "taiwan") && asked(&hub, "tokyo")).await;
    hub.observe(POLICIES, policy(2, &["taiwan"]));
    until(|| !asked(&hub, "taiwan")).await;
    assert!(asked(&hub, "tokyo"), "it is not wanted there");
    comes(&hub, "taiwan", "old");
    is_applied(&hub, "taiwan").await;
}

#[tokio::test]
async fn a_template_that_is_federated_again_before_its_copies_are_released_has_them_back() {
    let spec = json!({"template": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "web", "uid": "new"},
        "clusters": [{"name": "taiwan"}, {"name": "tokyo"}], "epoch": 1});
    let hub = controller(&placement(&spec), &["taiwan", "tokyo"]).await;
    comes(&hub, "tokyo", "new");
    is_applied(&hub, "tokyo").await;
    // The decision that stands when it is federated again.
    until(|| hub.world.decided(&web()).is_some_and(|decided| !decided.spec.policy.is_empty())).await;
    hub.observe(CONFIG_MAPS, config_map(2, &json!({marks::LOCAL: "true"})));
    let asked = |cluster: &str| hub.sessions.is_releasing(cluster, &web().to_wire().into(), "new");
    until(|| asked("taiwan") && asked("tokyo")).await;
    // One answers, and the other is away.
    let released = std::iter::from_fn(|| hub.to_agent("tokyo")).find_map(|message| match message.message {
        Some(Down::Release(release)) => Some(v1::Removed {
            key: release.key,
            uid: release.uid,
            epoch: release.epoch,
            result: v1::RemoveResult::Released.into(),
            ..v1::Removed::default()
        }),
        _ => None,
    });
    let released = Up::Removed(released.expect("it is asked"));
    assert!(hub.agent_said("tokyo", Some(v1::AgentMessage { message: Some(released) })));
    hub.observe(CONFIG_MAPS, config_map(3, &json!({})));
    until(|| !asked("taiwan")).await;
    is_applied(&hub, "tokyo").await;
    comes(&hub, "taiwan", "new");
    is_applied(&hub, "taiwan").await;
}

#[test]
fn a_daemon_set_stands_in_for_another_when_a_pod_of_it_is_ready() {
    let kind = |plural| Kind::find("apps", plural).expect("a kind");
    let said = |status: Value| Report {
        status: Some(Arc::new(status)),
        current: true,
        member_generation: 1,
        ..Report::default()
    };
    let of_daemon_set = |status| runs(kind("daemonsets"), &said(status));
    let counts = |ready, wanted| json!({"observedGeneration": 1, "numberReady": ready, "desiredNumberScheduled": wanted});
    assert_eq!(of_daemon_set(counts(0, 3)), Some(false));
    assert_eq!(of_daemon_set(counts(1, 3)), Some(true));
    assert_eq!(of_daemon_set(counts(0, 0)), Some(true), "no node is to run it");
    assert_eq!(of_daemon_set(json!({})), Some(false), "nobody has looked at it yet");
    assert_eq!(runs(kind("daemonsets"), &Report::default()), Some(false));
    assert_eq!(runs(kind("deployments"), &Report::default()), None);
}
