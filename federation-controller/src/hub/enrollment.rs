//! Joining: exchanges a one-time token for a client certificate.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::{Request, Response, Status};

use federation_core::api::{Cluster, ClusterSpec};
use federation_runtime::errors::Chain;
use federation_runtime::pki::{self, Authority, LIFE_OF_AGENTS, Subject};
use proto::v1;

use super::identity;
use crate::observe::World;
use crate::tokens::{self, Checked};

/// Joins in work at once. Anybody may call Join, and each call costs a read of the API and a signature.
const JOINS: usize = 8;
/// Labels that an operator may give when joining.
const LABELS: usize = 64;
/// Finalizer on a Cluster: leaving is done in the order that was asked for.
pub const CLUSTER_FINALIZER: &str = "federation.rs/cluster";

/// The service.
#[derive(Clone)]
pub(crate) struct Enrollment {
    client: Client,
    authority: Arc<Authority>,
    world: World,
    joins: Arc<Semaphore>,
}

impl Enrollment {
    pub(crate) fn new(client: Client, authority: Arc<Authority>, world: World) -> Self {
        Self { client, authority, world, joins: Arc::new(Semaphore::new(JOINS)) }
    }

    /// The last steps of a join, which are done to their end whether or not the caller waits: the token is used up (of two callers, one
    /// wins), the Cluster made, and the certificate signed for it. Tells `heard` that; if nobody hears it, nothing of the join remains.
    async fn finish(
        self,
        token: Checked,
        request: v1::JoinRequest,
        heard: oneshot::Sender<Result<String, Status>>,
        _one_of_few: OwnedSemaphorePermit,
    ) {
        if let Err(error) = token.consume(&self.client).await {
            // An error here and below means that the caller has gone.
            let _ = heard.send(Err(refuse_token(error)));
            return;
        }
        let created = match self.create(&request).await {
            Ok(created) => created,
            Err(status) => {
                token.put_back(&self.client).await;
                let _ = heard.send(Err(status));
                return;
            }
        };
        // The agent may dial before the watch tells of its Cluster.
        self.world.put_cluster(created.clone());
        let uid = created.metadata.uid.clone().unwrap_or_default();
        match self.sign(&request.csr_pem, &Subject::agent(&request.cluster, &uid)) {
            Ok(certificate_pem) => {
                if heard.send(Ok(certificate_pem)).is_ok() {
                    tracing::info!(cluster = request.cluster, "joined");
                    return;
                }
                tracing::warn!(
                    cluster = request.cluster,
                    "who asked to join went away before it was answered"
                );
            }
            Err(status) => {
                let _ = heard.send(Err(status));
            }
        }
        match self.undo(&created).await {
            Ok(()) => token.put_back(&self.client).await,
            Err(error) => tracing::warn!(
                error = %Chain(&error), cluster = request.cluster,
                "the Cluster of a join that nobody waited for could not be removed: `fedctl unjoin` removes it"
            ),
        }
    }

    fn sign(&self, csr_pem: &str, subject: &Subject) -> Result<String, Status> {
        self.authority.sign_request(csr_pem, subject, LIFE_OF_AGENTS).map_err(|error| refuse_request(&error))
    }

