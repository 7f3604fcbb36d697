//! Which other servers answer, and what they serve (`remote/remote_available_controller.go`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use federation_runtime::shutdown::Shutdown;
use futures::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use super::{Aggregator, External, RemoteApi, SERVICES};
use crate::{
    cache::Collection,
    crd::status,
    deletion,
    kinds::apiregistration,
    outbound::{Server, reachable},
    store::{Encoded, Key, Meta, ResourceKey, Snapshot, Storage, Write, WriteError},
    validation::holds,
};

/// `discoveryTimeout`: a server that takes longer to tell what it serves does not serve.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often those that are well are asked again.
const EVERY: Duration = Duration::from_secs(30);
/// How soon those that are not.
const AGAIN: Duration = Duration::from_secs(1);
/// How long writes are gathered before the next look at what they changed: most concern none of it.
const GATHERING: Duration = Duration::from_millis(10);

/// What a check found out.
struct Verdict {
    available: bool,
    reason: &'static str,
    message: String,
}

/// Keeps the condition `Available` of APIServices, and what is shown of them.
pub struct AvailabilityController {
    storage: Storage,
    aggregator: Arc<Aggregator>,
}

impl AvailabilityController {
    pub(crate) fn new(storage: Storage, aggregator: Arc<Aggregator>) -> Self {
        Self { storage, aggregator }
    }

    /// Works until the shutdown: at every change of what a check depends on, and every so often.
    pub async fn run(self, shutdown: Shutdown) {
        while !shutdown.started() && self.storage.is_open() {
            let before = self.watched();
            let well = tokio::select! {
                () = shutdown.wait() => return,
                well = self.step() => well,
            };
            let external = self.aggregator.external(&self.storage.snapshot());
            let every = if well { EVERY } else { AGAIN };
            let deadline = Instant::now() + every;
            let changed = async {
                loop {
                    let revision = self.storage.snapshot().revision();
                    let now = self.watched();
                    // Where there are no other servers, only their APIServices matter.
                    let count = if external.is_empty() { 1 } else { now.len() };
                    if now.iter().zip(&before).take(count).any(|(now, before)| !now.same(before)) {
                        return;
                    }
                    if self.storage.wait_for(revision + 1, deadline).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHERING).await;
                }
            };
            tokio::select! {
                () = shutdown.wait() => {}
                () = changed => {}
            }
        }
    }

    /// The collections that a check depends on.
    fn watched(&self) -> [Collection; 4] {
        let snapshot = self.storage.snapshot();
        let core = |resource| snapshot.collection(&ResourceKey::new("", resource));
        [
            snapshot.collection(&SERVICES),
            core("services"),
            core("endpoints"),
            snapshot.collection(&ResourceKey::new("discovery.k8s.io", "endpointslices")),
        ]
    }

    /// Asks every other server once, and writes down what came of it. True if all are well.
    pub async fn step(&self) -> bool {
        let snapshot = self.storage.snapshot();
        let external = self.aggregator.external(&snapshot);
        let checks = external.iter().map(|external| self.look_at(&snapshot, external));
        let well = join_all(checks).await.into_iter().all(|available| available);
        // One that names no service any more is this server's own, and always there.
        let local: Vec<_> = snapshot
            .range(&SERVICES, None, None)
            .filter(|stored| !external.iter().any(|external| external.name == stored.key.name))
            .map(|stored| stored.key.name.clone())
            .collect();
        for name in local {
            self.write(&name, None).await;
        }
        well
    }

    /// Asks one server. True if it is well.
    async fn look_at(&self, snapshot: &Snapshot, external: &Arc<External>) -> bool {
        let (verdict, remote_api) = check(snapshot, external).await;
        let available = verdict.available;
        // What it serves is shown before it is called available, so that nobody finds less than was promised.
        let kept = || {
            let known = external.remote_api.as_deref()?;
            Some(RemoteApi {
                current: false,
                resources: known.resources.clone(),
                openapi_v2: known.openapi_v2.clone(),
                openapi_v3: known.openapi_v3.clone(),
            })
        };
        self.aggregator.learn(external, remote_api.or_else(kept));
        self.write(&external.name, Some(&verdict)).await;
        available
    }

    /// Sets the condition of an APIService, unless it says so already. Whoever writes at the same time is followed by the next check.
    async fn write(&self, name: &str, verdict: Option<&Verdict>) {
        let key = Key::new(SERVICES.clone(), "", name);
        let Some(stored) = self.storage.get(&key) else { return };
        let Ok(mut object) = stored.value() else { return };
        let before = object["status"].clone();
        match verdict {
            Some(verdict) => {
                let now = deletion::seconds(jiff::Timestamp::now());
                let (reason, message) = (verdict.reason, verdict.message.as_str());
                status::set_condition(&mut object, "Available", verdict.available, reason, message, &now);
            }
            None if object["spec"]["service"].is_object() || holds(&object, "Available") => return,
            None => object["status"] = apiregistration::local(),
        }
        if object["status"] == before {
            return;
        }
        let meta = Meta::from_value(&object, BTreeMap::new());
        let write = Write::Update { key, expect: Some(stored.revision), object: Encoded::new(&object, meta) };
        match self.storage.write(write).await {
            Ok(_) | Err(WriteError::Conflict { .. } | WriteError::NotFound) => {}
            Err(error) => tracing::warn!(%name, %error, "the state of an APIService cannot be written"),
        }
    }
}

