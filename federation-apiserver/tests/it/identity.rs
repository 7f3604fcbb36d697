//! Users and decisions that come from other servers: OpenID Connect providers, and webhooks that know tokens or decide.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use federation_apiserver::{
    Parts, RemoteServers,
    auth::{
        authn::OtherTokens,
        authz::Mode,
        authz_config,
        authz_webhook::{self, AuthorizationWebhook},
        oidc::{self, Oidc},
        token_webhook::{self, TokenWebhook},
    },
    store::Storage,
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::{
    https::{self, Https},
    world::World,
};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

impl World {
    /// A request with a bearer token and no certificate.
    async fn with_token(&self, token: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let method = if body.is_some() { "POST" } else { "GET" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(body.map(|body| body.to_string()).unwrap_or_default()))
            .unwrap();
        let response = self.server.service_as(None).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Who a token is; none if it is nobody's.
    async fn who(&self, token: &str) -> Option<Value> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let (code, answer) = self.with_token(token, REVIEWS, Some(review)).await;
        (code == StatusCode::CREATED).then(|| answer["status"]["userInfo"].clone())
    }

    /// Why a token is nobody's.
    async fn why_not(&self, token: &str) -> String {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let answer = self.expect(StatusCode::CREATED, http::Method::POST, path, Some(review)).await;
        answer["status"]["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// A key of the provider.
enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Key {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn public(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(pair) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "use": "sig", "kid": id, "alg": "RS256", "n": text(&n), "e": text(&e)})
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "use": "sig", "kid": id, "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
        }
    }

    fn sign(&self, id: &str, claims: &Value) -> String {
        let algorithm = if matches!(self, Self::Rsa(_)) { "RS256" } else { "ES256" };
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(json!({"alg": algorithm, "kid": id})), encode(claims.clone()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The two numbers of a PKCS#1 RSAPublicKey in DER.
fn rsa_numbers(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, head) = match der[1] {
            0x81 => (usize::from(der[2]), 3),
            0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
            short => (usize::from(short), 2),
        };
        (&der[head..head + length], &der[head + length..])
    }
    let (sequence, _) = element(der);
    let (n, rest) = element(sequence);
    let (e, _) = element(rest);
    let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    (number(n), number(e))
}

/// A provider whose keys can be turned.
struct Provider {
    server: Https,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    /// It takes requests and never answers.
    hangs: Arc<AtomicBool>,
}

impl Provider {
    async fn new(keys: Value) -> Self {
        let keys = Arc::new(Mutex::new(keys));
        let (asked, port) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (shown, count, own) = (Arc::clone(&keys), Arc::clone(&asked), Arc::clone(&port));
        let hangs = Arc::<AtomicBool>::default();
        let silent = Arc::clone(&hangs);
        let server = Https::start(move |request| {
            let url = format!("https://127.0.0.1:{}", own.load(Ordering::Relaxed));
            let answer = match request.uri().path() {
                "/.well-known/openid-configuration" => {
                    https::answer(&json!({"issuer": url, "jwks_uri": format!("{url}/keys")}))
                }
                _ => {
                    count.fetch_add(1, Ordering::Relaxed);
                    https::answer(&json!({"keys": *shown.lock()}))
                }
            };
            let silent = silent.load(Ordering::Relaxed);
            async move {
                if silent {
                    std::future::pending::<()>().await;
                }
                answer
            }
        })
        .await;
        port.store(usize::from(server.port), Ordering::Relaxed);
        Self { server, keys, asked, hangs }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.server.port)
    }

