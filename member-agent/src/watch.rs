//! Watches in the member: of the collections that contain our copies, and of Endpoints, Nodes and Events.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use federation_core::api::marks;
use federation_runtime::endpoints::Health;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use futures::{StreamExt as _, pin_mut};
use hub_protocol::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use proto::v1;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::drift;
use crate::events::Filter;
use crate::executor::Executor;
use crate::manifest;
use crate::service_addresses::ServiceAddresses;
use crate::world::{Collection, Report, World};

/// The name of the watches among what can fail.
const WATCHES: &str = "watches";

/// Watches everything until it is dropped. A collection is watched from when the first object of it is wanted. Each watch that fails is started
/// anew by itself: the others go on.
pub(crate) async fn all(
    client: Client,
    world: Arc<World>,
    executor: Executor,
    addresses: Arc<ServiceAddresses>,
    health: Health,
    shutdown: Shutdown,
) {
    let mut watches = JoinSet::new();
    let (api, of) = (client.clone(), world.clone());
    let watch = move || events(api.clone(), of.clone());
    watches.spawn(tasks::supervise(WATCHES, health.clone(), shutdown.clone(), watch));
    let of_part = |part: Part| {
        let (client, addresses) = (client.clone(), addresses.clone());
        let watch = move || parts(client.clone(), part, addresses.clone());
        tasks::supervise(WATCHES, health.clone(), shutdown.clone(), watch)
    };
    watches.spawn(of_part(Part::Nodes));
    let mut watched: HashSet<Collection> = HashSet::new();
    let mut collections = world.collections();
    loop {
        let now: BTreeSet<Collection> = collections.borrow_and_update().clone();
        for collection in now {
            if !watched.insert(collection.clone()) {
                continue;
            }
            if collection.0.is_empty() && collection.2 == "services" {
                watches.spawn(of_part(Part::Endpoints));
            }
            let (client, world) = (client.clone(), world.clone());
            let (executor, addresses) = (executor.clone(), addresses.clone());
            let watch = move || {
                copies(client.clone(), collection.clone(), world.clone(), executor.clone(), addresses.clone())
            };
            watches.spawn(tasks::supervise(WATCHES, health.clone(), shutdown.clone(), watch));
        }
        if collections.changed().await.is_err() {
            return;
        }
    }
}

/// Takes in one object. If that panics, the others are taken in all the same.
async fn one(key: &Key, work: impl Future<Output = ()>) {
    if let Err(panicked) = tasks::caught(WATCHES, work).await {
        tracing::error!(%key, %panicked, "what a watch told of an object was not taken in");
    }
}

/// Our copies of one kind: drift, status, reachability.
async fn copies(
    client: Client,
    collection: Collection,
    world: Arc<World>,
    executor: Executor,
    addresses: Arc<ServiceAddresses>,
) {
    let config = watcher::Config::default().labels(&format!("{}=true", marks::MANAGED));
    let is_service = collection.0.is_empty() && collection.2 == "services";
    let key_of = |object: &Value| key(&collection, object);
    let gone = async |key: &Key| {
        if is_service {
            addresses.service(key, None).await;
        }
        executor.missing(key);
    };
    let mut listed = Listed::default();
    let stream = changes(client, &collection, config);
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        listed.note(&event, key_of);
        match event {
            Event::Init => {}
            Event::InitApply(object) | Event::Apply(object) => {
                let object = object.value;
                let key = key_of(&object);
                let take = async {
                    seen(&world, &executor, &key, &object).await;
                    if is_service {
                        addresses.service(&key, Some(&object)).await;
                    }
                };
                one(&key, take).await;
            }
            Event::InitDone => {
                for wanted in world.held_in(&collection) {
                    let key = &wanted.entry.key;
                    if !listed.0.contains(key) {
                        one(key, gone(key)).await;
                    }
                }
                listed = Listed::default();
            }
            Event::Delete(object) => {
                let key = key_of(&object.value);
                one(&key, gone(&key)).await;
            }
        }
    }
}

/// Keys of the list that is being read: what is wanted and not in it was deleted while nobody watched. What the watch tells afterwards is not
/// of the list: it would be kept until the next one, which may never come.
#[derive(Default)]
struct Listed(HashSet<Key>);

