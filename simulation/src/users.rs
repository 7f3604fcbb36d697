//! Users of the API: what they make, change and delete, and what the operator says of clusters.

use std::collections::BTreeSet;

use federation_core::api::marks;
use serde_json::{Value, json};

use crate::check::Checks;
use crate::dice::Dice;
use crate::store::Store;
use crate::story::{Habits, Plan};

pub(crate) const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";
/// A workload that no Service is in front of.
pub(crate) const WORKER: &str = "/apis/apps/v1/namespaces/default/deployments/worker";
pub(crate) const SOLO: &str = "/apis/apps/v1/namespaces/default/deployments/solo";
pub(crate) const SERVICE: &str = "/api/v1/namespaces/default/services/web";
const POLICY: &str = "/apis/federation.rs/v1alpha1/namespaces/default/placementpolicies/spread";
const EXCLUSIVE: &str = "/apis/federation.rs/v1alpha1/namespaces/default/placementpolicies/exclusive";
const CONFIGMAPS: u64 = 3;
/// What was taken back is federated again in a step, of a thousand: on average within a second, as agents that are there answer.
const AGAIN: u64 = 120;
/// Replicas of what runs in one cluster at a time.
pub(crate) const SOLO_REPLICAS: i64 = 2;

fn configmap(number: u64) -> String {
    format!("/api/v1/namespaces/default/configmaps/m{number}")
}

/// Whether a path is a template's.
pub(crate) fn is_template(path: &str) -> bool {
    path == WEB || path == WORKER || path == SOLO || path == SERVICE || path.contains("/configmaps/m")
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": crate::member::GRACE_MS / 1000,
                    "containers": [{"name": name, "image": "i"}],
                },
            },
        },
    })
}

/// What a federation starts with.
pub(crate) fn found(store: &mut Store, clusters: &[String], plan: &Plan) {
    for name in clusters {
        let path = format!("/apis/federation.rs/v1alpha1/clusters/{name}");
        store.create(
            &path,
            json!({
                "apiVersion": "federation.rs/v1alpha1",
                "kind": "Cluster",
                "metadata": {"name": name},
                "spec": {"region": "r"},
            }),
        );
    }
    store.create(
        POLICY,
        json!({
            "apiVersion": "federation.rs/v1alpha1",
            "kind": "PlacementPolicy",
            "metadata": {"name": "spread", "namespace": "default"},
            "spec": {
                "resourceSelectors": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"},
                    {"apiVersion": "v1", "kind": "ConfigMap"},
                    // Where its Service stays, users come, and replicas wait for them to leave.
                    {"apiVersion": "v1", "kind": "Service"},
                ],
                "clusters": {},
            },
        }),
    );
    if plan.exclusive {
        store.create(
            EXCLUSIVE,
            json!({
                "apiVersion": "federation.rs/v1alpha1",
                "kind": "PlacementPolicy",
                "metadata": {"name": "exclusive", "namespace": "default"},
                "spec": {
                    "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "solo"}],
                    "failover": {"prefer": "Exclusivity", "evictAfterSeconds": 10},
                },
            }),
        );
        store.create(SOLO, deployment("solo", SOLO_REPLICAS));
    }
    store.create(WEB, deployment("web", 3));
    if plan.worker {
        store.create(WORKER, deployment("worker", 2));
    }
    let selector = json!({"app": "web"});
    store.create(
        SERVICE,
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        }),
    );
}

/// Somebody does something.
pub(crate) fn act(
    store: &mut Store,
    clusters: &[String],
    habits: Habits,
    checks: &mut Checks,
    dice: &mut Dice,
    now: u64,
) {
    let Habits { configmaps, scale, image, remake, local, exclude, .. } = habits;
    let mut drawn = dice.below(configmaps + scale + image + remake + local + exclude);
    let mut is = |share: u64| {
        let is = drawn < share;
        drawn = drawn.saturating_sub(share);
        is
    };
    if is(configmaps) {
        let path = configmap(dice.below(CONFIGMAPS));
        write_configmap(store, &path, checks, dice, now);
    } else if is(scale) {
        let workload = if store.data.objects.contains_key(WORKER) && dice.chance(300) { WORKER } else { WEB };
        let replicas = dice.between(1, 7) as i64;
        checks.note(now, || format!("user: {replicas} replicas of {workload}"));
        store.change(workload, |object| object["spec"]["replicas"] = replicas.into());
    } else if is(image) {
        checks.note(now, || "user: another image of web".into());
        let image = format!("i{}", dice.below(1000));
        store.change(WEB, |object| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        });
    } else if is(remake) {
        if store.data.objects.contains_key(WEB) {
            checks.note(now, || "user: deletes the Deployment web and makes it anew later".into());
            delete(store, WEB, checks, dice);
        } else {
            store.create(WEB, deployment("web", 3));
        }
    } else if is(local) {
        take_back(store, checks, dice, now);
    } else if !store.data.objects.contains_key(WEB) {
        store.create(WEB, deployment("web", 3));
    } else {
        // Leaves one cluster out, or none.
        let excluded: Vec<&String> =
            if dice.chance(300) { Vec::new() } else { vec![&clusters[dice.index(clusters.len())]] };
        checks.note(now, || format!("user: the policy leaves out {excluded:?}"));
        for cluster in &excluded {
            checks.policy_excludes(cluster);
        }
        let exclude = json!(excluded);
        store.change(POLICY, |object| object["spec"]["clusters"]["exclude"] = exclude);
    }
}