    fn claims(&self, more: Value) -> Value {
        let now = Timestamp::now().as_second();
        let mut claims = json!({"iss": self.url(), "aud": "fed", "sub": "1", "iat": now, "exp": now + 600});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    async fn world(&self, folder: &TempDir, change: impl Fn(&mut oidc::Flags)) -> World {
        let ca = folder.path().join("ca.crt");
        std::fs::write(&ca, &self.server.ca_pem).unwrap();
        let mut flags = oidc::Flags {
            oidc_issuer_url: Some(self.url()),
            oidc_client_id: Some("fed".to_owned()),
            oidc_ca_file: Some(ca),
            ..oidc::Flags::default()
        };
        change(&mut flags);
        believing(&flags).await
    }
}

async fn believing(flags: &oidc::Flags) -> World {
    World::with(|parts| {
        let mut configuration =
            oidc::Configuration::from_flags(flags, "https://kubernetes.default.svc").unwrap();
        let anonymous = configuration.anonymous.take();
        let oidc = Arc::new(Oidc::new(configuration, &parts.storage).unwrap());
        let tokens = OtherTokens { oidc, anonymous, ..OtherTokens::default() };
        Parts { others: RemoteServers { tokens, ..parts.others }, ..parts }
    })
    .await
}

#[tokio::test]
async fn id_tokens_of_a_provider_are_believed_by_its_keys_which_may_turn() {
    let (folder, first, second) = (tempfile::tempdir().unwrap(), Key::rsa(), Key::ec());
    let provider = Provider::new(json!([first.public("one")])).await;
    let world = provider
        .world(&folder, |flags| {
            flags.oidc_groups_claim = Some("groups".into());
            flags.oidc_groups_prefix = Some("id:".into());
            flags.oidc_signing_algs = vec!["RS256".into(), "ES256".into()];
        })
        .await;
    let user = world.who(&first.sign("one", &provider.claims(json!({"groups": ["devs"]})))).await.unwrap();
    assert_eq!(
        (&user["username"], &user["groups"]),
        (&json!(format!("{}#1", provider.url())), &json!(["id:devs", "system:authenticated"]))
    );
    assert_eq!(provider.asked.load(Ordering::Relaxed), 1, "keys are kept");
    let forged = Key::rsa().sign("one", &provider.claims(json!({})));
    assert_eq!(world.who(&forged).await, None);
    assert_eq!(
        world.why_not(&forged).await,
        "[invalid bearer token, oidc: verify token: failed to verify signature: failed to verify id token signature]"
    );
    // A key that is not known yet is asked for; a former one that is gone is believed no more.
    *provider.keys.lock() = json!([second.public("two")]);
    assert!(world.who(&second.sign("two", &provider.claims(json!({})))).await.is_some());
    assert_eq!(world.who(&first.sign("one", &provider.claims(json!({})))).await, None);
    // However many tokens of nobody's making come, the provider is spared.
    for _ in 0..20 {
        world.who(&forged).await;
    }
    assert!(provider.asked.load(Ordering::Relaxed) <= 10);
}

#[tokio::test]
async fn id_tokens_for_others_or_of_another_time_are_refused_in_kubernetes_words() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Key::rsa());
    let provider = Provider::new(json!([key.public("one")])).await;
    let required = vec![("hd".to_owned(), "example.com".to_owned())];
    let world = provider.world(&folder, |flags| flags.oidc_required_claim.clone_from(&required)).await;
    let why = async |claims: Value| world.why_not(&key.sign("one", &provider.claims(claims))).await;
    assert_eq!(
        why(json!({"aud": "other"})).await,
        "[invalid bearer token, oidc: verify token: oidc: expected audience \"fed\" got [\"other\"]]"
    );
    assert_eq!(
        why(json!({"exp": 1_000_000_000})).await,
        "[invalid bearer token, oidc: verify token: oidc: token is expired (Token Expiry: 2001-09-09T01:46:40Z)]"
    );
    assert_eq!(
        why(json!({})).await,
        "[invalid bearer token, oidc: required claim hd not present in ID token]"
    );
    assert_eq!(why(json!({"iss": "https://other"})).await, "invalid bearer token");
    let by_ec = Key::ec().sign("one", &provider.claims(json!({"hd": "example.com"})));
    assert!(world.why_not(&by_ec).await.contains("unsupported algorithm"));
    assert!(world.who(&key.sign("one", &provider.claims(json!({"hd": "example.com"})))).await.is_some());
}

