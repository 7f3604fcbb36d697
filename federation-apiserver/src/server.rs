//! The API server itself: one service for one request, wherever it comes from.
//!
//! `authn → authz → decode → verb → encode`, with metrics, limits and a last net for panics around it.

mod audited;
mod exposition;
mod finish;
mod fixed;
mod health;
mod malformed;

use std::{
    convert::Infallible,
    net::IpAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use apimachinery::{ApiError, apply::Schema};
use bytes::Bytes;
use federation_runtime::{
    endpoints::{Health, Metrics as MetricsRegistry},
    pki::Identity,
};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request};
use jiff::{SignedDuration, Timestamp};
use kube_schema::Schemas;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::finish::{Finishing, Progress};
use crate::{
    admission::{Policies, Quotas, webhook::Webhooks},
    aggregate::{self, Aggregator, Checker},
    allocation::{Allocator, Ranges},
    audit::{self, Audit, Stage},
    auth::{
        MASTERS, User,
        access_webhook::AccessWebhook,
        accounts::Accounts,
        authn::{Authenticator, OtherTokens},
        authz::{self, Authorizer, Mode},
        impersonation,
        tokens::Tokens,
    },
    flow::{self, Class, Flow},
    http::{
        Body, BoxError, body,
        info::{self, ResourcePath, Target},
        negotiate::{self, Format, Include, Offered, View},
        query::Query,
        respond,
    },
    metrics::{Labels, Metrics},
    openapi,
    registry::{Catalog, Kind, Served},
    service::KindTable,
    store::Storage,
    verbs::{self, Call, Leading},
};

const AUDIT_ID: &str = "audit-id";

/// `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What a server is made of.
pub struct Parts {
    /// Where objects are.
    pub storage: Storage,
    /// Static bearer tokens.
    pub tokens: Tokens,
    /// Tokens of service accounts; none where there shall be none.
    pub accounts: Option<Arc<Accounts>>,
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
    pub leading: Leading,
    /// Who else has a say.
    pub others: Others,
}

/// Other servers, and what this one shows them.
#[derive(Default)]
pub struct Others {
    /// What this server shows to those that serve group versions behind it.
    pub front_proxy: Option<Identity>,
    /// Those who know tokens.
    pub tokens: OtherTokens,
    /// Those who decide, one for each mode that is a webhook.
    pub access: Vec<AccessWebhook>,
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) storage: Storage,
    pub(crate) draining: CancellationToken,
    pub(crate) metrics: Metrics,
    pub(crate) allocator: Allocator,
    pub(crate) leading: Leading,
    authenticator: Authenticator,
    authorizer: Authorizer,
    health: Health,
    registry: MetricsRegistry,
    flow: Flow,
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
        let aggregator = Arc::new(Aggregator::new(parts.others.front_proxy));
        let shared = Shared {
            allocator: Allocator::new(parts.ranges),
            leading: parts.leading,
            authenticator: Authenticator::new(parts.tokens, parts.accounts, parts.others.tokens),
            authorizer: Authorizer::new(parts.authorization, parts.others.access, parts.storage.clone()),
            catalog: Arc::new(Catalog::new(parts.storage.clone(), Arc::clone(&aggregator))),
            aggregator,
            policies: Policies::default(),
            webhooks: Webhooks::default(),
            storage: parts.storage,
            draining: parts.draining,
            metrics,
            health: parts.health,
            flow: Flow::new(flow::SEATS, flow::PATIENCE, &parts.metrics),
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
    pub fn checker(&self) -> Checker {
        Checker::new(self.shared.storage.clone(), Arc::clone(&self.shared.aggregator))
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
        Finishing::new(Box::pin(serve(shared, connection, request, Arc::clone(&progress))), progress)
    }
}

/// What is known of the peer.
struct Connection {
    user: Option<Arc<User>>,
    peer: Option<IpAddr>,
}

