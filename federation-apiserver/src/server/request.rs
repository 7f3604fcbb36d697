//! The path of one request, from a socket or from this process.
//!
//! `authn → authz → decode → verb → encode`, with metrics, time limits and a handler for panics around it.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use apimachinery::{ApiError, go_duration};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    Shared, custom_routes, finish::Progress, large_requests::LARGE_BYTES, malformed, non_resource,
    request_audit,
};
use crate::{
    aggregate,
    audit::{self, Stage},
    auth::{MASTERS, User, authz, impersonation},
    flow::{self, Classification},
    http::{
        Body, BoxError, body,
        info::{self, ResourcePath, Target},
        negotiate::{self, Format, Include, Offered, View},
        query::Query,
        respond,
    },
    metrics::Labels,
    registry::Kind,
    verbs::{self, Call},
};

pub(super) const AUDIT_ID: &str = "audit-id";

/// `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What is known of the peer.
pub(super) struct Connection {
    pub(super) user: Option<Arc<User>>,
    pub(super) peer: Option<IpAddr>,
}

/// One request, as all steps see it.
pub(super) struct Asked {
    pub(super) head: request::Parts,
    pub(super) target: Target,
    pub(super) query: Query,
    pub(super) verb: &'static str,
    pub(super) received: Timestamp,
    /// `Audit-Id`.
    pub(super) id: String,
    /// What kind of traffic it is.
    pub(super) class: Option<Classification>,
    /// Authorization said no.
    pub(super) forbidden: bool,
    /// Nobody could say yes or no.
    pub(super) undecided: bool,
    /// Warnings of a request that failed.
    pub(super) shared_warnings: Arc<Mutex<Vec<String>>>,
    /// How far it has come.
    pub(super) progress: Arc<Progress>,
}

pub(super) async fn serve<B>(
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
    let mut asked = Asked::new(head, progress);
    let (head, query) = (&asked.head, &asked.query);
    let error_format = error_format(head, query);
    let content_type = if asked.verb == "patch" { negotiate::content_type(&head.headers) } else { None };
    let is_dry = query.get("dryRun").is_some();
    let labels = Labels::of(&shared.served(), &asked.target, asked.verb, content_type.as_deref(), is_dry);
    let at_work = (asked.verb != "watch").then(|| shared.metrics.begun(&head.method));
    let (result, panicked) = answer_in_time(&shared, connection, &mut asked, body).await;
    let record = asked.progress.record.get();
    if let (Some(record), Err(error)) = (record, &result)
        && error.code != 401
    {
        record.ended(error.code, Some(error));
    }
    let refused = result.is_err();
    let mut response = result.unwrap_or_else(|error| {
        tracing::debug!(code = error.code, %error, verb = asked.verb, "refused");
        if asked.undecided {
            return undecided(&asked.head, &error);
        }
        respond::error(error_format, &error)
    });
    if let Some(record) = record {
        response = request_audit::recorded(record, response, asked.verb, refused, panicked).await;
    }
    let response = asked.complete(response, refused);
    drop(at_work);
    shared.metrics.answered(labels, response.status().as_u16(), started.elapsed());
    response
}

impl Asked {
    fn new(head: request::Parts, progress: Arc<Progress>) -> Self {
        let target = Target::parse(head.uri.path());
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let verb = match &target {
            Target::Resource(path) => info::verb(&head.method, path, &query),
            Target::Path(_) => info::path_verb(&head.method),
        };
        Self {
            id: request_audit::audit_id(&head),
            head,
            target,
            query,
            verb,
            received: Timestamp::now(),
            class: None,
            forbidden: false,
            undecided: false,
            shared_warnings: Arc::default(),
            progress,
        }
    }

    /// Adds what every answer has: the headers of flow control and of refusals, warnings, and the request's id.
    fn complete(&self, mut response: Response<Body>, refused: bool) -> Response<Body> {
        if let Some(class) = &self.class {
            class.tell(response.headers_mut());
        }
        if self.forbidden {
            let nosniff = HeaderValue::from_static("nosniff");
            response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        }
        if refused {
            respond::warn(response.headers_mut(), self.shared_warnings.lock().iter());
        }
        if self.head.method == Method::HEAD {
            // The answer to a HEAD has no body, and HTTP/2 clients drop a stream that has one.
            response = response.map(|_| body::empty());
        }
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            headers.insert(HeaderName::from_static(AUDIT_ID), id);
        }
        headers.entry(header::CACHE_CONTROL).or_insert_with(|| HeaderValue::from_static("no-cache, private"));
        response
    }
}

/// Answers within the time that the request has. A panic is an internal error, and told apart for the audit log.
async fn answer_in_time<B>(
    shared: &Arc<Shared>,
    connection: Connection,
    asked: &mut Asked,
    body: B,
) -> (Result<Response<Body>, ApiError>, bool)
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // Headers of a watch come at once and its body may last: the limit holds for the head of the answer.
    let deadline = match deadline(asked) {
        Ok(deadline) => deadline,
        Err(error) => return (Err(error), false),
    };
    // Pinned where it is made, since it is large and what waits for it would move it about.
    let work = pin!(answer(Arc::clone(shared), connection, asked, body));
    match tokio::time::timeout(deadline, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(result)) => (result, false),
        Ok(Err(_)) => (Err(ApiError::internal("this request caused a panic; see the server's log")), true),
        Err(_) => (Err(ApiError::timeout("request did not complete within the allotted timeout", 0)), false),
    }
}