#[tokio::test]
async fn a_provider_that_is_away_is_asked_again_later() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Key::rsa());
    let provider = Provider::new(json!([key.public("one")])).await;
    let world =
        provider.world(&folder, |flags| flags.oidc_issuer_url = Some("https://127.0.0.1:1".into())).await;
    let mut claims = provider.claims(json!({}));
    claims["iss"] = "https://127.0.0.1:1".into();
    assert_eq!(
        world.why_not(&key.sign("one", &claims)).await,
        "[invalid bearer token, oidc: authenticator not initialized]"
    );
}

#[tokio::test]
async fn who_has_a_known_key_does_not_wait_for_a_provider_that_hangs() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Key::rsa());
    let provider = Provider::new(json!([key.public("one")])).await;
    let world = provider.world(&folder, |_| {}).await;
    let good = key.sign("one", &provider.claims(json!({})));
    assert!(world.who(&good).await.is_some());
    provider.hangs.store(true, Ordering::Relaxed);
    let forged = Key::rsa().sign("two", &provider.claims(json!({})));
    tokio::select! {
        biased;
        _ = world.who(&forged) => panic!("the provider has answered"),
        found = async {
            while provider.asked.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
            world.who(&good).await
        } => assert!(found.is_some()),
    }
}

#[tokio::test]
async fn an_authentication_configuration_maps_claims_by_expressions() {
    let (folder, key) = (tempfile::tempdir().unwrap(), Key::rsa());
    let provider = Provider::new(json!([key.public("one")])).await;
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {"url": provider.url(), "audiences": ["fed", "other"], "audienceMatchPolicy": "MatchAny",
                "certificateAuthority": provider.server.ca_pem},
            "claimValidationRules": [{"expression": "claims.hd == 'example.com'", "message": "hd must be example.com"}],
            "claimMappings": {
                "username": {"expression": "claims.nick + ':oidc'"},
                "groups": {"expression": "claims.roles.split(',')"},
                "uid": {"claim": "sub"},
                "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
            },
            "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "username cannot used reserved system: prefix"}],
        }],
        "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]},
    });
    let path = folder.path().join("authentication.yaml");
    std::fs::write(&path, configuration.to_string()).unwrap();
    let world = believing(&oidc::Flags { authentication_config: Some(path), ..oidc::Flags::default() }).await;
    let claims =
        json!({"aud": ["other"], "nick": "ann", "roles": "devs,ops", "tenant": "t1", "hd": "example.com"});
    let user = world.who(&key.sign("one", &provider.claims(claims.clone()))).await.unwrap();
    assert_eq!(
        user,
        json!({"username": "ann:oidc", "uid": "1", "groups": ["devs", "ops", "system:authenticated"], "extra": {"example.com/tenant": ["t1"]}})
    );
    let mut other = claims.clone();
    other["hd"] = "x".into();
    assert_eq!(
        world.why_not(&key.sign("one", &provider.claims(other))).await,
        "[invalid bearer token, oidc: error evaluating claim validation expression: validation expression 'claims.hd == 'example.com'' failed: hd must be example.com]"
    );
    let mut system = claims;
    system["nick"] = "system:admin".into();
    assert!(
        world
            .why_not(&key.sign("one", &provider.claims(system)))
            .await
            .ends_with("username cannot used reserved system: prefix]")
    );
    let nobody = async |path: &str| {
        let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
        world.server.service_as(None).oneshot(request).await.unwrap().status()
    };
    assert_eq!(nobody("/livez").await, StatusCode::OK);
    assert_eq!(nobody("/healthz").await, StatusCode::UNAUTHORIZED);
}

/// A server that is asked with reviews.
struct Reviewer {
    server: Https,
    asked: Arc<Mutex<Vec<Value>>>,
    down: Arc<AtomicBool>,
    folder: TempDir,
}

impl Reviewer {
    async fn new(status: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let (asked, down) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicBool>::default());
        let (seen, broken, status) = (Arc::clone(&asked), Arc::clone(&down), Arc::new(status));
        let server = Https::start(move |request| {
            let (seen, broken, status) = (Arc::clone(&seen), Arc::clone(&broken), Arc::clone(&status));
            async move {
                let authorization =
                    request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
                let mut review = https::json_of(request).await;
                let mut answer = review.clone();
                answer["status"] = status(&review["spec"]);
                review["bearer"] = authorization.into();
                seen.lock().push(review);
                let mut answer = https::answer(&answer);
                if broken.load(Ordering::Relaxed) {
                    *answer.status_mut() = StatusCode::BAD_REQUEST;
                }
                answer
            }
        });
        Self { server: server.await, asked, down, folder: tempfile::tempdir().unwrap() }
    }

    /// A kubeconfig that names it.
    fn kubeconfig(&self) -> PathBuf {
        self.server.kubeconfig(self.folder.path())
    }

    fn calls(&self) -> usize {
        self.asked.lock().len()
    }
}

