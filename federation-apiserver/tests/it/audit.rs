//! The audit log: what a policy asks for is written, a line of JSON for each stage.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use federation_apiserver::{
    Parts,
    audit::{
        Audit, Log, Mode as LogMode, Policy,
        webhook::{Flags, Webhook},
    },
    auth::authz::Mode,
};
use federation_runtime::endpoints::Metrics;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    access::Access,
    https::{self, Https},
    world::{World, config_map},
};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Audited {
    access: Access,
    audit: Arc<Audit>,
    memory: Memory,
}

impl Audited {
    async fn new(rules: &str) -> Self {
        let memory = Memory::default();
        let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
        let log = Log::over(Box::new(memory.clone()), LogMode::Blocking).unwrap();
        let audit = Audit::new(Policy::parse(&policy).unwrap(), Some(log), None);
        let own = Arc::clone(&audit);
        let access = Access::with(&[Mode::Rbac], |parts| Parts { audit: Some(own), ..parts }).await;
        Self { access, audit, memory }
    }

    /// All events of a user.
    async fn events(self, user: &str) -> Vec<Value> {
        self.audit.close().await;
        let bytes = self.memory.0.lock().unwrap().clone();
        let lines = String::from_utf8(bytes).unwrap();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["user"]["username"] == user).collect()
    }
}

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";

