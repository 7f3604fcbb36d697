//! The API server itself: what it is made of, and a service for each connection. The way of one request is [`request`].

mod custom_routes;
mod exposition;
mod finish;
mod flagz;
mod health;
mod large_requests;
mod malformed;
mod non_resource;
mod request;
mod request_audit;
mod statusz;
mod zpages;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use apimachinery::apply::Schema;
use bytes::Bytes;
use federation_runtime::{
    endpoints::{Health, Metrics as MetricsRegistry},
    pki::Identity,
};
use http::{Request, Response};
use jiff::Timestamp;
use kube_schema::Schemas;
use tokio_util::sync::CancellationToken;

use self::{
    finish::{Finishing, Progress},
    large_requests::LargeRequests,
    request::Connection,
};
use crate::{
    admission::{Policies, Quotas, webhook::Webhooks},
    aggregate::{Aggregator, AvailabilityController},
    allocation::{Allocator, Ranges},
    audit::Audit,
    auth::{
        User,
        authn::{Authenticator, OtherTokens},
        authz::{Authorizer, Mode},
        authz_webhook::AuthorizationWebhook,
        service_account_tokens::ServiceAccountTokens,
        tokens::Tokens,
    },
    encode::SharedFrames,
    flow::{self, Flow},
    http::{Body, BoxError},
    metrics::Metrics,
    openapi,
    registry::{Catalog, Served},
    service::KindTable,
    store::Storage,
    verbs::EndpointScope,
};

/// What a server is made of.
pub struct Parts {
    /// Where objects are.
    pub storage: Storage,
    /// Static bearer tokens.
    pub tokens: Tokens,
    /// Tokens of service accounts; none where there shall be none.
    pub accounts: Option<Arc<ServiceAccountTokens>>,
    /// What is recorded of requests; nothing without.
    pub audit: Option<Arc<Audit>>,
    /// Who may do what: the modes, in order.
    pub authorization: Vec<Mode>,
    /// Where Services' addresses and ports come from.
    pub ranges: Ranges,
    /// What `/readyz` says.
    pub health: Health,
    /// What `/metrics` says.
    pub metrics: MetricsRegistry,
    /// Ends watches, so that connections can close.
    pub draining: CancellationToken,
    /// Where Endpoints may lead.
    pub endpoint_scope: EndpointScope,
    /// Who else has a say.
    pub others: RemoteServers,
    /// What `/flagz` shows: the flags of the process, by name.
    pub flags: BTreeMap<String, String>,
}

/// Other servers, and what this one shows them.
#[derive(Default)]
pub struct RemoteServers {
    /// What this server shows to those that serve group versions behind it.
    pub front_proxy: Option<Identity>,
    /// Those who know tokens.
    pub tokens: OtherTokens,
    /// Those who decide, one for each mode that is a webhook.
    pub authorization_webhooks: Vec<AuthorizationWebhook>,
}

/// What all requests share.
pub(crate) struct Shared {
    /// When the server was put together.
    started: Timestamp,
    flags: BTreeMap<String, String>,
    pub(crate) storage: Storage,
    pub(crate) draining: CancellationToken,
    pub(crate) metrics: Metrics,
    pub(crate) allocator: Allocator,
    pub(crate) endpoint_scope: EndpointScope,
    authenticator: Authenticator,
    authorizer: Authorizer,
    health: Health,
    registry: MetricsRegistry,
    flow: Flow,
    large_requests: LargeRequests,
    pub(crate) frames: SharedFrames,
    /// Held by whoever accepts names of definitions, from the look at the names of others to the write.
    pub(crate) naming: tokio::sync::Mutex<()>,
    quotas: Quotas,
    audit: Option<Arc<Audit>>,
    schemas: OnceLock<Schemas>,
    apply_types: OnceLock<Schema>,
    /// Held while an OpenAPI document is made.
    describing: Arc<tokio::sync::Mutex<()>>,
    catalog: Arc<Catalog>,
    aggregator: Arc<Aggregator>,
    policies: Policies,
    webhooks: Webhooks,
}

