//! Who may do what: tokens, roles, bindings, impersonation and the reviews, as a real kube-apiserver answers.

use std::sync::Arc;

use bytes::Bytes;
use federation_apiserver::{
    Handler, Parts,
    auth::{
        authz::Mode,
        jwt::Key,
        service_account_tokens::{DEFAULT_ISSUER, ServiceAccountTokens},
        tokens::Tokens,
    },
    housekeeping,
};
use federation_runtime::pki::Authority;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    older::{STATEFUL_SETS, stateful_set, trash},
    world::{World, config_map},
};

/// Users alice, bob and root (of `system:masters`), whose tokens are their names.
const TOKENS: &str = "alice,alice,u-alice,\"dev,qa\"\nbob,bob,u-bob\nroot,root,u-root,system:masters\n";

pub(crate) struct Access {
    world: World,
    housekeeping: housekeeping::Service,
}

impl Access {
    pub(crate) async fn new(modes: &[Mode]) -> Self {
        Self::with(modes, |parts| parts).await
    }

    pub(crate) async fn with(modes: &[Mode], adjust: impl FnOnce(Parts) -> Parts) -> Self {
        let modes = modes.to_vec();
        let mut accounts = None;
        let world = World::with(|parts| {
            let key = Key::generate().unwrap();
            let issuer = DEFAULT_ISSUER.to_owned();
            accounts =
                Some(Arc::new(ServiceAccountTokens::new(key, issuer, Vec::new(), parts.storage.clone())));
            let tokens = Tokens::parse(TOKENS).unwrap();
            adjust(Parts { authorization: modes, tokens, accounts: accounts.clone(), ..parts })
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let authority = Some(Arc::new(Authority::load_or_create(folder.path()).unwrap()));
        let options =
            housekeeping::Options { default_roles: true, accounts, authority, ..Default::default() };
        let storage = world.server.storage().clone();
        let housekeeping = housekeeping::Service::new(storage, Arc::new(world.server.kind_table()), options);
        let mut access = Self { world, housekeeping };
        access.settle().await;
        access
    }

    /// Lets the controllers do what they have to.
    pub(crate) async fn settle(&mut self) {
        loop {
            let before = self.world.server.storage().snapshot().revision();
            assert_eq!(self.housekeeping.step(false).await, 0);
            if self.world.server.storage().snapshot().revision() == before {
                return;
            }
        }
    }

    /// A connection of one whom only what he sends tells.
    pub(crate) fn unknown(&self) -> Handler {
        self.world.server.service_as(None)
    }

    /// One request with a bearer token, none if it is empty.
    pub(crate) async fn send(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let content_type =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", content_type);
        }
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.body(Full::from(Bytes::from(body))).unwrap();
        let response = self.unknown().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        (status, value)
    }

    /// The message of a request that must be answered with `code`.
    #[track_caller]
    fn message(
        &self,
        code: u16,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        let (token, path) = (token.to_owned(), path.to_owned());
        async move {
            let (status, value) = self.send(&token, &[], method, &path, body).await;
            assert_eq!(status, code, "{caller}: {path}: {value}");
            value["message"].as_str().unwrap_or_default().to_owned()
        }
    }

    async fn get(&self, code: u16, token: &str, path: &str) -> String {
        self.message(code, token, Method::GET, path, None).await
    }

    pub(crate) async fn make(&self, path: &str, object: Value) -> Value {
        self.world.expect(StatusCode::CREATED, Method::POST, path, Some(object)).await
    }

    pub(crate) async fn grant(&self, namespace: &str, role: &str, subject: Value) {
        let name = format!("{role}-{}", subject["name"].as_str().unwrap());
        let binding = json!({
            "metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [subject],
        });
        let group = "/apis/rbac.authorization.k8s.io/v1";
        if namespace.is_empty() {
            self.make(&format!("{group}/clusterrolebindings"), binding).await;
        } else {
            self.make(&format!("{group}/namespaces/{namespace}/rolebindings"), binding).await;
        }
    }
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

const RBAC: &[Mode] = &[Mode::Rbac];
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

#[tokio::test]
async fn a_refusal_names_user_verb_resource_and_place() {
    let access = Access::new(RBAC).await;
    for (path, message) in [
        (
            "/apis/apps/v1/namespaces/demo/deployments",
            r#"deployments.apps is forbidden: User "alice" cannot list resource "deployments" in API group "apps" in the namespace "demo""#,
        ),
        (
            "/api/v1/nodes",
            r#"nodes is forbidden: User "alice" cannot list resource "nodes" in API group "" at the cluster scope"#,
        ),
        (
            "/api/v1/namespaces/demo/configmaps/x",
            r#"configmaps "x" is forbidden: User "alice" cannot get resource "configmaps" in API group "" in the namespace "demo""#,
        ),
        (
            "/apis/apps/v1/namespaces/demo/deployments/x/scale",
            r#"deployments.apps "x" is forbidden: User "alice" cannot get resource "deployments/scale" in API group "apps" in the namespace "demo""#,
        ),
        (
            "/api/v1/namespaces/demo/configmaps?watch=1",
            r#"configmaps is forbidden: User "alice" cannot watch resource "configmaps" in API group "" in the namespace "demo""#,
        ),
        ("/metrics", r#"forbidden: User "alice" cannot get path "/metrics""#),
    ] {
        assert_eq!(access.get(403, "alice", path).await, message);
    }
    let (_, status) = access.send("alice", &[], Method::GET, "/api/v1/nodes", None).await;
    assert_eq!(status["reason"], "Forbidden");
    assert_eq!(status["details"], json!({"kind": "nodes"}));
}

#[tokio::test]
async fn who_has_no_credential_sees_only_public_paths() {
    let access = Access::new(RBAC).await;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        let (status, _) = access.send("", &[], Method::GET, path, None).await;
        assert_ne!(status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(
        access.get(403, "", "/api/v1/namespaces").await,
        r#"namespaces is forbidden: User "system:anonymous" cannot list resource "namespaces" in API group "" at the cluster scope"#
    );
    assert_eq!(
        access.get(403, "", "/api").await,
        r#"forbidden: User "system:anonymous" cannot get path "/api""#
    );
    assert_eq!(access.get(401, "wrong", "/version").await, "Unauthorized");
    let open = Access::new(&[Mode::AlwaysAllow]).await;
    assert_eq!(open.get(401, "", "/api/v1/namespaces").await, "Unauthorized");
    assert_eq!(open.get(200, "bob", "/api/v1/namespaces").await, "");
}

#[tokio::test]
async fn parts_of_the_status_of_a_claim_take_permissions_of_their_own() {
    let access = Access::new(RBAC).await;
    let claims = "/apis/resource.k8s.io/v1/namespaces/demo/resourceclaims";
    let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    access.make(claims, json!({"metadata": {"name": "a"}, "spec": spec})).await;
    for (name, part, verb) in [
        ("status", "status", "patch"),
        ("binding", "binding", "patch"),
        ("driver", "driver", "arbitrary-node:patch"),
    ] {
        let resource = format!("resourceclaims/{part}");
        let rule = json!({"apiGroups": ["resource.k8s.io"], "resources": [resource], "verbs": [verb]});
        access.make(ROLES, json!({"metadata": {"name": name}, "rules": [rule]})).await;
    }
    access.grant("demo", "status", user("alice")).await;
    let path = format!("{claims}/a/status");
    let patch =
        |status: Value| access.message(422, "alice", Method::PATCH, &path, Some(json!({"status": status})));
    let device = json!({"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"});
    let allocated = json!({"allocation": {"devices": {"results": [device]}}});
    let forbidden = |verb: &str, part: &str, place: &str| {
        format!(
            r#"User "alice" cannot {verb} resource "resourceclaims/{part}" in API group "resource.k8s.io" {place}"#
        )
    };
    let of_claim = r#"ResourceClaim.resource.k8s.io "a" is invalid"#;
    let binding = forbidden("patch", "binding", "at the cluster scope");
    assert_eq!(
        patch(allocated.clone()).await,
        format!(
            r#"{of_claim}: status: Forbidden: changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="patch" permission: resourceclaims.resource.k8s.io is forbidden: {binding}"#
        )
    );
    access.grant("", "binding", user("alice")).await;
    let (code, claim) =
        access.send("alice", &[], Method::PATCH, &path, Some(json!({"status": allocated}))).await;
    assert_eq!(code, StatusCode::OK, "{claim}");
    let told =
        json!({"devices": [{"driver": "d.example.com", "pool": "p", "device": "x", "data": {"a": 1}}]});
    let driver = forbidden("arbitrary-node:patch", "driver", r#"in the namespace "demo""#);
    assert_eq!(
        patch(told.clone()).await,
        format!(
            r#"{of_claim}: status.devices: Forbidden: changing status.devices requires resource="resourceclaims/driver", verb="[arbitrary-node:patch]" permission: resourceclaims.resource.k8s.io "d.example.com" is forbidden: {driver}"#
        )
    );
    access.grant("demo", "driver", user("alice")).await;
    let (code, claim) = access.send("alice", &[], Method::PATCH, &path, Some(json!({"status": told}))).await;
    assert_eq!(code, StatusCode::OK, "{claim}");
}

#[tokio::test]
async fn modes_are_a_union() {
    let access = Access::new(&[Mode::Rbac, Mode::AlwaysAllow]).await;
    access.get(200, "alice", "/api/v1/nodes").await;
    let denied = Access::new(&[Mode::AlwaysDeny]).await;
    assert_eq!(
        denied.get(403, "alice", "/api/v1/nodes").await,
        r#"nodes is forbidden: User "alice" cannot list resource "nodes" in API group "" at the cluster scope: Everything is forbidden."#
    );
    denied.get(200, "root", "/api/v1/nodes").await;
}

#[tokio::test]
async fn a_binding_counts_at_once_and_its_end_too() {
    let mut access = Access::new(RBAC).await;
    access.settle().await;
    access.grant("demo", "edit", json!({"kind": "Group", "name": "dev"})).await;
    let path = "/api/v1/namespaces/demo/configmaps";
    access.message(201, "alice", Method::POST, path, Some(config_map("a"))).await;
    access.get(200, "alice", "/api/v1/namespaces/demo/secrets").await;
    access.get(403, "alice", "/api/v1/namespaces/default/configmaps").await;
    access.get(403, "bob", path).await;
    let binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/rolebindings/edit-dev";
    access.world.expect(StatusCode::OK, Method::DELETE, binding, None).await;
    access.get(403, "alice", path).await;
    access.grant("demo", "nowhere", user("bob")).await;
    assert!(
        access
            .get(403, "bob", path)
            .await
            .ends_with(r#": RBAC: clusterrole.rbac.authorization.k8s.io "nowhere" not found"#)
    );
}

#[tokio::test]
async fn who_rules_in_one_namespace_reaches_no_other_by_way_of_it() {
    let access = Access::new(RBAC).await;
    access.grant("demo", "cluster-admin", user("bob")).await;
    access.get(200, "bob", "/api/v1/namespaces/demo").await;
    access.get(403, "bob", "/api/v1/namespaces/default").await;
    let inside = "/api/v1/namespaces/demo/namespaces";
    let named = format!("{inside}/default");
    access.get(404, "bob", inside).await;
    for path in [&named, &format!("{inside}/demo"), &format!("{named}/status")] {
        access.get(404, "bob", path).await;
    }
    access.message(404, "bob", Method::POST, inside, Some(json!({"metadata": {"name": "new"}}))).await;
    access.message(404, "bob", Method::DELETE, &named, None).await;
    access.message(404, "bob", Method::PUT, &format!("{named}/finalize"), Some(json!({}))).await;
    access.get(404, "bob", "/api/v1/namespaces/demo/nodes").await;
}

#[tokio::test]
async fn a_name_confines_get_list_and_watch() {
    let access = Access::new(RBAC).await;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "list"]});
    access.make(ROLES, json!({"metadata": {"name": "one"}, "rules": [rule]})).await;
    access.grant("demo", "one", user("bob")).await;
    access.make("/api/v1/namespaces/demo/configmaps", config_map("a")).await;
    let path = "/api/v1/namespaces/demo/configmaps";
    access.get(200, "bob", &format!("{path}/a")).await;
    access.get(403, "bob", &format!("{path}/b")).await;
    access.get(403, "bob", path).await;
    access.get(200, "bob", &format!("{path}?fieldSelector=metadata.name%3Da")).await;
    access.get(403, "bob", &format!("{path}?fieldSelector=metadata.name%3Db")).await;
}

#[tokio::test]
async fn aggregated_roles_follow_their_parts() {
    let mut access = Access::new(RBAC).await;
    let view = access.world.expect(StatusCode::OK, Method::GET, &format!("{ROLES}/view"), None).await;
    assert!(view["rules"].to_string().contains("endpointslices"));
    let part = json!({
        "metadata": {"name": "widgets", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}],
    });
    access.make(ROLES, part).await;
    access.settle().await;
    for name in ["view", "edit", "admin"] {
        let role = access.world.expect(StatusCode::OK, Method::GET, &format!("{ROLES}/{name}"), None).await;
        assert!(role["rules"].to_string().contains("widgets"), "{name}: {role}");
    }
}

#[tokio::test]
async fn nobody_grants_what_he_does_not_hold() {
    let mut access = Access::new(RBAC).await;
    access.settle().await;
    access.grant("demo", "admin", user("alice")).await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/roles";
    let role = |name: &str, resource: &str| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get", "list"]}]});
    access.message(201, "alice", Method::POST, roles, Some(role("good", "secrets"))).await;
    assert_eq!(
        access.message(403, "alice", Method::POST, roles, Some(role("bad", "nodes"))).await,
        "roles.rbac.authorization.k8s.io \"bad\" is forbidden: user \"alice\" (groups=[\"dev\" \"qa\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}"
    );
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/rolebindings";
    let binding = |role: &str| json!({"metadata": {"name": format!("bob-{role}")}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [user("bob")]});
    access.message(201, "alice", Method::POST, bindings, Some(binding("view"))).await;
    let message = access.message(403, "alice", Method::POST, bindings, Some(binding("cluster-admin"))).await;
    assert!(message.starts_with(
        r#"rolebindings.rbac.authorization.k8s.io "bob-cluster-admin" is forbidden: user "alice""#
    ));
    assert_eq!(
        access.message(404, "alice", Method::POST, bindings, Some(binding("gone"))).await,
        r#"clusterroles.rbac.authorization.k8s.io "gone" not found"#
    );
    let bind = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"], "verbs": ["bind"]});
    access.make(ROLES, json!({"metadata": {"name": "binder"}, "rules": [bind]})).await;
    access.grant("demo", "binder", user("alice")).await;
    access.message(201, "alice", Method::POST, bindings, Some(binding("cluster-admin"))).await;
}

#[tokio::test]
async fn an_apply_that_creates_needs_create() {
    let access = Access::new(RBAC).await;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]});
    access.make(ROLES, json!({"metadata": {"name": "patcher"}, "rules": [rule]})).await;
    access.grant("demo", "patcher", user("bob")).await;
    let path = "/api/v1/namespaces/demo/configmaps/a?fieldManager=t";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let (status, _) = access.send("bob", &headers, Method::PATCH, path, Some(config_map("a"))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    access.make("/api/v1/namespaces/demo/configmaps", config_map("a")).await;
    let (status, value) = access
        .send("bob", &headers, Method::PATCH, &format!("{path}&force=true"), Some(config_map("a")))
        .await;
    assert_eq!(status, StatusCode::OK, "{value}");
}

