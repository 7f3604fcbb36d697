//! How a cluster becomes a member: a one-time token against a certificate.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use federation_core::api::{Cluster, ClusterSpec};
use federation_runtime::pki::{Authority, LIFE_OF_AGENTS, Subject};
use proto::v1;

use super::identity;
use crate::observe::World;
use crate::observe::watch::Chain;
use crate::tokens;

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
    /// Nothing of a join that fails remains: the token is used up first (of two callers, one wins), and put back when the
    /// Cluster cannot be made.
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        validate(&request)?;
        let _one_of_few = self
            .joins
            .try_acquire()
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
        let certificate_pem = self
            .authority
            .sign_request(&request.csr_pem, &Subject::agent(&request.cluster), LIFE_OF_AGENTS)
            .map_err(|error| Status::invalid_argument(format!("csr_pem: {}", Chain(&error))))?;
        token.consume(&self.client).await.map_err(refuse_token)?;
        let created = match self.create(&request).await {
            Ok(created) => created,
            Err(status) => {
                token.put_back(&self.client).await;
                return Err(status);
            }
        };
        // The agent may dial before the watch tells of its Cluster.
        self.world.put_cluster(created);
        tracing::info!(cluster = request.cluster, "joined");
        Ok(Response::new(v1::JoinResponse {
            certificate_pem,
            ca_pem: self.authority.certificate_pem.clone(),
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let peer = identity::peer(&request)?;
        let request = request.into_inner();
        let subject = match peer.agent() {
            Some(cluster) => {
                self.world.check_member(cluster)?;
                Subject::agent(cluster)
            }
            None => {
                identity::dns(&peer)?;
                Subject::dns()
            }
        };
        let certificate_pem = self
            .authority
            .sign_request(&request.csr_pem, &subject, LIFE_OF_AGENTS)
            .map_err(|error| Status::invalid_argument(format!("csr_pem: {}", Chain(&error))))?;
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
    match clusters.patch(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await {
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
    use super::*;

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