impl Shared {
    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    pub(crate) fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// The definitions of the table's kinds. They are inflated at first use: that takes longer than all the rest of a start.
    pub(crate) fn schemas(&self) -> &Schemas {
        self.schemas.get_or_init(openapi::schemas)
    }

    /// The same as types for server-side apply.
    pub(crate) fn apply_types(&self) -> &Schema {
        self.apply_types.get_or_init(|| self.schemas().apply_schema())
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    pub(crate) fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// The kinds that are served now.
    pub(crate) fn served(&self) -> Arc<Served> {
        self.catalog.served()
    }
}

/// The API server. Clones share it.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

impl ApiServer {
    /// Puts a server together.
    pub fn new(parts: Parts) -> Self {
        let metrics = Metrics::new(&parts.metrics, parts.storage.clone());
        let flow = Flow::new(flow::SEATS, flow::REQUEST_WAIT_LIMIT, &parts.metrics);
        let flow = flow.register_metrics(&parts.metrics, parts.storage.clone());
        let aggregator = Arc::new(Aggregator::new(parts.others.front_proxy));
        let shared = Shared {
            started: Timestamp::now(),
            flags: parts.flags,
            allocator: Allocator::new(parts.ranges),
            endpoint_scope: parts.endpoint_scope,
            authenticator: Authenticator::new(parts.tokens, parts.accounts, parts.others.tokens),
            authorizer: Authorizer::new(
                parts.authorization,
                parts.others.authorization_webhooks,
                parts.storage.clone(),
            ),
            catalog: Arc::new(Catalog::new(parts.storage.clone(), Arc::clone(&aggregator))),
            aggregator,
            policies: Policies::default(),
            webhooks: Webhooks::default(),
            storage: parts.storage,
            draining: parts.draining,
            metrics,
            health: parts.health,
            flow,
            large_requests: LargeRequests::new(),
            frames: SharedFrames::new(),
            naming: tokio::sync::Mutex::default(),
            quotas: Quotas::default(),
            registry: parts.metrics,
            audit: parts.audit,
            schemas: OnceLock::new(),
            apply_types: OnceLock::new(),
            describing: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes what the first write needs, on a thread of its own. The OpenAPI documents are left to who asks for them: to make them takes
    /// megabytes for a moment, and a server that nobody reads them of has no use for that.
    pub fn warm_up(&self) {
        let shared = Arc::clone(&self.shared);
        let _detached = tokio::task::spawn_blocking(move || {
            shared.apply_types();
            // What else the start has needed of the program is not needed again for long.
            federation_runtime::pages::give_back();
        });
    }

    /// A service for callers in this process, who are administrators: `kube::Client::new(server.service(), "default")`.
    pub fn service(&self) -> Handler {
        self.service_as(Some(User::in_process()))
    }

    /// A service for one connection, whose peer TLS has told; nobody if it has not.
    pub fn service_as(&self, user: Option<User>) -> Handler {
        Handler { shared: Arc::clone(&self.shared), user: user.map(Arc::new), peer: None }
    }

    /// The kinds that are served, as housekeeping asks for them.
    pub fn kind_table(&self) -> KindTable {
        KindTable::new(Arc::clone(&self.shared))
    }

    /// What finds out which other servers can be asked.
    pub fn availability_controller(&self) -> AvailabilityController {
        AvailabilityController::new(self.shared.storage.clone(), Arc::clone(&self.shared.aggregator))
    }

    /// The store below.
    pub fn storage(&self) -> &Storage {
        &self.shared.storage
    }
}

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub struct Handler {
    shared: Arc<Shared>,
    user: Option<Arc<User>>,
    peer: Option<IpAddr>,
}

impl Handler {
    /// The same for a peer at an address, which the audit log tells.
    pub fn from_peer(self, peer: IpAddr) -> Self {
        Self { peer: Some(peer), ..self }
    }
}

impl<B> tower::Service<Request<B>> for Handler
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Finishing;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let connection = Connection { user: self.user.clone(), peer: self.peer };
        let progress = Arc::<Progress>::default();
        Finishing::new(Box::pin(request::serve(shared, connection, request, Arc::clone(&progress))), progress)
    }
}
