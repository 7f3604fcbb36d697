//! ServiceCIDRs (KEP-1880): the one of the flag is there, those that are used stay until they are not, and each says whether addresses come
//! from it.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Action, Edit, action::Condition, ip_addresses::cluster_ip};
use crate::{
    allocation::{Network, service_cidrs},
    deletion,
    store::{Key, ResourceKey, Snapshot},
    validation,
};

/// Holds a ServiceCIDR that Services have their addresses from.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// The one of the flag.
const DEFAULT: &str = "kubernetes";
/// How long one that nobody needs stays after it was deleted: who is about to take an address of it is seen before it goes, as in Kubernetes.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// Whether a change of this object may change what is to be done.
pub(super) fn concerns(key: &Key) -> bool {
    key.resource == service_cidrs::resource() || key.resource == ResourceKey::new("", "services")
}

/// Makes the ServiceCIDR of the flag, if it is not there. What there is of another start is left to its administrator, as in Kubernetes.
pub(super) fn required(snapshot: &Snapshot, network: Network) -> Option<Action> {
    let key = Key::new(service_cidrs::resource(), "", DEFAULT);
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT, "finalizers": [FINALIZER]},
        "spec": {"cidrs": [network.to_string()]},
    });
    snapshot.get(&key).is_none().then_some(Action::Create { key, object })
}

/// Says of each whether addresses come from it, and lets go of those that nobody needs. Also returns when to look again, if time alone
/// will let one go.
pub(super) fn settle(
    snapshot: &Snapshot,
    flag: Option<Network>,
    now: Timestamp,
) -> (Vec<Action>, Option<Timestamp>) {
    let (mut all, mut again): (Vec<_>, Option<Timestamp>) = (Vec::new(), None);
    for stored in snapshot.range(&service_cidrs::resource(), None, None) {
        let Ok(object) = stored.value() else { continue };
        all.push((service_cidrs::of(&object), stored, object));
    }
    let mut actions = Vec::new();
    for (at, (own, stored, object)) in all.iter().enumerate() {
        let mut act = |edit| {
            let (key, uid) = (stored.key.clone(), stored.meta.uid.clone());
            actions.push(Action::Edit { key, uid, edit });
        };
        let is_held = deletion::finalizers(object).iter().any(|name| name == FINALIZER);
        let condition = if !stored.meta.deleting {
            if !is_held {
                act(Edit::AddFinalizer(FINALIZER));
            }
            readiness(own)
        } else if !is_held {
            continue;
        } else {
            // Of two that go at a time neither counts on the other one.
            let stay = all
                .iter()
                .enumerate()
                .filter(|(other, (_, stored, _))| *other != at && !stored.meta.deleting)
                .flat_map(|(_, (networks, ..))| networks.iter().copied());
            let others: Vec<_> = stay.chain(flag).collect();
            if !is_needed(snapshot, own, &others) {
                match end_of_grace(object).filter(|end| *end > now) {
                    Some(end) => again = Some(again.map_or(end, |again| again.min(end))),
                    None => act(Edit::DropFinalizer(FINALIZER)),
                }
                continue;
            }
            Condition {
                kind: "Ready",
                holds: false,
                reason: "Terminating",
                message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
                    .to_owned(),
            }
        };
        let told = validation::condition(object, "Ready").is_some_and(|found| {
            (found["status"] == "True") == condition.holds && found["message"] == *condition.message
        });
        if !told {
            act(Edit::Conditions(vec![condition]));
        }
    }
    (actions, again)
}

fn end_of_grace(object: &Value) -> Option<Timestamp> {
    let deleted = object["metadata"]["deletionTimestamp"].as_str()?.parse::<Timestamp>().ok()?;
    deleted.checked_add(GRACE).ok()
}

fn readiness(own: &[Network]) -> Condition {
    let holds = !own.is_empty();
    let (reason, message) = if holds {
        ("", "Kubernetes Service CIDR is ready")
    } else {
        ("NotAllocatable", "Services of this server have addresses of IPv4, from networks of /8 to /30")
    };
    Condition { kind: "Ready", holds, reason, message: message.to_owned() }
}

/// Whether a Service has an address from networks, and from no others.
fn is_needed(snapshot: &Snapshot, own: &[Network], others: &[Network]) -> bool {
    let within = |networks: &[Network], address| networks.iter().any(|network| network.spans(address));
    snapshot
        .range(&ResourceKey::new("", "services"), None, None)
        .filter_map(|service| cluster_ip(&service)?.parse::<Ipv4Addr>().ok())
        .any(|address| within(own, address) && !within(others, address))
}
