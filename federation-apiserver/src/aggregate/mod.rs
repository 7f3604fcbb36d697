//! Group versions that other servers serve, behind this one's URL: APIServices that name a Service.
//!
//! Follows `kube-aggregator`. A request is authenticated and authorized here; the other server gets it with the user's name in headers,
//! believes them because the connection has the front proxy's certificate, and finds out which certificate that is in the ConfigMap
//! `kube-system/extension-apiserver-authentication`. What it serves is merged into discovery and OpenAPI.
//!
//! - [`proxy`] hands requests on, watches and upgraded connections too;
//! - [`availability`] finds out which servers answer, and learns what they serve;
//! - [`discovery`] puts what was learnt into discovery.
//!
//! Group versions of this server itself cannot be taken over.

mod availability;
mod discovery;
mod proxy;

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use federation_runtime::pki::Identity;
use parking_lot::Mutex;
use serde_json::Value;

pub use availability::AvailabilityController;
pub(crate) use discovery::{discovered, extensions};
pub(crate) use proxy::{Forwarded, forward, request_body};

use crate::{
    cache::{Checked, Collection},
    outbound::{self, Credentials, Destination, Server, Trust},
    registry::Registry,
    store::{ResourceKey, Snapshot},
};

pub(crate) static SERVICES: LazyLock<ResourceKey> =
    LazyLock::new(|| ResourceKey::new("apiregistration.k8s.io", "apiservices"));

/// The other servers.
pub(crate) struct Aggregator {
    /// What this server shows of itself.
    identity: Option<Identity>,
    state: ArcSwap<State>,
    building: Mutex<()>,
}

#[derive(Default)]
struct State {
    stored: Collection,
    checked: Checked,
    external: Arc<Vec<Arc<External>>>,
}

/// The data of the ConfigMap that tells other servers whom to believe: whose certificates are users', and whose are this server's when
/// it speaks for one.
pub(crate) fn authentication(clients_ca_pem: &str, front_ca_pem: &str) -> Value {
    serde_json::json!({
        "client-ca-file": clients_ca_pem,
        "requestheader-allowed-names": "[\"front-proxy-client\"]",
        "requestheader-client-ca-file": front_ca_pem,
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
        "requestheader-username-headers": "[\"X-Remote-User\"]",
    })
}

/// One group version of another server.
pub(crate) struct External {
    /// `v1alpha1.wardle.example.com`
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    priority: (i64, i64),
    /// As it is stored: whoever changes it makes another of it.
    spec: Value,
    pub(crate) server: Result<Arc<Server>, String>,
    /// What it serves; nothing before it has answered for the first time.
    pub(crate) remote_api: Option<Arc<RemoteApi>>,
}

/// What a server has said of a group version.
#[derive(Debug, PartialEq)]
pub(crate) struct RemoteApi {
    /// Its APIResourceList.
    pub(crate) resources: Value,
    /// Its OpenAPI document of version 2; null if it has none.
    pub(crate) openapi_v2: Value,
    /// Path and query of that of version 3.
    pub(crate) openapi_v3: Option<String>,
    /// It has answered last time, too.
    pub(crate) current: bool,
}

impl Aggregator {
    /// Nobody yet. `identity` is the front proxy's.
    pub(crate) fn new(identity: Option<Identity>) -> Self {
        Self { identity, state: ArcSwap::default(), building: Mutex::default() }
    }

    /// The group versions of other servers. The same pointer as long as nothing has changed that is shown of them.
    pub(crate) fn external(&self, snapshot: &Snapshot) -> Arc<Vec<Arc<External>>> {
        let state = self.state.load();
        if state.checked.holds(snapshot, || snapshot.collection(&SERVICES).same(&state.stored)) {
            return Arc::clone(&state.external);
        }
        let stored = snapshot.collection(&SERVICES);
        let _building = self.building.lock();
        let state = self.state.load();
        let next = self.read(&stored, &state.external);
        let same = next.len() == state.external.len()
            && next.iter().zip(&*state.external).all(|(one, other)| Arc::ptr_eq(one, other));
        let external = if same { Arc::clone(&state.external) } else { Arc::new(next) };
        let checked = Checked::at(snapshot);
        self.state.store(Arc::new(State { stored, checked, external: Arc::clone(&external) }));
        external
    }

    fn read(&self, stored: &Collection, known: &[Arc<External>]) -> Vec<Arc<External>> {
        let objects = stored.iter().filter_map(|stored| Some((&stored.key.name, stored.value().ok()?)));
        let mut found: Vec<_> = objects
            .filter(|(_, object)| object["spec"]["service"].is_object())
            .filter_map(|(name, mut object)| {
                let spec = object["spec"].take();
                match known.iter().find(|known| known.name == *name && known.spec == spec) {
                    Some(known) => Some(Arc::clone(known)),
                    None => External::read(name, spec, self.identity.clone()).map(Arc::new),
                }
            })
            .collect();
        found.sort_by(|one, other| {
            let order =
                |external: &External| (-external.priority.0, external.group.clone(), -external.priority.1);
            order(one).cmp(&order(other))
        });
        found
    }

    /// Who serves a path, if it is another server.
    pub(crate) fn find(&self, snapshot: &Snapshot, path: &str) -> Option<Arc<External>> {
        let external = self.external(snapshot);
        if external.is_empty() {
            return None;
        }
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut steps = path.strip_prefix("/apis/")?.splitn(3, '/');
        let (group, version) = (steps.next()?, steps.next()?);
        external.iter().find(|external| external.group == group && external.version == version).cloned()
    }

    /// Takes what was learnt about a group version, if it is another than before.
    fn learn(&self, about: &Arc<External>, remote_api: Option<RemoteApi>) {
        let _building = self.building.lock();
        let state = self.state.load();
        if about.remote_api.as_deref() == remote_api.as_ref() {
            return;
        }
        let mut external = Vec::clone(&state.external);
        let Some(place) = external.iter_mut().find(|external| Arc::ptr_eq(external, about)) else { return };
        *place = Arc::new(External {
            name: about.name.clone(),
            group: about.group.clone(),
            version: about.version.clone(),
            spec: about.spec.clone(),
            server: about.server.clone(),
            remote_api: remote_api.map(Arc::new),
            ..**about
        });
        let (stored, checked) = (state.stored.clone(), Checked::default());
        self.state.store(Arc::new(State { stored, checked, external: Arc::new(external) }));
    }
}

impl External {
    fn read(name: &str, spec: Value, identity: Option<Identity>) -> Option<Self> {
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        let (group, version) = (text("group"), text("version"));
        // What is built in cannot be taken over.
        if group.is_empty() || Registry::get().group_versions().contains(&(group.as_str(), version.as_str()))
        {
            return None;
        }
        let number = |field: &str| spec[field].as_i64().unwrap_or_default();
        let server = server(&spec, identity).map(Arc::new);
        Some(Self {
            name: name.to_owned(),
            priority: (number("groupPriorityMinimum"), number("versionPriority")),
            group,
            version,
            server,
            spec,
            remote_api: None,
        })
    }

    /// The path of all that it serves.
    pub(crate) fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }
}

fn server(spec: &Value, identity: Option<Identity>) -> Result<Server, String> {
    let bundle = outbound::bundle(spec)?;
    let trust = if spec["insecureSkipTLSVerify"] == true {
        Trust::Anybody
    } else {
        Trust::Authority(bundle.as_deref())
    };
    Server::new(Destination::read(spec)?, trust, &Credentials { identity, token: None })
}
