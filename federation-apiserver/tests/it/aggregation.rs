//! Group versions of another server behind this one: a small server in this process plays it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use federation_apiserver::{Parts, RemoteServers, auth::authz::Mode};
use federation_runtime::{
    pki::{Authority, Identity, LIFE_OF_PARTS, Subject},
    tls,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::TlsConnector;
use tower::ServiceExt as _;

use crate::{
    access::Access,
    https::{self, Answer, Client, Https},
    kubectl::Session,
    world::World,
};

const GROUP: &str = "/apis/wardle.example.com/v1alpha1";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/demo/flunders";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// What the other server was asked: path and query, headers, and whose certificate came with it.
type Asked = Arc<Mutex<Vec<(String, HeaderMap, Option<String>)>>>;

/// A server of Flunders.
struct Wardle {
    server: Https,
    asked: Asked,
    /// It answers 500 to everything.
    broken: Arc<AtomicBool>,
    /// Sends frames to whoever watches.
    frames: Arc<Mutex<Vec<mpsc::UnboundedSender<Value>>>>,
}

impl Wardle {
    async fn new(front_ca_pem: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let (asked, broken, frames) = (Asked::default(), Arc::<AtomicBool>::default(), Arc::default());
        let (seen, down, watchers) = (Arc::clone(&asked), Arc::clone(&broken), Arc::clone(&frames));
        let server = Https::start_with(&authority, front_ca_pem, move |request: Request<Incoming>| {
            let client = request.extensions().get::<Client>().map(|client| client.0.clone());
            let path = request.uri().path_and_query().unwrap().to_string();
            seen.lock().push((path, request.headers().clone(), client));
            let (down, watchers) = (Arc::clone(&down), Arc::clone(&watchers));
            async move {
                if down.load(Ordering::Relaxed) {
                    let mut answer = https::answer(&json!({}));
                    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    return answer;
                }
                serve(request, &watchers).await
            }
        });
        Self { server: server.await, asked, broken, frames }
    }

    fn api_service(&self) -> Value {
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1alpha1.wardle.example.com"},
            "spec": {"group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 1000, "versionPriority": 15,
                "caBundle": self.server.bundle(), "service": {"namespace": "demo", "name": "hooks"}},
        })
    }
}

async fn serve(request: Request<Incoming>, watchers: &Mutex<Vec<mpsc::UnboundedSender<Value>>>) -> Answer {
    let flunder = |name: &str| {
        json!({"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder",
            "metadata": {"name": name, "namespace": "demo", "creationTimestamp": "2020-01-01T00:00:00Z"}})
    };
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (method, path.as_str()) {
        (_, GROUP) => https::answer(&json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
            "resources": [
                {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "shortNames": ["fl"],
                 "verbs": ["create", "get", "list", "watch"]},
                {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            ],
        })),
        (_, "/openapi/v2") => https::answer(&json!({
            "swagger": "2.0", "info": {"title": "w", "version": "1"},
            "paths": {
                "/apis/wardle.example.com/v1alpha1/namespaces/{namespace}/flunders": {"get": {"responses": {"200": {"description": "OK"}}}},
                "/apis/other.example.com/": {},
            },
            "definitions": {"com.example.wardle.v1alpha1.Flunder": {"type": "object", "description": "A flunder."}},
        })),
        (_, "/openapi/v3") => https::answer(&json!({"paths": {
            "apis/wardle.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=AB"},
        }})),
        (_, "/openapi/v3/apis/wardle.example.com/v1alpha1") => {
            https::answer(&json!({"openapi": "3.0.0", "info": {"title": "mine"}}))
        }
        (Method::GET, FLUNDERS) if query.contains("watch=") => {
            let (sender, mut frames) = mpsc::unbounded_channel::<Value>();
            watchers.lock().push(sender);
            let pieces = futures::stream::poll_fn(move |context| {
                frames
                    .poll_recv(context)
                    .map(|frame| frame.map(|frame| Ok(Frame::data(Bytes::from(format!("{frame}\n"))))))
            });
            Response::new(StreamBody::new(pieces).boxed())
        }
        (Method::GET, FLUNDERS) => https::answer(&json!({
            "kind": "FlunderList", "apiVersion": "wardle.example.com/v1alpha1", "metadata": {"resourceVersion": "1"},
            "items": [flunder("one"), flunder("two")],
        })),
        (Method::POST, FLUNDERS) => {
            let sent = https::json_of(request).await;
            let mut answer = https::answer(&sent);
            *answer.status_mut() = StatusCode::CREATED;
            answer
        }
        (_, path) if path.ends_with("/talk") => {
            tokio::spawn(async move {
                let mut joined = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                let mut word = [0; 4];
                joined.read_exact(&mut word).await.unwrap();
                word.reverse();
                joined.write_all(&word).await.unwrap();
            });
            Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "talk/1")
                .body(Empty::new().boxed())
                .unwrap()
        }
        _ => {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            let mut answer = https::answer(&status);
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
        }
    }
}