#[tokio::test]
async fn one_acts_as_another_only_with_permission() {
    let access = Access::new(RBAC).await;
    access.grant("demo", "view", user("carol")).await;
    let path = "/api/v1/namespaces/demo/configmaps";
    let carol = [("impersonate-user", "carol")];
    let (status, value) = access.send("root", &carol, Method::GET, path, None).await;
    assert_eq!(status, StatusCode::OK, "{value}");
    let (status, value) = access.send("bob", &carol, Method::GET, path, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        value["message"],
        r#"configmaps is forbidden: User "bob" cannot impersonate-on:user-info:list resource "configmaps" in API group "" in the namespace "demo""#
    );
    let rule = json!({"apiGroups": [""], "resources": ["users"], "resourceNames": ["carol"], "verbs": ["impersonate"]});
    access.make(ROLES, json!({"metadata": {"name": "carols"}, "rules": [rule]})).await;
    access.grant("", "carols", user("bob")).await;
    let (status, _) = access.send("bob", &carol, Method::GET, path, None).await;
    assert_eq!(status, StatusCode::OK);
    let with_group = [("impersonate-user", "carol"), ("impersonate-group", "system:masters")];
    let (status, value) = access.send("bob", &with_group, Method::GET, path, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        value["message"],
        r#"groups "system:masters" is forbidden: User "bob" cannot impersonate resource "groups" in API group "" at the cluster scope"#
    );
    let (status, value) = access.send("root", &[("impersonate-group", "dev")], Method::GET, path, None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        value["message"],
        r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"dev"}, Extra:map[string][]string(nil)} without impersonating a user name"#
    );
}