#[tokio::test]
async fn metadata_tells_who_did_what_and_how_it_ended() {
    let world = Audited::new("- level: Metadata\n").await;
    let headers = [("user-agent", "t/1"), ("audit-id", "mine"), ("x-forwarded-for", "10.1.1.1")];
    let (status, _) = world.access.send("bob", &headers, Method::GET, &format!("{MAPS}?limit=5"), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let events = world.events("bob").await;
    let stages: Vec<_> = events.iter().map(|event| event["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    let mut last = events[1].clone();
    for time in ["requestReceivedTimestamp", "stageTimestamp"] {
        let text = last[time].as_str().unwrap();
        assert_eq!(text.len(), "2026-01-01T00:00:00.000000Z".len(), "{text}");
        last.as_object_mut().unwrap().remove(time);
    }
    assert_eq!(
        last,
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "mine",
            "stage": "ResponseComplete", "requestURI": format!("{MAPS}?limit=5"), "verb": "list",
            "user": {"username": "bob", "uid": "u-bob", "groups": ["system:authenticated"]},
            "sourceIPs": ["10.1.1.1"], "userAgent": "t/1",
            "objectRef": {"resource": "configmaps", "namespace": "demo", "apiVersion": "v1"},
            "responseStatus": {
                "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
                "details": {"kind": "configmaps"},
                "message": "configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"demo\"",
            },
            "annotations": {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""},
        })
    );
}

#[tokio::test]
async fn objects_are_recorded_as_far_as_the_level_goes() {
    let rules = "- {level: RequestResponse, omitStages: [RequestReceived], omitManagedFields: true, resources: [{group: '', resources: [configmaps]}]}\n\
                 - {level: Request, omitStages: [RequestReceived], resources: [{group: '', resources: [secrets]}]}\n";
    let world = Audited::new(rules).await;
    let access = &world.access;
    access.send("root", &[], Method::POST, MAPS, Some(config_map("a"))).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    access.send("root", &[], Method::POST, "/api/v1/namespaces/demo/secrets", Some(secret)).await;
    access.send("root", &[], Method::GET, "/api/v1/nodes", None).await;
    let events = world.events("root").await;
    assert_eq!(events.len(), 2, "{events:?}");
    let [map, secret] = events.as_slice() else { panic!() };
    assert_eq!(map["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(map["objectRef"]["name"], "a");
    assert!(map["responseObject"]["metadata"]["uid"].is_string());
    assert_eq!(map["responseObject"]["metadata"]["managedFields"], Value::Null);
    assert_eq!(map["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(map["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(secret["requestObject"]["stringData"], json!({"k": "v"}));
    assert_eq!(secret["responseObject"], Value::Null);
}

#[tokio::test]
async fn impersonation_and_failed_authentication_are_recorded() {
    let world = Audited::new("- {level: Metadata, omitStages: [RequestReceived]}\n").await;
    world.access.send("root", &[("impersonate-user", "carol")], Method::GET, MAPS, None).await;
    world.access.send("wrong", &[], Method::GET, MAPS, None).await;
    let (audit, memory) = (Arc::clone(&world.audit), world.memory.clone());
    let events = world.events("root").await;
    let of_carol: Vec<_> =
        events.iter().filter(|event| event["impersonatedUser"]["username"] == "carol").collect();
    assert_eq!(of_carol.len(), 1);
    assert_eq!(of_carol[0]["responseStatus"]["code"], 403);
    let how = json!({"impersonationConstraint": "impersonate:user-info"});
    assert_eq!(of_carol[0]["authenticationMetadata"], how);
    audit.close().await;
    let lines = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    let refused =
        lines.lines().find(|line| line.contains("Authentication failed, attempted: bearer")).unwrap();
    let refused: Value = serde_json::from_str(refused).unwrap();
    assert_eq!(
        (&refused["stage"], &refused["responseStatus"]["code"]),
        (&json!("ResponseStarted"), &json!(401))
    );
}

#[tokio::test]
async fn a_watch_is_recorded_when_it_starts_and_when_it_ends() {
    let world = Audited::new("- {level: Metadata, verbs: [watch]}\n").await;
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let (status, _) = world.access.send("root", &[], Method::GET, &path, None).await;
    assert_eq!(status, StatusCode::OK);
    let events = world.events("root").await;
    let stages: Vec<_> = events.iter().map(|event| event["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
}

/// A server whose audit events go to a webhook.
async fn sending(flags: &Flags) -> (World, Arc<Audit>) {
    let mut audit = None;
    let world = World::with(|parts| {
        let webhook = Webhook::from_flags(flags, &parts.storage, &Metrics::new()).unwrap();
        let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, omitStages: [RequestReceived]}]\n";
        audit = Some(Audit::new(Policy::parse(policy).unwrap(), None, webhook));
        Parts { audit: audit.clone(), ..parts }
    });
    let world = world.await;
    (world, audit.unwrap())
}

#[tokio::test]
async fn events_go_to_a_webhook_in_batches_and_again_if_it_fails() {
    let (folder, lists, calls) =
        (tempfile::tempdir().unwrap(), Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicUsize>::default());
    let (seen, count) = (Arc::clone(&lists), Arc::clone(&calls));
    let server = Https::start(move |request| {
        let (seen, call) = (Arc::clone(&seen), count.fetch_add(1, Ordering::Relaxed));
        async move {
            let list = https::json_of(request).await;
            let mut answer = https::answer(&json!({}));
            if call == 0 {
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            } else {
                seen.lock().unwrap().push(list);
            }
            answer
        }
    })
    .await;
    let flags = Flags {
        audit_webhook_config_file: Some(server.kubeconfig(folder.path())),
        audit_webhook_batch_max_size: 3,
        audit_webhook_initial_backoff: Duration::from_millis(10),
        ..Flags::default()
    };
    let (world, audit) = sending(&flags).await;
    for number in 0..7 {
        world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map(&format!("m{number}")))).await;
    }
    // Closing sends what a batch still waits for.
    audit.close().await;
    let lists = lists.lock().unwrap().clone();
    assert!(
        lists.iter().all(|list| list["kind"] == "EventList" && list["items"].as_array().unwrap().len() <= 3)
    );
    let mut names: Vec<_> = lists
        .iter()
        .flat_map(|list| list["items"].as_array().unwrap())
        .filter(|event| event["objectRef"]["resource"] == "configmaps")
        .map(|event| event["objectRef"]["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    assert_eq!(audit.lost(), 0);
}

#[tokio::test]
async fn events_that_find_the_queue_full_are_counted_and_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let server = Https::start(|_| std::future::pending()).await;
    let flags = Flags {
        audit_webhook_config_file: Some(server.kubeconfig(folder.path())),
        audit_webhook_batch_max_size: 1,
        audit_webhook_batch_buffer_size: 1,
        ..Flags::default()
    };
    let (world, audit) = sending(&flags).await;
    for number in 0..30 {
        world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map(&format!("m{number}")))).await;
    }
    assert!(audit.lost() >= 10, "{}", audit.lost());
}

/// A write that has begun is done, whoever waits for it; and it is told how it ended.
#[tokio::test]
async fn a_write_whose_client_leaves_is_done_and_recorded() {
    let gate = Arc::new(Semaphore::new(0));
    let (reached, mut arrivals) = mpsc::unbounded_channel();
    let hook = {
        let gate = Arc::clone(&gate);
        Https::start(move |request| {
            let (gate, reached) = (Arc::clone(&gate), reached.clone());
            async move {
                let review = https::json_of(request).await;
                let _told = reached.send(());
                let _passed = gate.acquire().await.unwrap();
                let response = json!({"uid": review["request"]["uid"], "allowed": true});
                https::answer(&json!({
                    "apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response,
                }))
            }
        })
        .await
    };
    let world = Audited::new("- {level: Metadata, omitStages: [RequestReceived]}\n").await;
    let rules =
        [json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]})];
    let configuration = json!({"metadata": {"name": "slow"}, "webhooks": [{
        "name": "slow.example.com", "clientConfig": hook.config(), "admissionReviewVersions": ["v1"],
        "sideEffects": "None", "rules": rules,
    }]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    world.access.make(path, configuration).await;
    tokio::select! {
        answer = world.access.send("root", &[], Method::POST, MAPS, Some(config_map("a"))) => panic!("{answer:?}"),
        _ = arrivals.recv() => {}
    }
    gate.add_permits(1);
    let stored = async {
        while world.access.send("root", &[], Method::GET, &format!("{MAPS}/a"), None).await.0
            != StatusCode::OK
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), stored).await.unwrap();
    let memory = world.memory.clone();
    let told = async {
        let is_told =
            |line: &str| line.contains(r#""resource":"configmaps""#) && line.contains(r#""verb":"create""#);
        while !String::from_utf8_lossy(&memory.0.lock().unwrap()).lines().any(is_told) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    let events = world.events("root").await;
    let created: Vec<_> = events
        .iter()
        .filter(|event| event["verb"] == "create" && event["objectRef"]["resource"] == "configmaps")
        .map(|event| (event["stage"].as_str().unwrap(), event["responseStatus"]["code"].as_u64().unwrap()))
        .collect();
    assert_eq!(created, [("ResponseComplete", 201)]);
}