impl World {
    /// A server with a front proxy's certificate, and its authority.
    async fn with_front_proxy() -> (Self, Authority) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let identity = authority.issue(&Subject::front_proxy(), &[], LIFE_OF_PARTS).unwrap();
        let world = Self::with(|parts| Parts {
            others: RemoteServers { front_proxy: Some(identity), ..parts.others },
            ..parts
        });
        (world.await, authority)
    }

    async fn register(&self, wardle: &Wardle) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hooks"}, "spec": {"ports": [{"port": 443}]}});
        self.expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces/demo/services", Some(service))
            .await;
        let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "hooks"},
            "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": wardle.server.port}]}]});
        self.expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces/demo/endpoints", Some(endpoints))
            .await;
        self.expect(StatusCode::CREATED, Method::POST, SERVICES, Some(wardle.api_service())).await;
    }

    async fn available(&self) -> Value {
        let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
        let object = self.expect(StatusCode::OK, Method::GET, &path, None).await;
        object["status"]["conditions"][0].clone()
    }
}

#[tokio::test]
async fn requests_go_to_the_server_of_their_group_version_with_the_users_name() {
    let (world, front) = World::with_front_proxy().await;
    let wardle = Wardle::new(&front.certificate_pem).await;
    world.register(&wardle).await;
    let (code, said) = world.request(Method::GET, FLUNDERS, None).await;
    assert_eq!((code, said), (StatusCode::SERVICE_UNAVAILABLE, json!("service unavailable\n")));
    assert!(world.server.availability_controller().step().await);
    let condition = world.available().await;
    assert_eq!(
        (&condition["status"], &condition["reason"], &condition["message"]),
        (&json!("True"), &json!("Passed"), &json!("all checks passed"))
    );
    wardle.asked.lock().clear();
    let request = Request::get(format!("{FLUNDERS}?limit=7"))
        .header("x-remote-user", "somebody")
        .header("authorization", "Bearer mine")
        .header("accept", "application/json")
        .body(Full::<Bytes>::default())
        .unwrap();
    let (code, list) = world.send(request).await;
    assert_eq!((code, &list["items"][1]["metadata"]["name"]), (StatusCode::OK, &json!("two")));
    let (path, headers, client) = wardle.asked.lock().pop().unwrap();
    assert_eq!(path, format!("{FLUNDERS}?limit=7"));
    assert_eq!(client.as_deref(), Some("front-proxy-client"));
    assert_eq!(headers.get_all("x-remote-user").iter().collect::<Vec<_>>(), ["federation:in-process"]);
    assert!(headers.get_all("x-remote-group").iter().any(|group| group == "system:masters"));
    assert!(!headers.contains_key("authorization") && headers["accept"] == "application/json");

    let made =
        json!({"kind": "Flunder", "apiVersion": "wardle.example.com/v1alpha1", "metadata": {"name": "x"}});
    let answer = world.expect(StatusCode::CREATED, Method::POST, FLUNDERS, Some(made.clone())).await;
    assert_eq!(answer, made);
    let status = world.expect(StatusCode::NOT_FOUND, Method::GET, &format!("{GROUP}/nothing"), None).await;
    assert_eq!(status["reason"], "NotFound");

    // A watch comes frame by frame.
    let request = Request::get(format!("{FLUNDERS}?watch=true")).body(Full::<Bytes>::default()).unwrap();
    let mut body = world.server.service().oneshot(request).await.unwrap().into_body();
    for number in 0..3 {
        wardle.frames.lock().last().unwrap().send(json!({"type": "ADDED", "object": number})).unwrap();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&frame).unwrap()["object"], number);
    }
    wardle.frames.lock().clear();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn what_it_serves_is_in_discovery_and_openapi() {
    let (world, front) = World::with_front_proxy().await;
    let wardle = Wardle::new(&front.certificate_pem).await;
    world.register(&wardle).await;
    world.server.availability_controller().step().await;
    let groups = world.expect(StatusCode::OK, Method::GET, "/apis", None).await;
    let group = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["name"] == "wardle.example.com")
        .unwrap();
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    let one = world.expect(StatusCode::OK, Method::GET, "/apis/wardle.example.com", None).await;
    assert_eq!(one["kind"], "APIGroup");
    let list = world.expect(StatusCode::OK, Method::GET, GROUP, None).await;
    assert_eq!(list["resources"][0]["kind"], "Flunder");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let discovered = async || {
        let all = world.accepting("/apis", accept).await;
        let groups = all["items"].as_array().unwrap().clone();
        groups.into_iter().find(|group| group["metadata"]["name"] == "wardle.example.com")
    };
    let version = discovered().await.unwrap()["versions"][0].clone();
    assert_eq!(
        version,
        json!({"version": "v1alpha1", "freshness": "Current", "resources": [{
            "resource": "flunders", "singularResource": "flunder", "scope": "Namespaced", "shortNames": ["fl"],
            "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"},
            "verbs": ["create", "get", "list", "watch"],
            "subresources": [{"subresource": "status", "verbs": ["get"],
                "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}}],
        }]})
    );
    let v2 = world.expect(StatusCode::OK, Method::GET, "/openapi/v2", None).await;
    assert_eq!(v2["definitions"]["com.example.wardle.v1alpha1.Flunder"]["description"], "A flunder.");
    assert!(v2["paths"].get(format!("{GROUP}/namespaces/{{namespace}}/flunders")).is_some());
    assert!(v2["paths"].get("/apis/other.example.com/").is_none(), "that is not its business");
    let v3 = world.expect(StatusCode::OK, Method::GET, "/openapi/v3", None).await;
    let url = v3["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    let document = world.expect(StatusCode::OK, Method::GET, url, None).await;
    assert_eq!(document["info"]["title"], "mine");

    // It is down: what it served is still shown, as stale, and asking for it is refused.
    wardle.broken.store(true, Ordering::Relaxed);
    assert!(!world.server.availability_controller().step().await);
    let condition = world.available().await;
    let url = format!("https://hooks.demo.svc:443{GROUP}");
    assert_eq!(
        (&condition["status"], &condition["reason"], &condition["message"]),
        (
            &json!("False"),
            &json!("FailedDiscoveryCheck"),
            &json!(format!("failing or missing response from {url}: bad status from {url}: 500"))
        )
    );
    assert_eq!(discovered().await.unwrap()["versions"][0]["freshness"], "Stale");
    let (code, _) = world.request(Method::GET, FLUNDERS, None).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    let table = world.table(SERVICES).await;
    let row = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["cells"][0] == "v1alpha1.wardle.example.com")
        .unwrap();
    assert_eq!(
        (&row["cells"][1], &row["cells"][2]),
        (&json!("demo/hooks"), &json!("False (FailedDiscoveryCheck)"))
    );

    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    assert!(discovered().await.is_none());
    world.expect(StatusCode::NOT_FOUND, Method::GET, FLUNDERS, None).await;
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_or_if_asked_for_without() {
    let (world, front) = World::with_front_proxy().await;
    let wardle = Wardle::new(&front.certificate_pem).await;
    world.register(&wardle).await;
    let path = format!("{SERVICES}/v1alpha1.wardle.example.com");
    let other =
        json!({"spec": {"caBundle": Https::start(|_| async { https::answer(&json!({})) }).await.bundle()}});
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(other)).await;
    assert!(!world.server.availability_controller().step().await);
    assert!(world.available().await["message"].as_str().unwrap().contains("tls: "));
    let trusting = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(trusting)).await;
    assert!(world.server.availability_controller().step().await);
    world.expect(StatusCode::OK, Method::GET, FLUNDERS, None).await;
    // Without a Service there is nobody to ask.
    world.expect(StatusCode::OK, Method::DELETE, "/api/v1/namespaces/demo/services/hooks", None).await;
    assert!(!world.server.availability_controller().step().await);
    let condition = world.available().await;
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("ServiceNotFound"), &json!("service/hooks in \"demo\" is not present"))
    );
}