async fn asking_about_tokens(reviewer: &Reviewer, ttl: Duration) -> World {
    let flags = token_webhook::Flags {
        authentication_token_webhook_config_file: Some(reviewer.kubeconfig()),
        authentication_token_webhook_cache_ttl: ttl,
        authentication_token_webhook_version: "v1".to_owned(),
    };
    World::with(|parts| {
        let webhook = TokenWebhook::from_flags(&flags, &parts.storage).unwrap();
        let tokens = OtherTokens { webhook, ..OtherTokens::default() };
        Parts { others: RemoteServers { tokens, ..parts.others }, ..parts }
    })
    .await
}

#[tokio::test]
async fn a_webhook_tells_whose_tokens_are_that_nobody_here_knows() {
    let reviewer = Reviewer::new(|spec| {
        if spec["token"] == "good" {
            json!({"authenticated": true, "user": {"username": "ann", "uid": "7", "groups": ["devs"], "extra": {"k": ["v"]}}})
        } else if spec["token"] == "bad" {
            json!({"authenticated": false, "error": "it has been revoked"})
        } else {
            json!({"authenticated": false})
        }
    })
    .await;
    let world = asking_about_tokens(&reviewer, Duration::from_secs(3600)).await;
    let wanted = json!({"username": "ann", "uid": "7", "groups": ["devs", "system:authenticated"], "extra": {"k": ["v"]}});
    assert_eq!(world.who("good").await, Some(wanted.clone()));
    assert_eq!(world.who("good").await, Some(wanted));
    assert_eq!(world.who("unknown").await, None);
    assert_eq!(world.who("unknown").await, None);
    assert_eq!(reviewer.calls(), 2, "what it said is remembered");
    assert_eq!(world.why_not("bad").await, "[invalid bearer token, it has been revoked]");
    let asked = reviewer.asked.lock()[0].clone();
    assert_eq!(
        (&asked["apiVersion"], &asked["kind"], &asked["bearer"]),
        (&json!("authentication.k8s.io/v1"), &json!("TokenReview"), &json!("Bearer ours"))
    );
    reviewer.down.store(true, Ordering::Relaxed);
    assert_eq!(world.who("new").await, None);
    assert!(world.who("good").await.is_some(), "and holds while it is away");
}

async fn deciding(reviewer: &Reviewer, modes: &[Mode], users: &str) -> World {
    let flags = authz_webhook::Flags {
        authorization_webhook_config_file: Some(reviewer.kubeconfig()),
        authorization_webhook_version: "v1".to_owned(),
        ..authz_webhook::Flags::default()
    };
    let modes = modes.to_vec();
    let authorization_webhooks = move |storage: &Storage| {
        AuthorizationWebhook::from_flags(&flags, storage).unwrap().into_iter().collect::<Vec<_>>()
    };
    decided_by(modes, authorization_webhooks, users).await
}

async fn decided_by(
    modes: Vec<Mode>,
    authorization_webhooks: impl FnOnce(&Storage) -> Vec<AuthorizationWebhook>,
    users: &str,
) -> World {
    World::with(|parts| {
        let authorization_webhooks = authorization_webhooks(&parts.storage);
        let tokens = federation_apiserver::auth::tokens::Tokens::parse(users).unwrap();
        Parts {
            authorization: modes,
            tokens,
            others: RemoteServers { authorization_webhooks, ..parts.others },
            ..parts
        }
    })
    .await
}

const USERS: &str = "ann,ann,u-ann,devs\nbob,bob,u-bob\n";
const MAPS: &str = "/api/v1/namespaces/demo/configmaps";