/// One request, as all steps see it.
struct Asked {
    head: request::Parts,
    target: Target,
    query: Query,
    verb: &'static str,
    received: Timestamp,
    /// `Audit-Id`.
    id: String,
    /// What kind of traffic it is.
    class: Option<Class>,
    /// Authorization said no.
    forbidden: bool,
    /// Nobody could say yes or no.
    undecided: bool,
    /// Warnings of a request that failed.
    told: Arc<Mutex<Vec<String>>>,
    /// How far it has come.
    progress: Arc<Progress>,
}

async fn serve<B>(
    shared: Arc<Shared>,
    connection: Connection,
    request: Request<B>,
    progress: Arc<Progress>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let started = Instant::now();
    let (head, body) = request.into_parts();
    if let Some(refused) = malformed::refused(&head, connection.peer.is_some()) {
        return refused;
    }
    let target = Target::parse(head.uri.path());
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let verb = match &target {
        Target::Resource(path) => info::verb(&head.method, path, &query),
        Target::Path(_) => info::path_verb(&head.method),
    };
    let error_format = error_format(&head, &query);
    let content_type = if verb == "patch" { negotiate::content_type(&head.headers) } else { None };
    let is_dry = query.get("dryRun").is_some();
    let labels = Labels::of(&shared.served(), &target, verb, content_type.as_deref(), is_dry);
    let at_work = (verb != "watch").then(|| shared.metrics.begun(&head.method));
    let mut asked = Asked {
        id: audited::audit_id(&head),
        head,
        target,
        query,
        verb,
        received: Timestamp::now(),
        class: None,
        forbidden: false,
        undecided: false,
        told: Arc::default(),
        progress,
    };
    let outcome = match deadline(&asked) {
        // Headers of a watch come at once and its body may last: the limit holds for the head of the answer.
        Ok(deadline) => {
            // Pinned where it is made, since it is large and what waits for it would move it about.
            let work = pin!(answer(Arc::clone(&shared), connection, &mut asked, body));
            tokio::time::timeout(deadline, AssertUnwindSafe(work).catch_unwind()).await
        }
        Err(error) => Ok(Ok(Err(error))),
    };
    let panicked = matches!(outcome, Ok(Err(_)));
    let result = match outcome {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ApiError::internal("this request caused a panic; see the server's log")),
        Err(_) => Err(ApiError::timeout("request did not complete within the allotted timeout", 0)),
    };
    let record = asked.progress.record.get();
    if let (Some(record), Err(error)) = (record, &result)
        && error.code != 401
    {
        record.ended(error.code, Some(error));
    }
    let refused = result.is_err();
    let mut response = result.unwrap_or_else(|error| {
        tracing::debug!(code = error.code, %error, verb, "refused");
        if asked.undecided {
            return undecided(&asked.head, &error);
        }
        respond::error(error_format, &error)
    });
    if let Some(record) = record {
        response = audited::recorded(record, response, verb, refused, panicked).await;
    }
    if let Some(class) = &asked.class {
        class.tell(response.headers_mut());
    }
    if asked.forbidden {
        let nosniff = HeaderValue::from_static("nosniff");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    }
    if refused {
        respond::warn(response.headers_mut(), asked.told.lock().iter());
    }
    if asked.head.method == Method::HEAD {
        // What a HEAD is answered with has no body, and HTTP/2 clients drop a stream that has one.
        response = response.map(|_| body::empty());
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&asked.id) {
        headers.insert(HeaderName::from_static(AUDIT_ID), id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-cache, private"));
    drop(at_work);
    shared.metrics.answered(labels, response.status().as_u16(), started.elapsed());
    response
}

/// How long the request may take: as it asks itself with `timeout`, but no longer than the server allows.
fn deadline(asked: &Asked) -> Result<Duration, ApiError> {
    match asked.query.get("timeout") {
        Some(text) if asked.verb != "watch" => {
            let wanted: SignedDuration = text.parse().map_err(|_| {
                ApiError::bad_request(format!(
                    "invalid timeout specified in the request URL: time: invalid duration {text:?}"
                ))
            })?;
            let wanted = Duration::try_from(wanted).unwrap_or_default();
            Ok(if wanted.is_zero() { REQUEST_TIMEOUT } else { wanted.min(REQUEST_TIMEOUT) })
        }
        _ => Ok(REQUEST_TIMEOUT),
    }
}

/// kube-apiserver's `responsewriters.InternalError`: no Status, since nobody has said that this client may have one.
fn undecided(head: &request::Parts, error: &ApiError) -> Response<Body> {
    let asked = head.uri.path_and_query().map_or("/", |asked| asked.as_str());
    let text = authz::clean(&format!("Internal Server Error: {asked:?}: {}\n", error.message));
    respond::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Whether what is posted is answered and not kept: a review, a token, a binding. No such resource has a Table.
fn is_question(kind: &Kind, path: &ResourcePath) -> bool {
    kind.verbs == ["create"] || matches!(path.subresource.as_deref(), Some("token" | "binding" | "eviction"))
}

/// Errors come in protobuf to those who ask for it, else in JSON, and never as 406.
fn error_format(head: &request::Parts, query: &Query) -> Format {
    let format = negotiate::choose(&head.headers, query.get("pretty"), Offered::ALL).unwrap_or(Format::JSON);
    Format { view: View::Object, ..format }
}

/// Tells who asks, whom he acts as, and whether he may; and begins the record of it.
async fn permit(shared: &Shared, connection: &Connection, asked: &mut Asked) -> Result<Arc<User>, ApiError> {
    let (head, verb) = (&asked.head, asked.verb);
    let only = match verb {
        "list" | "watch" | "deletecollection" => asked.query.only_name(),
        _ => None,
    };
    let attributes = authz::attributes(verb, &asked.target, only.as_deref());
    let known = connection.user.as_ref();
    let mut user = match shared.authenticator.authenticate(&head.headers, known, head.uri.path()).await {
        Ok(user) => user,
        Err(error) => {
            if let Some(record) = audited::record(shared, connection, asked, &User::default(), &attributes) {
                record.ended_with(error.code, &audited::attempted(head, connection));
            }
            return Err(error);
        }
    };
    let record = audited::record(shared, connection, asked, &user, &attributes);
    if let Some(record) = &record {
        record.write(Stage::RequestReceived).await;
    }
    let other = impersonation::impersonate(&head.headers, &user, &shared.authorizer).await;
    asked.undecided = other.as_ref().is_err_and(|error| error.code == 500);
    if let Some(other) = other? {
        if let Some(record) = &record {
            record.impersonated(&other);
        }
        user = other;
    }
    // Streams are nobody's share of the work: kube-apiserver's `--long-running-request-regexp`.
    let streams = matches!(&asked.target, Target::Resource(path)
        if matches!(path.subresource.as_deref(), Some("attach" | "exec" | "log" | "portforward" | "proxy")));
    let class = if streams { None } else { shared.flow.classes().class(&shared.storage, &user, &attributes) };
    let decision = shared.authorizer.authorize(&user, &attributes).await;
    if let Some(record) = &record {
        match &decision {
            Ok(reason) => record.decided("allow", reason),
            Err(_) => record.decided("forbid", ""),
        }
    }
    let decision = decision.map(|_| user);
    asked.class = class;
    asked.undecided = decision.as_ref().is_err_and(|error| error.code == 500);
    decision
}

async fn answer<B>(
    shared: Arc<Shared>,
    connection: Connection,
    asked: &mut Asked,
    body: B,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let user = permit(&shared, &connection, asked).await.inspect_err(|error| {
        asked.forbidden = error.code == 403;
    })?;
    let snapshot = shared.storage.snapshot();
    if let Some(external) = shared.aggregator.find(&snapshot, asked.head.uri.path()) {
        let exempt = user.is_in(MASTERS);
        let _seat =
            if exempt { None } else { Some(shared.flow.enter(asked.class.as_ref(), &user.name).await?) };
        let request = aggregate::Forwarded {
            method: asked.head.method.clone(),
            uri: asked.head.uri.clone(),
            headers: std::mem::take(&mut asked.head.headers),
            body: aggregate::request_body(body),
            upgrade: asked.head.extensions.remove(),
            peer: connection.peer,
        };
        return Ok(Box::pin(aggregate::forward(&snapshot, &external, &user, request)).await);
    }
    match std::mem::replace(&mut asked.target, Target::Path(String::new())) {
        Target::Path(path) if path.starts_with("/openapi") => {
            fixed::described(&shared, &asked.head, &asked.query, path).await
        }
        Target::Path(path) => fixed::answer(&shared, &asked.head, &asked.query, &path),
        Target::Resource(path) if path.unrouted => {
            fixed::answer(&shared, &asked.head, &asked.query, asked.head.uri.path())
        }
        Target::Resource(path) => {
            let exempt = user.is_in(MASTERS);
            let _seat =
                if exempt { None } else { Some(shared.flow.enter(asked.class.as_ref(), &user.name).await?) };
            resource(Arc::clone(&shared), user, asked, path, body).await
        }
    }
}

async fn resource<B>(
    shared: Arc<Shared>,
    user: Arc<User>,
    asked: &mut Asked,
    path: ResourcePath,
    body: B,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let (head, query, verb) = (&asked.head, &asked.query, asked.verb);
    let Some(kind) = shared.served().find(&path.group, &path.version, &path.resource) else {
        return fixed::nothing(&shared, &path.group);
    };
    // Also `namespaces/a/namespaces/b`: who may do anything in `a` was asked about `a`.
    if !kind.namespaced() && path.inside_namespace
        || kind.namespaced() && path.name.is_some() && path.namespace.is_none()
    {
        return Err(ApiError::no_such_path());
    }
    // RequestInfo reads it as a get, but no resource is registered for it.
    let through = path.subresource.as_deref() == Some("proxy");
    if head.method == Method::HEAD && !through {
        return Err(ApiError::no_such_method());
    }
    let watch = verb == "watch" && path.subresource.is_none();
    let offered = Offered { protobuf: kind.built_in, table: !is_question(&kind, &path), watch };
    let chosen = match negotiate::choose(&head.headers, query.get("pretty"), offered) {
        // What is accepted there is for whoever is behind it to say.
        Err(_) if through => Format::JSON,
        chosen => chosen?,
    };
    // Told of what is there: what is not is missed first.
    let unfit = if chosen.view == View::Metadata && matches!(verb, "get" | "list") && !through {
        negotiate::check_metadata_view(&head.headers, &kind.go_type(), verb == "list").err()
    } else {
        None
    };
    let include = match chosen.view {
        View::Table => Include::parse(query.get("includeObject"))?,
        _ => Include::default(),
    };
    let format = Format { include, ..chosen };
    let body = if matches!(verb, "get" | "list" | "watch") { Bytes::new() } else { body::read(body).await? };
    let deprecation = match &kind.custom {
        Some(custom) => custom.deprecation.clone(),
        None => kind.deprecation.map(str::to_owned),
    };
    let record = asked.progress.record.get().cloned();
    if let Some(record) = &record {
        let recorded =
            if record.level() >= audit::Level::Request { audit::value_of } else { audit::names_in };
        record.requested(&recorded(&head.headers, &body));
    }
    let call = Call {
        shared,
        user,
        kind,
        path,
        query: std::mem::take(&mut asked.query),
        headers: std::mem::take(&mut asked.head.headers),
        body,
        format,
        warnings: deprecation.into_iter().collect(),
        told: Arc::clone(&asked.told),
        reservation: Mutex::default(),
        record,
        shown: false,
        upgrade: asked.head.extensions.remove(),
        now: Timestamp::now(),
    };
    if !matches!(verb, "get" | "list" | "watch") {
        asked.progress.begin();
    }
    let response = verbs::dispatch(call, &asked.head.method, verb).await?;
    unfit.map_or(Ok(response), Err)
}