#[tokio::test]
async fn one_acts_as_another_for_some_requests_only() {
    let access = Access::new(RBAC).await;
    for (namespace, role, name) in [("demo", "view", "carol"), ("", "view", "system:serviceaccount:demo:a")] {
        access.grant(namespace, role, user(name)).await;
    }
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["impersonate-on:user-info:list", "impersonate-on:serviceaccount:list"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["users"], "resourceNames": ["carol"], "verbs": ["impersonate:user-info"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["serviceaccounts"], "verbs": ["impersonate:serviceaccount"]},
    ]);
    access.make(ROLES, json!({"metadata": {"name": "some"}, "rules": rules})).await;
    access.grant("", "some", user("bob")).await;
    let (all, one) = ("/api/v1/namespaces/demo/configmaps", "/api/v1/namespaces/demo/configmaps/a");
    let send = async |headers: &[(&'static str, &'static str)], path: &str| {
        let (status, value) = access.send("bob", headers, Method::GET, path, None).await;
        (status, value["message"].as_str().unwrap_or_default().to_owned())
    };
    let carol = [("impersonate-user", "carol")];
    assert_eq!(send(&carol, all).await.0, StatusCode::OK);
    let (status, message) = send(&carol, one).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        message,
        r#"configmaps "a" is forbidden: User "bob" cannot impersonate-on:user-info:get resource "configmaps" in API group "" in the namespace "demo""#
    );
    let account = [("impersonate-user", "system:serviceaccount:demo:a")];
    assert_eq!(send(&account, all).await.0, StatusCode::OK);
    let (status, message) =
        send(&[("impersonate-user", "carol"), ("impersonate-group", "system:masters")], all).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        message,
        r#"groups.authentication.k8s.io "system:masters" is forbidden: User "bob" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the system:masters group is not allowed"#
    );
    let (status, message) = send(&[("impersonate-user", "system:node:n")], all).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(message.contains("cannot impersonate-on:arbitrary-node:list"), "{message}");
}