async fn check(snapshot: &Snapshot, external: &External) -> (Verdict, Option<RemoteApi>) {
    let failed = |reason, message| (Verdict { available: false, reason, message }, None);
    let server = match &external.server {
        Ok(server) => server,
        Err(why) => return failed("FailedDiscoveryCheck", why.clone()),
    };
    if let Err((reason, message)) = reachable(snapshot, &external.spec) {
        return failed(reason, message);
    }
    let url = external.path();
    match server.get(snapshot, &url, TIMEOUT).await {
        Err(why) => {
            let whole = server.at(&url);
            failed("FailedDiscoveryCheck", format!("failing or missing response from {whole}: {why}"))
        }
        Ok(answer) if !answer.status.is_success() => {
            let (whole, code) = (server.at(&url), answer.status.as_u16());
            failed(
                "FailedDiscoveryCheck",
                format!("failing or missing response from {whole}: bad status from {whole}: {code}"),
            )
        }
        Ok(answer) => {
            let resources = serde_json::from_slice(&answer.body).unwrap_or_default();
            let remote_api = learn(snapshot, external, server, resources).await;
            let message = "all checks passed".to_owned();
            (Verdict { available: true, reason: "Passed", message }, Some(remote_api))
        }
    }
}

/// Asks for the schemas, which a server may have or not.
async fn learn(snapshot: &Snapshot, external: &External, server: &Server, resources: Value) -> RemoteApi {
    let (v2, v3) =
        tokio::join!(document(snapshot, server, "/openapi/v2"), document(snapshot, server, "/openapi/v3"),);
    let key = external.path();
    let url = v3
        .as_ref()
        .and_then(|index| index["paths"][key.trim_start_matches('/')]["serverRelativeURL"].as_str());
    RemoteApi {
        resources,
        openapi_v2: v2.unwrap_or(Value::Null),
        // Any other URL would lead past this server's own.
        openapi_v3: url.filter(|url| url.starts_with(&format!("/openapi/v3{key}"))).map(str::to_owned),
        current: true,
    }
}

/// A document of a server; none if it has none.
async fn document(snapshot: &Snapshot, server: &Server, path: &str) -> Option<Value> {
    let answer = server.get(snapshot, path, TIMEOUT).await.ok()?;
    let value: Value = serde_json::from_slice(&answer.body).ok()?;
    answer.status.is_success().then_some(value)
}