    /// Takes back a Cluster that nobody knows that it was made.
    async fn undo(&self, created: &Cluster) -> Result<(), kube::Error> {
        let clusters: Api<Cluster> = Api::all(self.client.clone());
        let uid = created.metadata.uid.clone();
        let patch = serde_json::json!({"metadata": {"uid": uid, "finalizers": null}});
        clusters.patch(created.name(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        let only_this = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        clusters.delete(created.name(), &only_this).await.map(drop)
    }

    /// Makes the Cluster object; of two joins with one name, one wins.
    async fn create(&self, request: &v1::JoinRequest) -> Result<Cluster, Status> {
        let profile = request.profile.clone().unwrap_or_default();
        let mut cluster = Cluster::new(
            &request.cluster,
            ClusterSpec {
                region: profile.region,
                zone: profile.zone,
                provider: profile.provider,
                ..ClusterSpec::default()
            },
        );
        cluster.metadata.labels = Some(profile.labels.into_iter().collect());
        cluster.metadata.finalizers = Some(vec![CLUSTER_FINALIZER.into()]);
        let clusters: Api<Cluster> = Api::all(self.client.clone());
        match clusters.create(&PostParams::default(), &cluster).await {
            Ok(created) => Ok(created),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(taken(&request.cluster)),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                Err(Status::invalid_argument(status.message.clone()))
            }
            Err(error) => Err(unavailable("create the Cluster", &error)),
        }
    }
}

#[tonic::async_trait]
impl v1::enrollment_server::Enrollment for Enrollment {
    /// Nothing of a join that fails remains, see [`Enrollment::finish`].
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        validate(&request)?;
        Authority::check_request(&request.csr_pem).map_err(|error| refuse_request(&error))?;
        let joins = self.joins.clone();
        let one_of_few = joins
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many joins at once: try again in a second"))?;
        let token = tokens::check(&self.client, &request.token, &request.cluster, Timestamp::now())
            .await
            .map_err(refuse_token)?;
        let clusters: Api<Cluster> = Api::all(self.client.clone());
        match clusters.get_opt(&request.cluster).await {
            Ok(None) => {}
            Ok(Some(_)) => return Err(taken(&request.cluster)),
            Err(error) => return Err(unavailable("look for the Cluster", &error)),
        }
        let (heard, answer) = oneshot::channel();
        tokio::spawn(self.clone().finish(token, request, heard, one_of_few));
        let certificate_pem =
            answer.await.map_err(|_| Status::unavailable("the hub is ending: try again"))??;
        Ok(Response::new(v1::JoinResponse {
            certificate_pem,
            ca_pem: self.authority.certificate_pem.clone(),
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let peer = identity::peer(&request)?;
        let request = request.into_inner();
        let subject = match peer.agent() {
            Some(cluster) => Subject::agent(cluster, &self.world.member(&identity::agent(&peer)?)?),
            // With the same name: who renews gains no vote.
            None => identity::dns(&peer)?,
        };
        let certificate_pem = self.sign(&request.csr_pem, &subject)?;
        Ok(Response::new(v1::RenewResponse {
            certificate_pem,
            ca_pem: self.authority.certificate_pem.clone(),
        }))
    }
}

/// Removes a Cluster from the API for good: takes our finalizer off.
pub(crate) async fn drop_cluster_finalizer(client: &Client, cluster: &Cluster) -> Result<(), kube::Error> {
    let clusters: Api<Cluster> = Api::all(client.clone());
    let mut cluster = cluster.clone();
    if let Some(finalizers) = &mut cluster.metadata.finalizers {
        finalizers.retain(|finalizer| finalizer != CLUSTER_FINALIZER);
    }
    let patch = serde_json::json!({"metadata": {
        "resourceVersion": cluster.metadata.resource_version,
        "finalizers": cluster.metadata.finalizers,
    }});
    let name = cluster.name().to_owned();
    match clusters.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

fn validate(request: &v1::JoinRequest) -> Result<(), Status> {
    if !is_dns_label(&request.cluster) {
        return Err(Status::invalid_argument(format!(
            "cluster: {:?} must be a DNS label (RFC 1123): a-z, 0-9 and '-', at most 63 characters, no '-' at either end",
            request.cluster
        )));
    }
    let Some(profile) = &request.profile else { return Ok(()) };
    for (field, value) in
        [("region", &profile.region), ("zone", &profile.zone), ("provider", &profile.provider)]
    {
        if !value.is_empty() && !is_dns_label(value) {
            return Err(Status::invalid_argument(format!(
                "{field}: {value:?} must be a DNS label (RFC 1123), because it is part of DNS names"
            )));
        }
    }
    if profile.labels.len() > LABELS {
        return Err(Status::invalid_argument(format!("labels: at most {LABELS}")));
    }
    Ok(())
}

fn is_dns_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn refuse_token(error: tokens::Error) -> Status {
    match error {
        tokens::Error::Api(..) => unavailable("check the token", &error),
        _ => Status::unauthenticated(error.to_string()),
    }
}

fn refuse_request(error: &pki::Error) -> Status {
    Status::invalid_argument(format!("csr_pem: {}", Chain(error)))
}

fn taken(cluster: &str) -> Status {
    Status::already_exists(format!(
        "cluster: the name {cluster:?} is taken: choose another, or let the old cluster leave with `fedctl unjoin {cluster}`"
    ))
}

fn unavailable(step: &str, error: &dyn std::error::Error) -> Status {
    tracing::warn!(error = %Chain(error), step, "a join failed");
    Status::unavailable(format!("the federation's API did not answer ({step}): try again"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use tokio::sync::watch;
    use v1::enrollment_server::Enrollment as _;

    use super::*;
    use crate::testing;

    /// An API with the Secrets and Clusters in it, that answers one sort of request only when it is told to.
    #[derive(Clone)]
    struct Fake {
        objects: Arc<Mutex<BTreeMap<String, Value>>>,
        asked: Arc<Mutex<Vec<String>>>,
        slow: &'static str,
        released: watch::Sender<bool>,
    }

    impl Fake {
        fn new(slow: &'static str) -> Self {
            Self { objects: Arc::default(), asked: Arc::default(), slow, released: watch::Sender::new(false) }
        }

        fn client(&self) -> Client {
            let this = self.clone();
            let answer = move |request: http::Request<Body>| {
                let this = this.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect_bytes().await?;
                    let (code, answer) = this.answer(head.method.as_str(), head.uri.path(), &body).await;
                    let body = Body::from(answer.to_string().into_bytes());
                    http::Response::builder().status(code).body(body).map_err(kube::Error::HttpError)
                }
            };
            Client::new(tower::service_fn(answer), "default")
        }

        async fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
            let (_, plural) = path.rsplit_once('/').unwrap();
            let collection = if method == "POST" { plural } else { path.rsplit('/').nth(1).unwrap() };
            let asked = format!("{method} {collection}");
            let slow = asked == self.slow;
            self.asked.lock().push(asked);
            if slow {
                self.released.subscribe().wait_for(|released| *released).await.unwrap();
            }
            let sent: Value = serde_json::from_slice(body).unwrap_or_default();
            let mut objects = self.objects.lock();
            let found = |object: Option<Value>| match object {
                Some(object) => (200, object),
                None => (404, status(404, "NotFound")),
            };
            match method {
                "POST" => {
                    let key = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
                    if objects.contains_key(&key) {
                        return (409, status(409, "AlreadyExists"));
                    }
                    let mut sent = sent;
                    sent["metadata"]["uid"] = "u".into();
                    objects.insert(key, sent.clone());
                    (201, sent)
                }
                "DELETE" => found(objects.remove(path)),
                _ => found(objects.get(path).cloned()),
            }
        }

        fn has(&self, collection: &str) -> bool {
            self.objects.lock().keys().any(|path| path.contains(collection))
        }

        async fn until(&self, condition: impl Fn(&Self) -> bool) {
            testing::until(|| condition(self)).await;
        }
    }

    fn status(code: u16, reason: &str) -> Value {
        json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason})
    }

    async fn join(enrollment: Enrollment, token: String) -> Result<(), Status> {
        let csr_pem = pki::Request::generate().unwrap().csr_pem;
        let request = v1::JoinRequest { token, cluster: "taiwan".into(), csr_pem, ..Default::default() };
        enrollment.join(Request::new(request)).await.map(drop)
    }

    #[tokio::test]
    async fn who_goes_away_while_joining_may_join_again_with_the_same_token() {
        let pki = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::load_or_create(pki.path()).unwrap());
        for slow in ["DELETE secrets", "POST clusters"] {
            let fake = Fake::new(slow);
            let enrollment = Enrollment::new(fake.client(), authority.clone(), World::default());
            let token = tokens::create_token(&fake.client(), &tokens::Request::default()).await.unwrap();
            let joining = tokio::spawn(join(enrollment.clone(), token.clone()));
            fake.until(|fake| fake.asked.lock().iter().any(|asked| asked == slow)).await;
            joining.abort();
            assert!(joining.await.unwrap_err().is_cancelled());
            fake.released.send_replace(true);
            let undone = |fake: &Fake| fake.asked.lock().iter().any(|asked| asked == "DELETE clusters");
            fake.until(|fake| undone(fake) && fake.has("secrets") && !fake.has("clusters")).await;
            join(enrollment, token).await.unwrap();
            assert!(fake.has("clusters") && !fake.has("secrets"), "{slow}: the second join succeeds");
        }
    }

    #[test]
    fn a_refused_field_is_named() {
        let good = v1::JoinRequest { cluster: "taiwan".into(), ..Default::default() };
        assert!(validate(&good).is_ok());
        for (request, field) in [
            (v1::JoinRequest { cluster: "Taiwan".into(), ..Default::default() }, "cluster"),
            (v1::JoinRequest { cluster: String::new(), ..Default::default() }, "cluster"),
            (v1::JoinRequest { cluster: "-a".into(), ..Default::default() }, "cluster"),
            (
                v1::JoinRequest {
                    cluster: "taiwan".into(),
                    profile: Some(v1::ClusterProfile { zone: "a.b".into(), ..Default::default() }),
                    ..Default::default()
                },
                "zone",
            ),
        ] {
            let refused = validate(&request).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert!(refused.message().starts_with(field), "{}", refused.message());
        }
    }
}
