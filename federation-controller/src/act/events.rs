//! Events about federated objects, both ways.
//!
//! Members' Events, and the controller's own, appear on the template as core/v1 Events, counted. Events that others post to the
//! federation about a template are delivered to the clusters that hold it, once: they are marked when handed over, and what the
//! controller wrote itself carries a mark, so that nothing comes back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use federation_core::api::Cluster;
use federation_core::events::{Action, Correlator, EventKey, Options};
use federation_runtime::endpoints::Health as Readiness;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use proto::v1;

use crate::hub::sessions::Sessions;
use crate::observe::{CLUSTER, Key, Kind, Template, World};

use super::write::Writer;

/// Label on every Event that the federation wrote: the member's name, or `federation`.
pub(crate) const FROM: &str = "federation.rs/cluster";
/// Annotation on an Event that was delivered to members.
pub(crate) const DELIVERED: &str = "federation.rs/delivered";
/// Events that wait to be written. They are for people: when a member floods, the rest is dropped and counted as dropped.
const QUEUE: usize = 4096;
/// Events on their way to the API at once: a failover has one for each Service and workload, and each waits for the store.
const AT_ONCE: usize = 16;
/// Events about one thing that come within this time are one write.
const GATHER: Duration = Duration::from_millis(100);
/// Happenings in memory: twice what the correlator remembers, at most about 4 MiB.
const KNOWN: usize = 8192;
/// With nothing to count, nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// One happening.
#[derive(Clone, Debug)]
struct Happening {
    key: Key,
    uid: String,
    resource_version: String,
    kind: String,
    reason: String,
    message: String,
    component: String,
    cluster: String,
    // Since it was last told.
    count: i64,
    first: Timestamp,
    last: Timestamp,
}

impl Happening {
    fn correlated(&self) -> EventKey {
        EventKey {
            cluster: self.cluster.clone(),
            uid: self.uid.clone(),
            event_type: self.kind.clone(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            component: self.component.clone(),
        }
    }
}

/// Takes Events to be written. Cheap to clone; never waits.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Happening>,
    dropped: Counter,
}

impl Recorder {
    /// A recorder, and the task that writes. What is not written is counted.
    pub(crate) fn start(client: Client, dropped: Counter, readiness: Readiness, shutdown: Shutdown) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let keeper = Keeper::new(client, receiver, dropped.clone());
        let (keeper, ending) = (Arc::new(Mutex::new(keeper)), shutdown.clone());
        let write = move || {
            let (keeper, ending) = (keeper.clone(), ending.clone());
            async move { keeper.lock().await.run(ending).await }
        };
        tokio::spawn(tasks::supervise("events", readiness, shutdown, write));
        Self { queue, dropped }
    }

    /// A recorder of what nobody reads.
    pub(crate) fn silent() -> Self {
        Self { queue: mpsc::channel(1).0, dropped: Counter::default() }
    }

    /// A recorder, and what it was told: of what object, the reason and the message.
    #[cfg(test)]
    pub(crate) fn heard() -> (Self, impl FnMut() -> Option<(String, String, String)>) {
        let (queue, mut receiver) = mpsc::channel(QUEUE);
        let next = move || {
            let Happening { key, reason, message, .. } = receiver.try_recv().ok()?;
            Some((format!("{}/{}", key.namespace, key.name), reason, message))
        };
        (Self { queue, dropped: Counter::default() }, next)
    }

    /// Warns of something that the controller found.
    pub(crate) fn warn(&self, template: &Template, reason: &str, message: &str, cluster: &str) {
        self.tell(template, "Warning", reason, message, cluster);
    }

    /// Tells of something that the controller found, or does.
    pub(crate) fn tell(&self, template: &Template, kind: &str, reason: &str, message: &str, cluster: &str) {
        let now = Timestamp::now();
        self.send(Happening {
            key: template.key.clone(),
            uid: template.uid.to_string(),
            resource_version: template.resource_version.to_string(),
            kind: kind.into(),
            reason: reason.into(),
            message: message.into(),
            component: "federation-controller".into(),
            cluster: cluster.into(),
            count: 1,
            first: now,
            last: now,
        });
    }

    /// Tells of a member's verdict.
    pub(crate) fn cluster(&self, cluster: &Cluster, kind: &str, reason: &str, message: &str) {
        let now = Timestamp::now();
        self.send(Happening {
            key: Key::new(&CLUSTER, "", cluster.name()),
            uid: cluster.metadata.uid.clone().unwrap_or_default(),
            resource_version: String::new(),
            kind: kind.into(),
            reason: reason.into(),
            message: message.into(),
            component: "federation-controller".into(),
            cluster: cluster.name().into(),
            count: 1,
            first: now,
            last: now,
        });
    }

    /// Passes a member's Event on.
    pub(crate) fn member(&self, template: &Template, event: &v1::MemberEvent, cluster: &str) {
        let time = |millis: i64| Timestamp::from_millisecond(millis).unwrap_or_else(|_| Timestamp::now());
        self.send(Happening {
            key: template.key.clone(),
            uid: template.uid.to_string(),
            resource_version: String::new(),
            kind: if event.r#type == "Warning" { "Warning".into() } else { "Normal".into() },
            reason: event.reason.clone(),
            message: event.message.clone(),
            component: format!("{cluster}/{}", event.component),
            cluster: cluster.into(),
            count: i64::from(event.count.max(1)),
            first: time(event.first_ms),
            last: time(event.last_ms),
        });
    }

    fn send(&self, happening: Happening) {
        if self.queue.try_send(happening).is_err() {
            self.dropped.inc();
            tracing::debug!("an Event was dropped: too many wait");
        }
    }
}