fn write_configmap(store: &mut Store, path: &str, checks: &mut Checks, dice: &mut Dice, now: u64) {
    let value = format!("v{}", dice.below(1_000_000));
    if store.is_deleting(path) {
        return;
    }
    if !store.data.objects.contains_key(path) {
        let name = path.rsplit('/').next().unwrap_or_default();
        checks.note(now, || format!("user: makes {name} with {value}"));
        store.create(
            path,
            json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": "default"},
                "data": {"v": value},
            }),
        );
    } else if dice.chance(350) {
        checks.note(now, || format!("user: deletes {path}"));
        delete(store, path, checks, dice);
    } else {
        checks.note(now, || format!("user: {path} is {value}"));
        store.change(path, |object| object["data"]["v"] = value.into());
    }
}

/// What users may keep to the hub for a while.
fn may_be_local() -> impl Iterator<Item = String> {
    (0..CONFIGMAPS).map(configmap).chain([WORKER.to_owned()])
}

/// Whether a template is not to be federated.
pub(crate) fn is_local(template: &Value) -> bool {
    let labels = template.pointer("/metadata/labels");
    labels.and_then(|labels| labels.get(marks::LOCAL)) == Some(&json!("true"))
}

/// Somebody takes a template back: its copies are to be released.
fn take_back(store: &mut Store, checks: &mut Checks, dice: &mut Dice, now: u64) {
    let there = |path: &String| store.data.objects.contains_key(path) && !store.is_deleting(path);
    let paths: Vec<String> = may_be_local().filter(there).collect();
    if !paths.is_empty() {
        let path = &paths[dice.index(paths.len())];
        checks.note(now, || format!("user: {path} is local"));
        store.change(path, |object| object["metadata"]["labels"][marks::LOCAL] = "true".into());
    }
}

/// Who took a template back federates it again, most often before all agents have released their copies.
pub(crate) fn federate_again(store: &mut Store, checks: &mut Checks, dice: &mut Dice, now: u64) {
    for path in may_be_local() {
        let is_local = store.data.objects.get(&path).is_some_and(|template| is_local(template));
        if is_local && !store.is_deleting(&path) && dice.chance(AGAIN) {
            checks.note(now, || format!("user: {path} is federated again"));
            store.change(&path, |object| object["metadata"]["labels"][marks::LOCAL] = "false".into());
        }
    }
}

fn delete(store: &mut Store, path: &str, checks: &mut Checks, dice: &mut Dice) {
    let orphan = dice.chance(300);
    let uid = store.data.objects.get(path).and_then(|object| object.pointer("/metadata/uid"));
    if let Some(uid) = uid.and_then(Value::as_str).filter(|_| !orphan && !store.is_deleting(path)) {
        checks.user_deletes(uid);
    }
    store.delete(path, if orphan { "Orphan" } else { "Background" });
}

/// What a user wrote, as far as members hold it.
pub(crate) fn wanted(object: &Value) -> (Option<&Value>, Option<&Value>) {
    (object.get("data"), object.pointer("/spec/template").or_else(|| object.pointer("/spec/ports")))
}

/// Makes the Deployment web anew.
pub(crate) fn remake(store: &mut Store) {
    store.create(WEB, deployment("web", 3));
}

/// The clusters that a template is decided to be in.
pub(crate) fn placed(store: &Store, path: &str) -> BTreeSet<String> {
    decided(store, path, |_| true)
}

/// Those of them that it does not leave.
pub(crate) fn staying(store: &Store, path: &str) -> BTreeSet<String> {
    decided(store, path, |target| target.get("leaving").and_then(Value::as_bool) != Some(true))
}

fn decided(store: &Store, path: &str, is_meant: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let placement = store.data.objects.get(&placement_of(path));
    let clusters = placement.and_then(|placement| placement.pointer("/spec/clusters")?.as_array());
    let targets = clusters.into_iter().flatten().filter(|target| is_meant(target));
    targets.filter_map(|target| Some(target.get("name")?.as_str()?.to_owned())).collect()
}

/// Clusters that are not said to be healthy.
pub(crate) fn unwell(store: &Store) -> usize {
    let clusters = store.data.objects.iter().filter(|(path, _)| path.contains("/clusters/"));
    clusters
        .filter(|(_, cluster)| cluster.pointer("/status/verdict").is_none_or(|verdict| verdict != "Healthy"))
        .count()
}

/// The path of a template's Placement.
pub(crate) fn placement_of(path: &str) -> String {
    let mut parts = path.rsplit('/');
    let (name, plural) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let group = if path.starts_with("/apis/") {
        path.split('/').nth(2).map(|group| format!(".{group}"))
    } else {
        None
    };
    let placement = format!("{plural}{}.{name}", group.unwrap_or_default());
    format!("/apis/federation.rs/v1alpha1/namespaces/default/placements/{placement}")
}