/// How long the request may take: as it asks itself with `timeout`, but no longer than the server allows. Zero, or less, asks for nothing.
fn deadline(asked: &Asked) -> Result<Duration, ApiError> {
    match asked.query.get("timeout") {
        Some(text) if asked.verb != "watch" && !streams(&asked.target) => {
            let wanted = go_duration::parse_or_explain(text).map_err(|why| {
                ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}"))
            })?;
            let wanted = u64::try_from(wanted).unwrap_or_default();
            let wanted = if wanted == 0 { REQUEST_TIMEOUT } else { Duration::from_nanos(wanted) };
            Ok(wanted.min(REQUEST_TIMEOUT))
        }
        _ => Ok(REQUEST_TIMEOUT),
    }
}

/// Whether a request lasts as long as its two sides like: `--long-running-request-regexp`.
fn streams(target: &Target) -> bool {
    let Target::Resource(path) = target else { return false };
    matches!(path.subresource.as_deref(), Some("attach" | "exec" | "log" | "portforward" | "proxy"))
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
            if let Some(record) =
                request_audit::record(shared, connection, asked, &User::default(), &attributes)
            {
                record.ended_with(error.code, &request_audit::attempted(head, connection));
            }
            return Err(error);
        }
    };
    let record = request_audit::record(shared, connection, asked, &user, &attributes);
    if let Some(record) = &record {
        record.write(Stage::RequestReceived).await;
    }
    let other = impersonation::impersonate(&head.headers, &user, &attributes, &shared.authorizer).await;
    asked.undecided = other.as_ref().is_err_and(|error| error.code == 500);
    if let Some(other) = other? {
        if let Some(record) = &record {
            record.impersonated(&other);
        }
        user = other.user;
    }
    // Streams are nobody's share of the work.
    let class = if streams(&asked.target) {
        None
    } else {
        shared.flow.classes().class(&shared.storage, &user, &attributes)
    };
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
            non_resource::described(&shared, &asked.head, &asked.query, path).await
        }
        Target::Path(path) => non_resource::answer(&shared, &asked.head, &asked.query, &path),
        Target::Resource(path) if path.unrouted || path.goes_on && !is_custom(&shared, &path) => {
            non_resource::answer(&shared, &asked.head, &asked.query, asked.head.uri.path())
        }
        Target::Resource(path) => {
            let exempt = user.is_in(MASTERS);
            let seat =
                if exempt { None } else { Some(shared.flow.enter(asked.class.as_ref(), &user.name).await?) };
            let response = resource(Arc::clone(&shared), user, asked, path, body).await?;
            // Large lists are made while they are sent.
            Ok(match seat {
                Some(seat) if matches!(asked.verb, "list" | "deletecollection") => {
                    flow::until_end(seat, response, REQUEST_TIMEOUT)
                }
                _ => response,
            })
        }
    }
}

fn is_custom(shared: &Shared, path: &ResourcePath) -> bool {
    let kind = shared.served().find(&path.group, &path.version, &path.resource);
    kind.is_some_and(|kind| kind.custom.is_some())
}

async fn resource<B>(
    shared: Arc<Shared>,
    user: Arc<User>,
    asked: &mut Asked,
    mut path: ResourcePath,
    body: B,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let (head, query, verb) = (&asked.head, &asked.query, asked.verb);
    let Some(kind) = shared.served().find(&path.group, &path.version, &path.resource) else {
        return non_resource::nothing(&path.group);
    };
    let through = path.subresource.as_deref() == Some("proxy");
    if kind.custom.is_some() {
        if !custom_routes::is_in_scope(&kind, &path, verb) {
            return Ok(non_resource::no_page());
        }
        custom_routes::check(&kind, &path, verb)?;
        if verb == "create" {
            // It is made as its body says.
            path.name = None;
        }
    } else {
        // Also `namespaces/a/namespaces/b`: who may do anything in `a` was asked about `a`.
        let elsewhere = !kind.namespaced() && path.inside_namespace
            || kind.namespaced() && path.name.is_some() && path.namespace.is_none()
            || path.watch_prefix && path.subresource.is_some();
        if elsewhere || !verbs::has_path(&kind, &path) {
            return Err(ApiError::no_such_path());
        }
        // RequestInfo reads a HEAD as a get, and what has the prefix of a watch as a watch, but they have no route.
        if head.method == Method::HEAD && !through || path.watch_prefix && head.method != Method::GET {
            return Err(ApiError::no_such_method());
        }
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
        shared_warnings: Arc::clone(&asked.shared_warnings),
        reservation: Mutex::default(),
        record,
        is_admitted: false,
        upgrade: asked.head.extensions.remove(),
        now: Timestamp::now(),
    };
    if !matches!(verb, "get" | "list" | "watch") {
        asked.progress.begin();
    }
    let response = if call.body.len() < LARGE_BYTES {
        verbs::dispatch(call, &asked.head.method, verb).await?
    } else {
        let shared = Arc::clone(&call.shared);
        let work = verbs::dispatch(call, &asked.head.method, verb);
        Box::pin(shared.large_requests.work(work)).await?
    };
    unfit.map_or(Ok(response), Err)
}