struct Keeper {
    client: Client,
    correlator: Correlator,
    // What the correlator remembers, with what an Event says besides.
    happenings: HashMap<EventKey, Happening>,
    receiver: mpsc::Receiver<Happening>,
    dropped: Counter,
}

impl Keeper {
    fn new(client: Client, receiver: mpsc::Receiver<Happening>, dropped: Counter) -> Self {
        let correlator = Correlator::new(Options::default());
        Self { client, correlator, happenings: HashMap::new(), receiver, dropped }
    }

    async fn run(&mut self, shutdown: Shutdown) {
        loop {
            let wait = self.correlator.next_deadline_ms().map_or(IDLE, |deadline| {
                Duration::from_millis(deadline.saturating_sub(now_ms()).max(1) as u64)
            });
            let first = tokio::select! {
                () = shutdown.wait() => return,
                first = self.receiver.recv() => match first {
                    Some(first) => Some(first),
                    // Nobody has anything to tell any more.
                    None => return shutdown.wait().await,
                },
                () = tokio::time::sleep(wait) => None,
            };
            let due = self.correlator.due(now_ms());
            self.perform_all(due).await;
            let Some(first) = first else { continue };
            let mut gathered: HashMap<EventKey, Happening> = HashMap::new();
            gather(&mut gathered, first);
            tokio::time::sleep(GATHER).await;
            while let Ok(more) = self.receiver.try_recv() {
                gather(&mut gathered, more);
            }
            self.make_room(gathered.len());
            let mut actions = Vec::with_capacity(gathered.len());
            for (key, happening) in gathered {
                let count = u64::try_from(happening.count).unwrap_or(1);
                let action = self.correlator.observe(now_ms(), key.clone(), count);
                if action == Action::Drop {
                    self.dropped.inc_by(count);
                } else {
                    self.remember(&key, happening);
                }
                actions.push((key, action));
            }
            self.perform_all(actions).await;
        }
    }

    /// What is lost by this is the next count of Events that are there already.
    fn make_room(&mut self, coming: usize) {
        if self.happenings.len() + coming > KNOWN {
            self.happenings.clear();
        }
    }