impl Listed {
    fn note(&mut self, event: &Event<Plain>, key: impl Fn(&Value) -> Key) {
        match event {
            Event::Init => self.0.clear(),
            Event::InitApply(object) => {
                self.0.insert(key(&object.value));
            }
            Event::InitDone | Event::Apply(_) | Event::Delete(_) => {}
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
        epoch: manifest::epoch(object),
    };
    // An error means that the agent is ending.
    let _ = world.reports.send(Report::Status(report)).await;
}

/// What users' way to a Service is made of, besides the Service.
#[derive(Clone, Copy)]
enum Part {
    Endpoints,
    Nodes,
}

/// Tells each of them as it comes and changes, and that it is gone, also while nobody watched.
async fn parts(client: Client, part: Part, addresses: Arc<ServiceAddresses>) {
    let collection = match part {
        Part::Endpoints => core("endpoints", "Endpoints"),
        Part::Nodes => core("nodes", "Node"),
    };
    let tell = async |key: &Key, live: Option<&Value>| {
        let tell = async {
            match part {
                Part::Endpoints => addresses.endpoints(&key.namespace, &key.name, live).await,
                Part::Nodes => addresses.node(&key.name, live).await,
            }
        };
        one(key, tell).await;
    };
    // What a watch before this one told may have gone meanwhile.
    let before = match part {
        Part::Endpoints => addresses.with_endpoints(),
        Part::Nodes => addresses.nodes().into_iter().map(|name| (String::new(), name)).collect(),
    };
    let key_of = |(namespace, name)| Key { namespace, name, ..key(&collection, &Value::Null) };
    let mut known: HashMap<Key, bool> = before.into_iter().map(|name| (key_of(name), false)).collect();
    let stream = changes(client, &collection, watcher::Config::default());
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Event::Init => known.values_mut().for_each(|listed| *listed = false),
            Event::InitApply(object) | Event::Apply(object) => {
                let key = key(&collection, &object.value);
                known.insert(key.clone(), true);
                tell(&key, Some(&object.value)).await;
            }
            Event::InitDone => {
                let gone: Vec<_> = known.extract_if(|_, listed| !*listed).collect();
                for (key, _) in gone {
                    tell(&key, None).await;
                }
            }
            Event::Delete(object) => {
                let key = key(&collection, &object.value);
                tell(&key, None).await;
                known.remove(&key);
            }
        }
    }
}

async fn events(client: Client, world: Arc<World>) {
    let mut filter = Filter::new();
    let mut started = false;
    let collection = core("events", "Event");
    let stream = changes(client, &collection, watcher::Config::default());
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        let object = match event {
            Event::InitApply(object) if !started => {
                filter.pass(&object.value);
                continue;
            }
            Event::InitApply(object) | Event::Apply(object) => object,
            Event::InitDone => {
                started = true;
                continue;
            }
            Event::Init | Event::Delete(_) => continue,
        };
        let tell = async {
            if let Some(report) = filter.take(&world, &object.value, Instant::now()) {
                // An error means that the agent is ending.
                let _ = world.reports.send(Report::Event(report)).await;
            }
        };
        one(&key(&collection, &object.value), tell).await;
    }
}

/// List and watch, with backoff; an expired resource version (410) lists anew. Errors are logged and survived: a kind that the
/// member does not serve may come later.
fn changes(
    client: Client,
    collection: &Collection,
    config: watcher::Config,
) -> impl futures::Stream<Item = Event<Plain>> + use<> {
    let (group, version, resource, kind) = collection.clone();
    let api = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, &version, &kind), &resource);
    watcher(Api::<Plain>::all_with(client, &api), config).default_backoff().filter_map(move |event| {
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

/// An object as it came, and of its metadata what kube's watcher reads. kube's own `DynamicObject` takes it apart into a typed half and an
/// untyped one, which costs more than all else that is done with it here.
#[derive(Clone, Debug)]
struct Plain {
    metadata: ObjectMeta,
    value: Value,
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let mut metadata = ObjectMeta::default();
        if let Some(fields) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            // Who else owns what is of no use here, and often the larger half.
            if let Some(entries) = fields.get_mut("managedFields").and_then(Value::as_array_mut) {
                entries.retain(drift::is_ours);
            }
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            metadata.name = text("name");
            metadata.namespace = text("namespace");
            metadata.resource_version = text("resourceVersion");
        }
        Ok(Self { metadata, value })
    }
}