#[tokio::test]
async fn a_webhook_decides_who_may_do_what() {
    let reviewer = Reviewer::new(|spec| match spec["user"].as_str().unwrap() {
        "ann" => json!({"allowed": true, "reason": "she is ann"}),
        "bob" => json!({"allowed": false, "denied": true, "reason": "not bob"}),
        _ => json!({"allowed": false, "reason": "never heard of"}),
    })
    .await;
    let world = deciding(&reviewer, &[Mode::Webhook, Mode::AlwaysAllow], USERS).await;
    assert_eq!(world.with_token("ann", MAPS, None).await.0, StatusCode::OK);
    assert_eq!(world.with_token("ann", MAPS, None).await.0, StatusCode::OK);
    assert_eq!(reviewer.calls(), 1, "what it said is remembered");
    let asked = reviewer.asked.lock()[0].clone();
    assert_eq!(
        (&asked["apiVersion"], &asked["kind"]),
        (&json!("authorization.k8s.io/v1"), &json!("SubjectAccessReview"))
    );
    assert_eq!(
        asked["spec"],
        json!({"user": "ann", "uid": "u-ann", "groups": ["devs", "system:authenticated"],
            "resourceAttributes": {"namespace": "demo", "verb": "list", "version": "v1", "resource": "configmaps"}})
    );
    let (code, status) = world.with_token("bob", MAPS, None).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert_eq!(
        status["message"],
        "configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"demo\": not bob"
    );
    // The next mode is asked if it has no opinion, and not if it denies.
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "eve", "resourceAttributes": {"verb": "get", "resource": "secrets"}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = world.expect(StatusCode::CREATED, http::Method::POST, path, Some(review)).await;
    assert_eq!(answer["status"]["allowed"], true);
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_allows_nothing() {
    let reviewer = Reviewer::new(|_| json!({"allowed": true})).await;
    reviewer.down.store(true, Ordering::Relaxed);
    let world = deciding(&reviewer, &[Mode::Webhook], USERS).await;
    let request = Request::get(MAPS).header("authorization", "Bearer ann");
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let response = world.server.service_as(None).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with(&format!("Internal Server Error: {MAPS:?}: the server")), "{text}");
    let world = deciding(&reviewer, &[Mode::Webhook, Mode::AlwaysAllow], USERS).await;
    assert_eq!(world.with_token("ann", MAPS, None).await.0, StatusCode::OK, "others may");
}

#[tokio::test]
async fn an_authorization_configuration_names_webhooks_and_when_they_are_asked() {
    let reviewer = Reviewer::new(|_| json!({"allowed": true})).await;
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": [
            {"type": "Webhook", "name": "them", "webhook": {
                "timeout": "3s", "subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
                "authorizedTTL": "5m", "unauthorizedTTL": "30s",
                "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": reviewer.kubeconfig()},
                "matchConditions": [{"expression": "has(request.resourceAttributes) && request.user == 'ann'"}],
            }},
            {"type": "RBAC", "name": "rbac"},
        ],
    });
    let path = reviewer.folder.path().join("authorization.yaml");
    std::fs::write(&path, configuration.to_string()).unwrap();
    let mut modes = Vec::new();
    let world = World::with(|parts| {
        let (read, authorization_webhooks) = authz_config::load(&path, &parts.storage).unwrap();
        modes.clone_from(&read);
        let tokens = federation_apiserver::auth::tokens::Tokens::parse(USERS).unwrap();
        Parts {
            authorization: read,
            tokens,
            others: RemoteServers { authorization_webhooks, ..parts.others },
            ..parts
        }
    })
    .await;
    assert_eq!(modes, [Mode::Webhook, Mode::Rbac]);
    assert_eq!(world.with_token("ann", MAPS, None).await.0, StatusCode::OK);
    assert_eq!(world.with_token("bob", MAPS, None).await.0, StatusCode::FORBIDDEN);
    assert_eq!(reviewer.calls(), 1, "it is not asked about bob");
    reviewer.down.store(true, Ordering::Relaxed);
    let (code, _) = world.with_token("ann", "/api/v1/namespaces/demo/secrets", None).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "it fails closed");
}