#[test]
fn kubectl_uses_it_and_connections_are_joined() {
    let Some(session) = Session::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let pki = session.data().join("pki");
    let front_ca = std::fs::read_to_string(pki.join("front-proxy/ca.crt")).unwrap();
    let wardle = runtime.block_on(Wardle::new(&front_ca));
    let published = session.ok(
        "get configmap -n kube-system extension-apiserver-authentication -o yaml",
        &["requestheader-client-ca-file"],
    );
    assert!(published.contains("front-proxy-client") && published.contains("X-Remote-Extra-"));
    session.ok("create namespace demo", &[]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hooks", "namespace": "demo"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    session.ok_with("create -f -", &service.to_string(), &[]);
    let mut registered = wardle.api_service();
    registered["spec"]["service"]["port"] = wardle.server.port.into();
    session.ok_with(
        "create -f -",
        &registered.to_string(),
        &["apiservice.apiregistration.k8s.io/v1alpha1.wardle.example.com created"],
    );
    session.ok(
        "wait --for=condition=Available --timeout=20s apiservice/v1alpha1.wardle.example.com",
        &["condition met"],
    );
    session.ok("get apiservice v1alpha1.wardle.example.com", &["demo/hooks", "True"]);
    session.ok("get fl -n demo", &["NAME", "one", "two"]);
    session.ok("api-resources --api-group=wardle.example.com", &["flunders", "fl", "Flunder"]);
    runtime.block_on(talk(session.url(), &pki));
}

/// Upgrades a connection through the server, and says a word.
async fn talk(url: &str, pki: &Path) {
    let ca_pem = std::fs::read_to_string(pki.join("ca.crt")).unwrap();
    let identity = Identity::load(pki, "admin").unwrap();
    let config = tls::client(Some(&identity), &ca_pem, &["http/1.1"]).unwrap();
    let address = url.trim_start_matches("https://");
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::post(format!("{FLUNDERS}/one/talk"))
        .header("host", address)
        .header("connection", "Upgrade")
        .header("upgrade", "talk/1")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut joined = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    joined.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    joined.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"gnip");
}

/// Whatever it looks like: who serves it may read it as the resource that it is.
#[tokio::test]
async fn an_odd_path_of_another_server_is_authorized_as_a_resource() {
    let access = Access::new(&[Mode::Rbac]).await;
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 1, "versionPriority": 1,
            "insecureSkipTLSVerify": true, "service": {"namespace": "demo", "name": "hooks"},
        },
    });
    access.make(SERVICES, service).await;
    for path in ["namespaces/demo%2Fflunders", "namespaces/demo/flunders/a/open/22/tcp", "flunders//a"] {
        let path = format!("{GROUP}/{path}");
        let (code, status) = access.send("alice", &[], Method::GET, &path, None).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{path}: {status}");
        let (code, _) = access.send("root", &[], Method::GET, &path, None).await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    let (code, _) = access.send("alice", &[], Method::GET, GROUP, None).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "everybody may look at what there is");
}