impl Resource for Plain {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(api: &ApiResource) -> Cow<'_, str> {
        api.group.as_str().into()
    }

    fn version(api: &ApiResource) -> Cow<'_, str> {
        api.version.as_str().into()
    }

    fn kind(api: &ApiResource) -> Cow<'_, str> {
        api.kind.as_str().into()
    }

    fn plural(api: &ApiResource) -> Cow<'_, str> {
        api.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::manifest::Wanted;
    use crate::member::Member;
    use crate::metrics::Metrics;
    use crate::testing::{held, service};

    /// A member with one Service in it, which is gone when its watch has broken.
    fn member() -> Client {
        let lists = Arc::new(AtomicUsize::new(0));
        let service = json!({"metadata": {"name": "web", "namespace": "shop", "resourceVersion": "3",
            "labels": {marks::MANAGED: "true"}}, "spec": {"externalIPs": ["203.0.113.5"]}});
        let answer = move |request: http::Request<Body>| {
            let (lists, service) = (lists.clone(), service.clone());
            async move {
                let (head, _) = request.into_parts();
                let text = match (head.method.as_str(), head.uri.path(), head.uri.query()) {
                    ("GET", "/api/v1/services", Some(query)) if query.contains("watch=true") => {
                        if lists.load(Ordering::SeqCst) > 1 {
                            std::future::pending::<()>().await;
                        }
                        let status = json!({"kind": "Status", "status": "Failure", "code": 410,
                            "reason": "Expired", "message": "too old"});
                        json!({"type": "ERROR", "object": status}).to_string() + "\n"
                    }
                    ("GET", "/api/v1/services", _) => {
                        let first = lists.fetch_add(1, Ordering::SeqCst) == 0;
                        let items = if first { vec![service] } else { Vec::new() };
                        json!({"kind": "ServiceList", "apiVersion": "v1",
                            "metadata": {"resourceVersion": "5"}, "items": items})
                        .to_string()
                    }
                    _ => std::future::pending().await,
                };
                Ok::<_, tower::BoxError>(http::Response::new(Body::from(text.into_bytes())))
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    /// A member that lists these Nodes and Endpoints, and tells nothing more.
    fn lists(nodes: &[&str], endpoints: &[&str]) -> Client {
        let node = |name: &&str| json!({"metadata": {"name": name, "resourceVersion": "3"}});
        let of_service = |name: &&str| {
            json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": "3"},
                "subsets": [{"addresses": [{"ip": "10.1.0.1"}]}]})
        };
        let nodes: Vec<Value> = nodes.iter().map(node).collect();
        let endpoints: Vec<Value> = endpoints.iter().map(of_service).collect();
        let answer = move |request: http::Request<Body>| {
            let items = match request.uri().path() {
                "/api/v1/nodes" => nodes.clone(),
                _ => endpoints.clone(),
            };
            async move {
                if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                    std::future::pending::<()>().await;
                }
                let list = json!({"kind": "List", "apiVersion": "v1",
                    "metadata": {"resourceVersion": "5"}, "items": items});
                Ok::<_, tower::BoxError>(http::Response::new(Body::from(list.to_string().into_bytes())))
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn what_went_between_two_watches_is_known_no_more() {
        let addresses = Arc::new(ServiceAddresses::new(Arc::new(World::new(mpsc::channel(1).0))));
        let known = async |client: Client, nodes: &[&str], endpoints: &[&str]| {
            let watches = [Part::Nodes, Part::Endpoints]
                .map(|part| tokio::spawn(parts(client.clone(), part, addresses.clone())));
            let there = || {
                let named = addresses.with_endpoints().into_iter().map(|(_, name)| name);
                let (mut now, mut named): (_, Vec<String>) = (addresses.nodes(), named.collect());
                now.sort_unstable();
                named.sort_unstable();
                now == nodes && named == endpoints
            };
            let seen = async {
                while !there() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), seen).await.expect("it becomes so within 20 s");
            for watch in watches {
                watch.abort();
            }
        };
        known(lists(&["n1", "n2"], &["api", "web"]), &["n1", "n2"], &["api", "web"]).await;
        known(lists(&["n1"], &["web"]), &["n1"], &["web"]).await;
    }

    #[test]
    fn what_the_watch_tells_after_the_list_is_not_kept() {
        let services = core("services", "Service");
        let object = |name: &str| Plain {
            metadata: ObjectMeta::default(),
            value: json!({"metadata": {"name": name, "namespace": "shop"}}),
        };
        let mut listed = Listed::default();
        let names = |listed: &Listed| listed.0.iter().map(|key| key.name.clone()).collect::<Vec<_>>();
        listed.note(&Event::Init, |object| key(&services, object));
        listed.note(&Event::InitApply(object("web")), |object| key(&services, object));
        assert_eq!(names(&listed), ["web"]);
        listed.note(&Event::Apply(object("later")), |object| key(&services, object));
        assert_eq!(names(&listed), ["web"]);
        listed.note(&Event::Init, |object| key(&services, object));
        assert!(listed.0.is_empty());
    }

    #[tokio::test]
    async fn a_service_that_went_while_nobody_watched_is_told_as_absent() {
        let (reports, mut heard) = mpsc::channel(16);
        let world = Arc::new(World::new(reports));
        world.put(Arc::new(Wanted::new(held(service(), "{}"))));
        let client = member();
        let executor = Executor::new(
            Member::new(client.clone()),
            world.clone(),
            Metrics::default(),
            CancellationToken::new(),
        );
        let addresses = Arc::new(ServiceAddresses::new(world.clone()));
        let watching = tokio::spawn(all(client, world, executor, addresses, Health::new(), Shutdown::new()));
        let told = async {
            let mut absent = Vec::new();
            while absent.last() != Some(&true) {
                match heard.recv().await {
                    Some(Report::Service(state)) => absent.push(state.absent),
                    Some(_) => {}
                    None => break,
                }
            }
            absent
        };
        let told = tokio::time::timeout(Duration::from_secs(20), told).await;
        watching.abort();
        assert_eq!(told, Ok(vec![false, true]));
    }

    #[tokio::test]
    async fn a_watch_that_fails_is_started_anew_and_the_others_go_on() {
        let (services, nodes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (of_services, of_nodes) = (services.clone(), nodes.clone());
        let answer = move |request: http::Request<Body>| {
            let (services, nodes) = (of_services.clone(), of_nodes.clone());
            async move {
                if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                    std::future::pending::<()>().await;
                }
                match request.uri().path() {
                    "/api/v1/services" => {
                        assert!(services.fetch_add(1, Ordering::SeqCst) > 0, "the first watch fails");
                    }
                    "/api/v1/nodes" => {
                        nodes.fetch_add(1, Ordering::SeqCst);
                    }
                    _ => std::future::pending().await,
                }
                let list = json!({"kind": "List", "apiVersion": "v1",
                    "metadata": {"resourceVersion": "5"}, "items": []});
                Ok::<_, tower::BoxError>(http::Response::new(Body::from(list.to_string().into_bytes())))
            }
        };
        let client = Client::new(tower::service_fn(answer), "default");
        let world = Arc::new(World::new(mpsc::channel(16).0));
        world.put(Arc::new(Wanted::new(held(service(), "{}"))));
        let (member, stop) = (Member::new(client.clone()), CancellationToken::new());
        let executor = Executor::new(member, world.clone(), Metrics::default(), stop);
        let (addresses, health) = (Arc::new(ServiceAddresses::new(world.clone())), Health::new());
        let watching = tokio::spawn(all(client, world, executor, addresses, health.clone(), Shutdown::new()));
        let again = async {
            while services.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is started anew within 20 s");
        assert_eq!(nodes.load(Ordering::SeqCst), 1, "the others are not");
        watching.abort();
    }
}
