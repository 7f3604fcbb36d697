//! What the member says: watches of the collections that hold our copies, and of Endpoints, Nodes and Events.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use federation_core::api::marks;
use futures::{StreamExt as _, pin_mut};
use hub_protocol::Key;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use proto::v1;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::events::Filter;
use crate::executor::Executor;
use crate::manifest;
use crate::reach::Reach;
use crate::world::{Collection, Report, World};

/// Watches everything until it is dropped. A collection is watched from when the first object of it is wanted.
pub(crate) async fn all(client: Client, world: Arc<World>, executor: Executor, reach: Arc<Reach>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(events(client.clone(), world.clone()));
    tasks.spawn(nodes(client.clone(), reach.clone()));
    let mut watched: HashSet<Collection> = HashSet::new();
    let mut collections = world.collections();
    loop {
        let now: BTreeSet<Collection> = collections.borrow_and_update().clone();
        for collection in now {
            if !watched.insert(collection.clone()) {
                continue;
            }
            if collection.0.is_empty() && collection.2 == "services" {
                tasks.spawn(endpoints(client.clone(), reach.clone()));
            }
            tasks.spawn(copies(client.clone(), collection, world.clone(), executor.clone(), reach.clone()));
        }
        if collections.changed().await.is_err() {
            return;
        }
    }
}

/// Our copies of one kind: drift, status, reachability.
async fn copies(
    client: Client,
    collection: Collection,
    world: Arc<World>,
    executor: Executor,
    reach: Arc<Reach>,
) {
    let config = watcher::Config::default().labels(&format!("{}=true", marks::MANAGED));
    let is_service = collection.0.is_empty() && collection.2 == "services";
    let key_of = |object: &Value| key(&collection, object);
    // Keys of the list that is being read: what is wanted and not in it was deleted while nobody watched.
    let mut listed: HashSet<Key> = HashSet::new();
    let stream = changes(client, &collection, config);
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) | Event::Apply(object) => {
                let object = plain(object);
                let key = key_of(&object);
                listed.insert(key.clone());
                seen(&world, &executor, &key, &object).await;
                if is_service {
                    reach.service(&key, Some(&object)).await;
                }
            }
            Event::InitDone => {
                for wanted in world.held_in(&collection) {
                    let key = &wanted.entry.key;
                    if !listed.contains(key) {
                        executor.missing(key);
                    }
                }
                listed.clear();
            }
            Event::Delete(object) => {
                let key = key_of(&plain(object));
                if is_service {
                    reach.service(&key, None).await;
                }
                executor.missing(&key);
            }
        }
    }
}

async fn seen(world: &World, executor: &Executor, key: &Key, object: &Value) {
    executor.observed(key, object);
    let Some(wanted) = world.held(key) else { return };
    if manifest::annotation(object, marks::TEMPLATE_UID) != Some(wanted.entry.uid.as_str()) {
        return;
    }
    let Some(status) =
        object.get("status").filter(|status| status.as_object().is_some_and(|fields| !fields.is_empty()))
    else {
        return;
    };
    let generation =
        manifest::annotation(object, marks::TEMPLATE_GENERATION).and_then(|text| text.parse().ok());
    let report = v1::ObjectStatus {
        key: Some(key.into()),
        uid: wanted.entry.uid.clone(),
        generation: generation.unwrap_or(wanted.entry.generation),
        member_generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
        status: status.to_string().into(),
    };
    // An error means that the agent is ending.
    let _ = world.reports.send(Report::Status(report)).await;
}

async fn endpoints(client: Client, reach: Arc<Reach>) {
    let collection = core("endpoints", "Endpoints");
    let mut known: HashMap<(String, String), bool> = HashMap::new();
    let stream = changes(client, &collection, watcher::Config::default());
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => known.values_mut().for_each(|listed| *listed = false),
            Event::InitApply(object) | Event::Apply(object) => {
                let object = plain(object);
                let key = key(&collection, &object);
                reach.endpoints(&key.namespace, &key.name, Some(&object)).await;
                known.insert((key.namespace, key.name), true);
            }
            Event::InitDone => {
                let gone: Vec<_> = known.extract_if(|_, listed| !*listed).collect();
                for ((namespace, name), _) in gone {
                    reach.endpoints(&namespace, &name, None).await;
                }
            }
            Event::Delete(object) => {
                let key = key(&collection, &plain(object));
                reach.endpoints(&key.namespace, &key.name, None).await;
                known.remove(&(key.namespace, key.name));
            }
        }
    }
}

async fn nodes(client: Client, reach: Arc<Reach>) {
    let collection = core("nodes", "Node");
    let mut known: HashMap<String, bool> = HashMap::new();
    let stream = changes(client, &collection, watcher::Config::default());
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => known.values_mut().for_each(|listed| *listed = false),
            Event::InitApply(object) | Event::Apply(object) => {
                let object = plain(object);
                let name = key(&collection, &object).name;
                reach.node(&name, Some(&object)).await;
                known.insert(name, true);
            }
            Event::InitDone => {
                let gone: Vec<_> = known.extract_if(|_, listed| !*listed).collect();
                for (name, _) in gone {
                    reach.node(&name, None).await;
                }
            }
            Event::Delete(object) => {
                let name = key(&collection, &plain(object)).name;
                reach.node(&name, None).await;
                known.remove(&name);
            }
        }
    }
}

async fn events(client: Client, world: Arc<World>) {
    let mut filter = Filter::new(Timestamp::now());
    let stream = changes(client, &core("events", "Event"), watcher::Config::default());
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        let (Event::InitApply(object) | Event::Apply(object)) = event else { continue };
        if let Some(report) = filter.take(&world, &plain(object), Instant::now()) {
            // An error means that the agent is ending.
            let _ = world.reports.send(Report::Event(report)).await;
        }
    }
}

/// List and watch, with backoff; an expired resource version (410) lists anew. Errors are logged and survived: a kind that the
/// member does not serve may come later.
fn changes(
    client: Client,
    collection: &Collection,
    config: watcher::Config,
) -> impl futures::Stream<Item = Event<DynamicObject>> + use<> {
    let (group, version, resource, kind) = collection.clone();
    let api = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, &version, &kind), &resource);
    watcher(Api::<DynamicObject>::all_with(client, &api), config).default_backoff().filter_map(move |event| {
        let event = match event {
            Ok(event) => Some(event),
            Err(error) => {
                tracing::debug!(%group, %resource, %error, "a watch broke off; listing again");
                None
            }
        };
        std::future::ready(event)
    })
}

fn core(resource: &str, kind: &str) -> Collection {
    (String::new(), "v1".into(), resource.into(), kind.into())
}

fn key(collection: &Collection, object: &Value) -> Key {
    let (group, version, resource, kind) = collection.clone();
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Key {
        group,
        version,
        kind,
        resource,
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
    }
}

/// One JSON object again: metadata and data are apart in kube's type, and `managedFields` are of no use here.
fn plain(mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    let mut value = object.data;
    let metadata = serde_json::to_value(object.metadata).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("metadata".into(), metadata);
        if let Some(types) = object.types {
            fields.insert("apiVersion".into(), types.api_version.into());
            fields.insert("kind".into(), types.kind.into());
        }
    }
    value
}