#[tokio::test]
async fn a_web_socket_does_no_more_than_a_post() {
    let access = Access::new(RBAC).await;
    let rule = json!({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]});
    access.make(ROLES, json!({"metadata": {"name": "getter"}, "rules": [rule]})).await;
    access.grant("", "getter", user("bob")).await;
    let path = "/api/v1/namespaces/demo/pods/a/exec?command=id&container=c";
    let (status, value) = access.send("bob", &[], Method::GET, path, None).await;
    assert_eq!((status, &value["message"]), (StatusCode::FORBIDDEN, &json!(r#"pods "a" is forbidden: "#)));
    let (status, _) = access.send("root", &[], Method::GET, path, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn reviews_tell_who_one_is_and_what_one_may() {
    let access = Access::new(RBAC).await;
    access.grant("demo", "view", user("bob")).await;
    let ask = async |token: &'static str, path: &str, spec: Value| {
        let group = if path.ends_with("selfsubjectreviews") || path.ends_with("tokenreviews") {
            "/apis/authentication.k8s.io/v1/"
        } else {
            "/apis/authorization.k8s.io/v1/"
        };
        access.send(token, &[], Method::POST, &format!("{group}{path}"), Some(json!({"spec": spec}))).await
    };
    let (status, value) = access
        .send(
            "alice",
            &[],
            Method::POST,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            Some(json!({})),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{value}");
    assert_eq!(
        value["status"]["userInfo"],
        json!({"username": "alice", "uid": "u-alice", "groups": ["dev", "qa", "system:authenticated"]})
    );
    let can = json!({"resourceAttributes": {"namespace": "demo", "verb": "list", "resource": "pods"}});
    let (_, value) = ask("bob", "selfsubjectaccessreviews", can.clone()).await;
    assert_eq!(value["status"]["allowed"], true);
    assert_eq!(
        value["status"]["reason"],
        r#"RBAC: allowed by RoleBinding "view-bob/demo" of ClusterRole "view" to User "bob""#
    );
    let (_, value) = ask("alice", "selfsubjectaccessreviews", can.clone()).await;
    assert_eq!(value["status"], json!({"allowed": false}));
    let mut other = can.clone();
    other["user"] = "bob".into();
    let (status, _) = ask("alice", "subjectaccessreviews", other.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (_, value) = ask("root", "subjectaccessreviews", other.clone()).await;
    assert_eq!(value["status"]["allowed"], true);
    let (status, _) = ask("root", "namespaces/default/localsubjectaccessreviews", other.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, value) = ask("root", "namespaces/demo/localsubjectaccessreviews", other).await;
    assert_eq!((status, &value["status"]["allowed"]), (StatusCode::CREATED, &json!(true)));
    let (status, value) = ask("root", "subjectaccessreviews", json!({"user": "x"})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{value}");
    let (_, value) = ask("bob", "selfsubjectrulesreviews", json!({"namespace": "demo"})).await;
    assert!(value["status"]["resourceRules"].to_string().contains("selfsubjectaccessreviews"), "{value}");
    assert!(value["status"]["nonResourceRules"].to_string().contains("/openapi/*"), "{value}");
    // The answer is an object of its own.
    assert_eq!((&value["metadata"], &value["spec"]), (&json!({}), &json!({})));
    // Whom it is about is no part of a question about oneself.
    let mut about = can.clone();
    about["user"] = "bob".into();
    let (_, value) = ask("alice", "selfsubjectaccessreviews", about).await;
    assert_eq!(value["spec"], can);
    let (_, value) = ask("root", "tokenreviews", json!({"token": "bob"})).await;
    assert_eq!(value["status"]["user"]["username"], "bob");
    let (_, value) = ask("root", "tokenreviews", json!({"token": "nobody's"})).await;
    assert_eq!(value["status"]["authenticated"], Value::Null);
    let (status, _) = access
        .send("root", &[], Method::GET, "/apis/authorization.k8s.io/v1/subjectaccessreviews", None)
        .await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn who_may_not_read_the_trash_brings_nothing_back_from_it() {
    let access = Access::new(RBAC).await;
    trash(&access.world, "kept", "statefulsets", &stateful_set("a.b")).await;
    access.grant("demo", "admin", user("bob")).await;
    let path = format!("{STATEFUL_SETS}?trash=kept");
    let (status, refused) = access.send("bob", &[], Method::POST, &path, Some(stateful_set("a.b"))).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    let why = r#"User "bob" cannot get resource "trash" in API group "federation.rs" at the cluster scope"#;
    assert!(refused["message"].as_str().unwrap().contains(why), "{refused}");
    let (status, restored) = access.send("root", &[], Method::POST, &path, Some(stateful_set("a.b"))).await;
    assert_eq!(status, StatusCode::CREATED, "{restored}");
}
