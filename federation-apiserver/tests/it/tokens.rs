//! Tokens of service accounts: asked for, used, reviewed, and gone with what they hang on.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use federation_apiserver::auth::authz::Mode;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::access::Access;

const ACCOUNTS: &str = "/api/v1/namespaces/demo/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/demo/secrets";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn world() -> Access {
    let access = Access::new(&[Mode::Rbac]).await;
    access.make(ACCOUNTS, json!({"metadata": {"name": "bot"}})).await;
    access
}

async fn request(access: &Access, spec: Value) -> (StatusCode, Value) {
    let path = format!("{ACCOUNTS}/bot/token");
    access.send("root", &[], Method::POST, &path, Some(json!({"spec": spec}))).await
}

async fn token(access: &Access, spec: Value) -> String {
    let (status, value) = request(access, spec).await;
    assert_eq!(status, StatusCode::CREATED, "{value}");
    value["status"]["token"].as_str().unwrap().to_owned()
}

/// The code of asking who one is.
async fn code(access: &Access, token: &str) -> u16 {
    access.send(token, &[], Method::POST, WHO, Some(json!({}))).await.0.as_u16()
}

async fn delete(access: &Access, path: &str) {
    let (status, value) = access.send("root", &[], Method::DELETE, path, None).await;
    assert_eq!(status, StatusCode::OK, "{value}");
}

#[tokio::test]
async fn a_token_is_its_account_until_that_is_gone() {
    let access = world().await;
    let token = token(&access, json!({})).await;
    let (status, value) = access.send(&token, &[], Method::POST, WHO, Some(json!({}))).await;
    assert_eq!(status, StatusCode::CREATED, "{value}");
    let user = &value["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:demo:bot");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:demo", "system:authenticated"])
    );
    assert!(
        user["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap().starts_with("JTI=")
    );
    let (status, value) = access.send(&token, &[], Method::GET, SECRETS, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        value["message"].as_str().unwrap().contains("User \"system:serviceaccount:demo:bot\" cannot list")
    );
    access.grant("demo", "edit", json!({"kind": "ServiceAccount", "name": "bot", "namespace": "demo"})).await;
    assert_eq!(access.send(&token, &[], Method::GET, SECRETS, None).await.0, StatusCode::OK);
    delete(&access, &format!("{ACCOUNTS}/bot")).await;
    assert_eq!(code(&access, &token).await, 401);
    // One of the same name is another account.
    access.make(ACCOUNTS, json!({"metadata": {"name": "bot"}})).await;
    assert_eq!(code(&access, &token).await, 401);
}

#[tokio::test]
async fn a_token_is_for_the_account_that_is_meant() {
    let access = world().await;
    let (_, account) = access.send("root", &[], Method::GET, &format!("{ACCOUNTS}/bot"), None).await;
    let uid = account["metadata"]["uid"].as_str().unwrap();
    let ask = async |uid: &str| {
        let request = json!({"metadata": {"uid": uid}, "spec": {}});
        access.send("root", &[], Method::POST, &format!("{ACCOUNTS}/bot/token"), Some(request)).await
    };
    let (status, made) = ask(uid).await;
    assert_eq!((status, &made["metadata"]["uid"]), (StatusCode::CREATED, &json!(uid)));
    let (status, value) = ask("xx").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        value["message"],
        format!(
            "Operation cannot be fulfilled on TokenRequest.authentication.k8s.io \"bot\": the UID in the token request (xx) does not match the UID of the service account ({uid})"
        )
    );
}

#[tokio::test]
async fn a_bound_token_ends_with_its_object() {
    let access = world().await;
    access.make(SECRETS, json!({"metadata": {"name": "anchor"}})).await;
    let reference = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "anchor"}});
    // Of its version only the group counts.
    let unversioned = json!({"boundObjectRef": {"kind": "Secret", "name": "anchor"}});
    assert_eq!(request(&access, unversioned).await.0, StatusCode::CREATED);
    let token = token(&access, reference.clone()).await;
    assert_eq!(code(&access, &token).await, 201);
    delete(&access, &format!("{SECRETS}/anchor")).await;
    assert_eq!(code(&access, &token).await, 401);
    let (status, value) = request(&access, reference).await;
    assert_eq!((status, &value["message"]), (StatusCode::NOT_FOUND, &json!("secrets \"anchor\" not found")));
    let (status, value) =
        request(&access, json!({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}}))
            .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{value}");
}

#[tokio::test]
async fn a_token_is_for_its_audiences() {
    let access = world().await;
    let token = token(&access, json!({"audiences": ["vault"], "expirationSeconds": 600})).await;
    assert_eq!(code(&access, &token).await, 401);
    let review = async |audiences: Value| {
        let spec = json!({"spec": {"token": token, "audiences": audiences}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        access.send("root", &[], Method::POST, path, Some(spec)).await.1["status"].clone()
    };
    let status = review(json!(["other", "vault"])).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
    assert_eq!(status["user"]["username"], "system:serviceaccount:demo:bot");
    let status = review(json!([])).await;
    assert_eq!(status["authenticated"], Value::Null);
    assert!(status["error"].as_str().unwrap().starts_with("[invalid bearer token, "), "{status}");
    let (status, value) = request(&access, json!({"expirationSeconds": 60})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        value["message"],
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"
    );
}

#[tokio::test]
async fn a_token_secret_is_filled_and_goes_with_its_account() {
    let mut access = world().await;
    let secret = json!({
        "metadata": {"name": "old", "annotations": {"kubernetes.io/service-account.name": "bot"}},
        "type": "kubernetes.io/service-account-token",
    });
    access.make(SECRETS, secret).await;
    access.settle().await;
    let (_, value) = access.send("root", &[], Method::GET, &format!("{SECRETS}/old"), None).await;
    let decode = |name: &str| {
        String::from_utf8(STANDARD.decode(value["data"][name].as_str().unwrap()).unwrap()).unwrap()
    };
    assert_eq!(decode("namespace"), "demo");
    assert!(value["metadata"]["annotations"]["kubernetes.io/service-account.uid"].is_string());
    let token = decode("token");
    assert_eq!(code(&access, &token).await, 201);
    delete(&access, &format!("{ACCOUNTS}/bot")).await;
    access.settle().await;
    assert_eq!(code(&access, &token).await, 401);
    let (status, _) = access.send("root", &[], Method::GET, &format!("{SECRETS}/old"), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn others_can_check_tokens_by_the_published_key() {
    let access = world().await;
    let token = token(&access, json!({})).await;
    let (status, discovery) =
        access.send(&token, &[], Method::GET, "/.well-known/openid-configuration", None).await;
    assert_eq!(status, StatusCode::OK, "{discovery}");
    assert_eq!(discovery["issuer"], "https://kubernetes.default.svc.cluster.local");
    let (_, keys) = access.send(&token, &[], Method::GET, "/openid/v1/jwks", None).await;
    assert_eq!((&keys["keys"][0]["kty"], &keys["keys"][0]["alg"]), (&json!("EC"), &json!("ES256")));
    let (status, _) = access.send("bob", &[], Method::GET, "/openid/v1/jwks", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}
