//! The clusters as decisions see them: the operators' settings, the agents' reports about themselves, and the verdict.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use federation_core::api::{Cluster, Taint, TaintEffect, Verdict, conditions, marks};
use federation_core::health::View;
use federation_core::placement::ClusterView;
use proto::v1;

use crate::observe::World;

/// Annotation on a Cluster that is deleted: what becomes of its copies.
pub const UNJOIN_MODE: &str = "federation.rs/unjoin-mode";

/// How a cluster leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unjoin {
    /// Its copies stay, and are the federation's no more.
    Detach,
    /// Replicas move away first, then the copies go, through the gate.
    Drain,
    /// It is dead: nothing is asked of it.
    Forget,
}

impl Unjoin {
    /// How a cluster leaves; `None` while it does not. An unknown word detaches, which harms nothing.
    pub(crate) fn of(cluster: &Cluster) -> Option<Self> {
        cluster.metadata.deletion_timestamp.as_ref()?;
        let mode = cluster.metadata.annotations.as_ref().and_then(|all| all.get(UNJOIN_MODE));
        Some(match mode.map(String::as_str) {
            Some("drain") => Self::Drain,
            Some("forget") => Self::Forget,
            _ => Self::Detach,
        })
    }
}

/// The clusters at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// For the placement.
    pub(crate) views: Vec<ClusterView>,
    /// Clusters that leave, by name.
    pub(crate) leaving: BTreeMap<String, Unjoin>,
    /// Why nothing may move.
    pub(crate) frozen: Option<String>,
}

/// What an agent said of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    /// Its last Hello.
    pub(crate) hello: Option<v1::Hello>,
    /// Its last heartbeat.
    pub(crate) heartbeat: Option<v1::Heartbeat>,
    /// The verdict, and the epoch that it was given.
    pub(crate) verdict: Option<(View, u64)>,
}

/// What is known of all clusters. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClusterState(Arc<Inner>);

struct Inner {
    world: World,
    snapshot: ArcSwap<Snapshot>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    members: HashMap<String, Member>,
    frozen: Option<String>,
    // Clusters that drain, hold no replicas any more and leave: their copies may go.
    emptied: BTreeSet<String>,
}

impl ClusterState {
    pub(crate) fn new(world: World) -> Self {
        Self(Arc::new(Inner { world, snapshot: ArcSwap::default(), state: Mutex::default() }))
    }

    /// The clusters now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// What is known of one member.
    pub(crate) fn member(&self, cluster: &str) -> Member {
        self.0.state.lock().members.get(cluster).cloned().unwrap_or_default()
    }

    /// Notes a Hello; says whether decisions may change for it.
    pub(crate) fn hello(&self, cluster: &str, hello: v1::Hello) -> bool {
        let changed = {
            let mut state = self.0.state.lock();
            let member = state.members.entry(cluster.to_owned()).or_default();
            let changed = member.hello.as_ref().is_none_or(|last| last.apis != hello.apis);
            member.hello = Some(hello);
            changed
        };
        if changed {
            self.rebuild();
        }
        changed
    }

    /// Notes what a member serves from now on; says whether decisions may change for it.
    pub(crate) fn serves(&self, cluster: &str, apis: Vec<String>) -> bool {
        let changed = {
            let mut state = self.0.state.lock();
            let hello = state.members.get_mut(cluster).and_then(|member| member.hello.as_mut());
            hello.is_some_and(|hello| {
                let changed = hello.apis != apis;
                hello.apis = apis;
                changed
            })
        };
        if changed {
            self.rebuild();
        }
        changed
    }

    /// Notes a heartbeat, unless its Cluster is gone.
    pub(crate) fn heartbeat(&self, cluster: &str, heartbeat: v1::Heartbeat) {
        let mut state = self.0.state.lock();
        // Under the lock: who goes is forgotten after it is gone.
        if self.0.world.cluster(cluster).is_none() {
            return;
        }
        state.members.entry(cluster.to_owned()).or_default().heartbeat = Some(heartbeat);
    }