    fn remember(&mut self, key: &EventKey, happening: Happening) {
        match self.happenings.get_mut(key) {
            Some(known) => known.last = known.last.max(happening.last),
            None => {
                self.happenings.insert(key.clone(), happening);
            }
        }
    }

    /// Each is about another Event.
    async fn perform_all(&self, actions: Vec<(EventKey, Action)>) {
        let one = |(key, action): (EventKey, Action)| async move {
            if let Err(error) = self.perform(&key, action).await {
                self.dropped.inc();
                tracing::debug!(%error, reason = key.reason, "an Event could not be written");
            }
        };
        futures::stream::iter(actions).for_each_concurrent(AT_ONCE, one).await;
    }

    async fn perform(&self, key: &EventKey, action: Action) -> Result<(), kube::Error> {
        let Some(happening) = self.happenings.get(key) else { return Ok(()) };
        let namespace = if happening.key.namespace.is_empty() { "default" } else { &happening.key.namespace };
        let collection = format!("/api/v1/namespaces/{namespace}/events");
        let (suffix, count, is_new) = match action {
            Action::Create { suffix, count } => (suffix, count, true),
            Action::Update { suffix, count } => (suffix, count, false),
            Action::Later | Action::Drop => return Ok(()),
        };
        let name = name(&happening.key, &suffix);
        if !is_new {
            let patch = Patch::Merge(json!({"count": count, "lastTimestamp": seconds(happening.last)}));
            let request = Request::new(&collection)
                .patch(&name, &PatchParams::default(), &patch)
                .map_err(kube::Error::BuildRequest)?;
            match self.client.request::<Value>(request).await {
                Ok(_) => return Ok(()),
                // It expired: it is made anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let object = event(&name, namespace, happening, count);
        let request = Request::new(&collection)
            .create(&PostParams::default(), object.to_string().into_bytes())
            .map_err(kube::Error::BuildRequest)?;
        self.client.request::<Value>(request).await.map(drop)
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

fn gather(gathered: &mut HashMap<EventKey, Happening>, happening: Happening) {
    let key = happening.correlated();
    match gathered.get_mut(&key) {
        None => {
            gathered.insert(key, happening);
        }
        Some(earlier) => {
            earlier.last = earlier.last.max(happening.last);
            earlier.first = earlier.first.min(happening.first);
            earlier.count += happening.count;
        }
    }
}

fn name(key: &Key, suffix: &str) -> String {
    // A name has at most 253 characters.
    let object: String = key.name.chars().take(230).collect();
    format!("{object}.{suffix}")
}

fn event(name: &str, namespace: &str, happening: &Happening, count: u64) -> Value {
    let key = &happening.key;
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace, "labels": {FROM: happening.cluster}},
        "involvedObject": {
            "apiVersion": key.kind.api_version(),
            "kind": key.kind.kind,
            "namespace": &*key.namespace,
            "name": &*key.name,
            "uid": happening.uid,
            "resourceVersion": happening.resource_version,
        },
        "type": happening.kind,
        "reason": happening.reason,
        "message": happening.message,
        "source": {"component": happening.component, "host": happening.cluster},
        "reportingComponent": happening.component,
        "reportingInstance": happening.cluster,
        "count": count,
        "firstTimestamp": seconds(happening.first),
        "lastTimestamp": seconds(happening.last),
    })
}

/// metav1.Time has whole seconds.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Delivers an Event that somebody posted to the federation to the clusters that hold what it is about.
pub(crate) async fn deliver(world: &World, sessions: &Sessions, writer: &Writer, event: &Value) {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let ours = event.pointer("/metadata/labels").is_some_and(|labels| labels.get(FROM).is_some());
    let delivered = event.pointer("/metadata/annotations").is_some_and(|all| all.get(DELIVERED).is_some());
    if ours || delivered {
        return;
    }
    let Some(kind) = Kind::of_manifest(text("/involvedObject/apiVersion"), text("/involvedObject/kind"))
    else {
        return;
    };
    let namespace = if kind.namespaced { text("/involvedObject/namespace") } else { "" };
    let key = Key::new(kind, namespace, text("/involvedObject/name"));
    let uid = text("/involvedObject/uid");
    let (Some(template), Some(decided)) = (world.template(&key), world.decided(&key)) else { return };
    if !uid.is_empty() && uid != &*template.uid {
        return;
    }
    for target in &decided.spec.clusters {
        sessions.deliver(
            &target.name,
            v1::DeliverEvent {
                id: text("/metadata/uid").to_owned(),
                regarding: Some(key.to_wire()),
                event: event.to_string().into(),
            },
        );
    }
    let collection = format!("/api/v1/namespaces/{}/events", text("/metadata/namespace"));
    let mark = json!({DELIVERED: "true"});
    if let Err(error) = writer.annotate(&collection, text("/metadata/name"), mark).await {
        tracing::debug!(%error, "a delivered Event could not be marked");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn happening(message: &str, count: i64) -> Happening {
        Happening {
            key: Key::new(Kind::find("", "configmaps").unwrap(), "default", "web"),
            uid: "u".into(),
            resource_version: String::new(),
            kind: "Warning".into(),
            reason: "FailedApply".into(),
            message: message.into(),
            component: "federation-controller".into(),
            cluster: "taiwan".into(),
            count,
            first: Timestamp::UNIX_EPOCH,
            last: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_same_thing_twice_is_one_event_with_a_count() {
        let mut gathered = HashMap::new();
        gather(&mut gathered, happening("a", 1));
        gather(&mut gathered, happening("a", 1));
        gather(&mut gathered, happening("b", 1));
        assert_eq!(gathered.len(), 2);
        let a = &gathered[&happening("a", 1).correlated()];
        assert_eq!(a.count, 2);
    }

    #[tokio::test]
    async fn of_a_burst_every_event_is_written_several_at_once_or_counted() {
        let (mut most, written) = (0, Arc::new(Mutex::new((0, 0))));
        let counted = written.clone();
        let answer = move |_: http::Request<kube::client::Body>| {
            let counted = counted.clone();
            async move {
                counted.lock().await.0 += 1;
                tokio::task::yield_now().await;
                let mut now = counted.lock().await;
                *now = (now.0 - 1, now.1 + 1);
                Ok::<_, tower::BoxError>(http::Response::new(kube::client::Body::from(b"{}".to_vec())))
            }
        };
        let (queue, receiver) = mpsc::channel(QUEUE);
        let dropped = Counter::default();
        let recorder = Recorder { queue, dropped: dropped.clone() };
        let mut keeper =
            Keeper::new(Client::new(tower::service_fn(answer), "default"), receiver, dropped.clone());
        let of = |uid: String| Happening { uid, ..happening("a", 1) };
        // The memory is nearly full of what came before.
        for number in 1..KNOWN {
            let before = of(format!("before-{number}"));
            keeper.happenings.insert(before.correlated(), before);
        }
        for number in 0..QUEUE + 3 {
            recorder.send(of(format!("u-{number}")));
        }
        assert_eq!(dropped.get(), 3, "what finds no room");
        let shutdown = Shutdown::new();
        let all = async {
            loop {
                let now = *written.lock().await;
                most = most.max(now.0);
                if now.1 == QUEUE {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let all = tokio::time::timeout(Duration::from_secs(60), all);
        tokio::select! {
            () = keeper.run(shutdown) => {}
            all = all => all.unwrap(),
        }
        assert!((2..=AT_ONCE).contains(&most), "{most} at once");
    }

    #[test]
    fn an_event_says_which_cluster_it_is_from() {
        let event = event("n", "default", &happening("a", 1), 1);
        assert_eq!(event["metadata"]["labels"][FROM], "taiwan");
        assert_eq!(event["involvedObject"]["name"], "web");
        assert_eq!(event["firstTimestamp"], "1970-01-01T00:00:00Z");
    }
}