    /// Notes verdicts and whether they are frozen.
    pub(crate) fn verdicts(&self, verdicts: Vec<(String, View, u64)>, frozen: Option<String>) {
        {
            let mut state = self.0.state.lock();
            for (cluster, view, epoch) in verdicts {
                state.members.entry(cluster).or_default().verdict = Some((view, epoch));
            }
            state.frozen = frozen;
        }
        self.rebuild();
    }

    /// Nothing may move from now on.
    pub(crate) fn freeze(&self, reason: &str) {
        self.0.state.lock().frozen = Some(reason.to_owned());
        self.rebuild();
    }

    /// A leaving cluster has no replicas any more; says whether that is new.
    pub(crate) fn emptied(&self, cluster: &str) -> bool {
        let new = self.0.state.lock().emptied.insert(cluster.to_owned());
        if new {
            self.rebuild();
        }
        new
    }

    /// Forgets a cluster.
    pub(crate) fn forget(&self, cluster: &str) {
        {
            let mut state = self.0.state.lock();
            state.members.remove(cluster);
            state.emptied.remove(cluster);
        }
        self.rebuild();
    }

    /// Makes the snapshot anew, from the Cluster objects and what is noted here.
    pub(crate) fn rebuild(&self) {
        // Whatever it is made from is read under the lock, so that an older snapshot never replaces a newer one.
        let state = self.0.state.lock();
        let clusters = self.0.world.clusters();
        let mut snapshot = Snapshot { frozen: state.frozen.clone(), ..Snapshot::default() };
        for (name, cluster) in clusters.iter() {
            let unjoin = Unjoin::of(cluster);
            if let Some(unjoin) = unjoin {
                snapshot.leaving.insert(name.clone(), unjoin);
                if unjoin != Unjoin::Drain || state.emptied.contains(name) {
                    continue;
                }
            }
            snapshot.views.push(view(cluster, state.members.get(name), unjoin));
        }
        let untaken = self.0.world.untaken_clusters().into_iter();
        snapshot.views.extend(untaken.map(|name| ClusterView {
            name,
            unread: true,
            ..ClusterView::default()
        }));
        self.0.snapshot.store(Arc::new(snapshot));
    }
}

/// When an operator said that the cluster may have its shares again. What is no time is no word.
fn failback_ms(cluster: &Cluster) -> Option<i64> {
    let said = cluster.metadata.annotations.as_ref()?.get(marks::FAILBACK)?;
    said.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

fn view(cluster: &Cluster, member: Option<&Member>, unjoin: Option<Unjoin>) -> ClusterView {
    let status = cluster.status.clone().unwrap_or_default();
    let hello = member.and_then(|member| member.hello.as_ref());
    let (verdict, since_ms, users_served) = match member.and_then(|member| member.verdict.as_ref()) {
        Some((view, _)) => (view.verdict, view.since_ms, view.users_served),
        None => (Verdict::Unknown, 0, false),
    };
    let mut spec = cluster.spec.clone();
    if unjoin == Some(Unjoin::Drain) && !spec.taints.iter().any(|taint| taint.key == marks::DRAIN_TAINT) {
        spec.taints.push(Taint {
            key: marks::DRAIN_TAINT.into(),
            value: String::new(),
            effect: TaintEffect::NoExecute,
        });
    }
    ClusterView {
        name: cluster.name().to_owned(),
        labels: cluster.metadata.labels.clone().unwrap_or_default(),
        spec,
        verdict,
        since_ms,
        users_served,
        apis: hello.map_or(status.apis, |hello| hello.apis.clone()),
        joined: hello.is_some()
            || status
                .conditions
                .iter()
                .any(|condition| condition.type_ == conditions::JOINED && condition.status == "True"),
        failback_ms: failback_ms(cluster),
        rehearsed: false,
        unread: false,
    }
}
