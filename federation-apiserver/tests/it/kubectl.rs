//! A session of kubectl with the server as it runs: the real binary, TLS, the kubeconfig that it wrote, no special flags.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// For what should take milliseconds, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server process and a kubectl that talks to it.
pub(crate) struct Session {
    url: String,
    kubectl: PathBuf,
    folder: TempDir,
    server: Child,
}

impl Session {
    /// Starts a server; none where there is no kubectl and nobody insists. CI insists.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further arguments for the server.
    pub(crate) fn start_with(arguments: &[&str]) -> Option<Self> {
        let Some(kubectl) = find_kubectl() else {
            assert!(env::var_os("CI").is_none(), "kubectl is not on PATH: `cargo xtask test` installs it");
            eprintln!("no kubectl on PATH: nothing is tested here; `cargo xtask test` installs it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut server = Command::new(env!("CARGO_BIN_EXE_federation-apiserver"))
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = lines_of(server.stdout.take().unwrap());
        let ready = lines.recv_timeout(PATIENCE).unwrap();
        assert!(ready.starts_with("ready https://127.0.0.1:"), "{ready}");
        let url = ready.trim_start_matches("ready ").trim().to_owned();
        Some(Self { url, kubectl, folder, server })
    }

    /// The server's data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The program.
    pub(crate) fn kubectl(&self) -> &Path {
        &self.kubectl
    }

    /// The kubeconfig of the administrator.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("data/admin.conf")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.folder.path().join("data/admin.conf"))
            .env("KUBE_EDITOR", self.folder.path().join("editor"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str, stdin: &str) -> Output {
        let arguments = words(line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.command(&arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed, and must say everything in `expect`. Returns what it said.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str, expect: &[&str]) -> String {
        self.ok_with(line, "", expect)
    }

    #[track_caller]
    pub(crate) fn ok_with(&self, line: &str, stdin: &str, expect: &[&str]) -> String {
        let (code, said) = told(self.run(line, stdin));
        assert_eq!(code, Some(0), "kubectl {line}\n{said}");
        for text in expect {
            assert!(said.contains(text), "kubectl {line}: no {text:?} in\n{said}");
        }
        assert!(!said.contains("Warning:"), "kubectl {line}\n{said}");
        said
    }

    /// Runs a command that must end with exit status 1 and say everything in `expect`.
    #[track_caller]
    pub(crate) fn fails(&self, line: &str, stdin: &str, expect: &[&str]) {
        let (code, said) = told(self.run(line, stdin));
        assert_eq!(code, Some(1), "kubectl {line}\n{said}");
        for text in expect {
            assert!(said.contains(text), "kubectl {line}: no {text:?} in\n{said}");
        }
    }

    /// Starts a command that goes on.
    fn follow(&self, line: &str) -> Follower {
        let arguments = words(line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = self.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        Follower { child, lines }
    }

    /// What `kubectl edit` starts: a sed script.
    fn set_editor(&self, script: &str) {
        let path = self.folder.path().join("editor");
        fs::write(&path, format!("#!/bin/sh\nexec sed -i '{script}' \"$1\"\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _gone = self.server.kill();
        let _status = self.server.wait();
    }
}

struct Follower {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    /// Waits for a line that has all of `expect`.
    #[track_caller]
    fn wait_for(&self, expect: &[&str]) {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else { panic!("no {expect:?} in {seen:#?}") };
            if expect.iter().all(|text| line.contains(text)) {
                return;
            }
            seen.push(line);
        }
    }

    /// Waits for the end, which must be a good one.
    #[track_caller]
    fn finish(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn find_kubectl() -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|folder| folder.join("kubectl")).find(|path: &PathBuf| Path::is_file(path))
}

fn lines_of(output: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn told(output: Output) -> (Option<i32>, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

/// Splits at spaces, but not within single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop, labels: {app: web}}
data: {colour: green}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1.27", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
"#;

#[test]
fn objects_are_made_listed_and_described() {
    let Some(session) = Session::start() else { return };
    session.ok("create namespace shop", &["namespace/shop created"]);
    session.ok("create configmap plain -n shop --from-literal=a=1", &["configmap/plain created"]);
    session.ok("create secret generic key -n shop --from-literal=password=x", &["secret/key created"]);
    session.ok("create serviceaccount robot -n shop", &["serviceaccount/robot created"]);
    session.ok(
        "create deployment api -n shop --image=nginx:1.27 --replicas=3",
        &["deployment.apps/api created"],
    );
    session.fails("create configmap plain -n shop", "", &["configmaps \"plain\" already exists"]);
    session.fails("create configmap plain -n nowhere", "", &["namespaces \"nowhere\" not found"]);
    session.fails(
        "get secret missing -n shop",
        "",
        &["Error from server (NotFound): secrets \"missing\" not found"],
    );

    session.ok("get configmaps -n shop", &["NAME", "DATA", "AGE", "plain"]);
    session.ok("get cm plain -n shop -o yaml", &["apiVersion: v1", "kind: ConfigMap", "a: \"1\""]);
    session.ok(
        "get deployments -n shop -o wide",
        &[
            "READY",
            "UP-TO-DATE",
            "AVAILABLE",
            "CONTAINERS",
            "IMAGES",
            "SELECTOR",
            "0/3",
            "nginx:1.27",
            "app=api",
        ],
    );
    session.ok("get all -n shop", &["deployment.apps/api"]);
    session.ok("get secret key -n shop -o jsonpath={.data.password}", &["eA=="]);
    session.ok(
        "get cm,secret,sa -A --show-labels",
        &["NAMESPACE", "configmap/plain", "secret/key", "serviceaccount/robot"],
    );
    session.ok("get ns shop", &["STATUS", "Active"]);
    session.ok("describe cm plain -n shop", &["Name:", "plain", "Data"]);
    session.ok("describe secret key -n shop", &["password:", "1 bytes"]);
    session.ok(
        "describe deployment api -n shop",
        &["Replicas:", "3 desired", "nginx:1.27", "RollingUpdateStrategy"],
    );
    session.ok("describe ns shop", &["Status:", "Active"]);

    session.ok(
        "api-resources",
        &["deployments", "cm", "federation.rs/v1alpha1", "placementpolicies", "Cluster"],
    );
    session.ok("api-versions", &["apps/v1", "events.k8s.io/v1", "federation.rs/v1alpha1"]);
    session.ok("explain deployment.spec.replicas", &["FIELD: replicas <integer>"]);
    session.ok("explain placementpolicy.spec", &["KIND:", "PlacementPolicy", "FIELDS:"]);
    session.ok("version", &["Server Version"]);
}

#[test]
fn manifests_are_applied_compared_edited_and_patched() {
    let Some(session) = Session::start() else { return };
    session.ok("create namespace shop", &[]);
    let all = ["configmap/settings", "deployment.apps/web", "service/web"];
    session.ok_with(
        "apply -f -",
        MANIFEST,
        &all.map(|name| format!("{name} created")).each_ref().map(String::as_str),
    );
    session.ok_with(
        "apply -f -",
        MANIFEST,
        &all.map(|name| format!("{name} unchanged")).each_ref().map(String::as_str),
    );
    session.ok_with("diff -f -", MANIFEST, &[]);
    let changed = MANIFEST.replace("green", "blue").replace("nginx:1.27", "nginx:1.28");
    session.fails(
        "diff -f -",
        &changed,
        &["-  colour: green", "+  colour: blue", "-      - image: nginx:1.27", "+      - image: nginx:1.28"],
    );
    session.ok_with(
        "apply --dry-run=server -f -",
        &changed,
        &["configmap/settings configured (server dry run)"],
    );
    session.ok("get cm settings -n shop -o jsonpath={.data.colour}", &["green"]);
    session.ok_with(
        "apply -f -",
        &changed,
        &["configmap/settings configured", "deployment.apps/web configured", "service/web unchanged"],
    );
    session.ok_with(
        "apply --server-side --field-manager=other --force-conflicts -f -",
        MANIFEST,
        &["serverside-applied"],
    );
    session.ok("get cm settings -n shop -o jsonpath={.data.colour}", &["green"]);
    let unknown = MANIFEST.replace("replicas: 2", "replicaz: 2");
    session.fails("apply -f -", &unknown, &["unknown field \"spec.replicaz\""]);
    let wrong = MANIFEST.replace("replicas: 2", "replicas: many");
    session.fails("apply -f -", &wrong, &["replicas"]);
    session.ok_with("replace -f -", MANIFEST, &["configmap/settings replaced"]);

    session.set_editor("s/green/red/");
    session.ok("edit cm settings -n shop", &["configmap/settings edited"]);
    session.ok("get cm settings -n shop -o jsonpath={.data.colour}", &["red"]);

    let colour = |expect: &str| session.ok("get cm settings -n shop -o jsonpath={.data.colour}", &[expect]);
    session.ok(r#"patch cm settings -n shop --type=merge -p '{"data":{"colour":"one"}}'"#, &["patched"]);
    colour("one");
    session.ok(r#"patch cm settings -n shop --type=json -p '[{"op":"replace","path":"/data/colour","value":"two"}]'"#, &["patched"]);
    colour("two");
    session.ok(r#"patch cm settings -n shop -p '{"data":{"colour":"three"}}'"#, &["patched"]);
    colour("three");
    session.ok(r#"patch cm settings -n shop -p '{"data":{"colour":"three"}}'"#, &["patched (no change)"]);
    session.ok(
        r#"patch deployment web -n shop -p '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"busybox"}]}}}}'"#,
        &["patched"],
    );
    session.ok("get deployment web -n shop -o jsonpath={..containers[*].name}", &["side web"]);
    session.ok("set image deployment/web -n shop web=nginx:1.29", &["image updated"]);
    session.ok("label cm settings -n shop tier=front", &["labeled"]);
    session.ok("get cm -n shop -l tier=front -o name", &["configmap/settings"]);
    session.fails("label cm settings -n shop tier=back", "", &["already has a value"]);
    session.ok("annotate deployment web -n shop note=x", &["annotated"]);
    session.ok("scale deployment web -n shop --replicas=5", &["scaled"]);
    session.ok("get deployment web -n shop -o jsonpath={.spec.replicas}", &["5"]);
    session.fails(
        "scale deployment web -n shop --replicas=6 --current-replicas=1",
        "",
        &["Expected replicas to be 1"],
    );
}

#[test]
fn watches_waits_and_rollouts_end_when_they_should() {
    let Some(session) = Session::start() else { return };
    session.ok("create namespace shop", &[]);
    let watch = session.follow("get cm -n shop -w");
    watch.wait_for(&["kube-root-ca.crt"]);
    session.ok_with("apply -f -", MANIFEST, &[]);
    watch.wait_for(&["settings", "1"]);
    let events = session.follow("get cm -n shop -l app=web --watch-only --output-watch-events");
    // Its first event tells that it is connected.
    while events.lines.try_recv().is_err() {
        let stamp = jiff::Timestamp::now().as_nanosecond();
        session.ok(&format!("annotate --overwrite cm settings -n shop at={stamp}"), &[]);
    }
    session.ok("label cm settings -n shop app-", &["unlabeled"]);
    events.wait_for(&["DELETED", "settings"]);

    let rollout = session.follow("rollout status deployment/web -n shop --timeout=30s");
    rollout.wait_for(&["Waiting for deployment"]);
    let status = r#"{"status":{"observedGeneration":1,"replicas":2,"updatedReplicas":2,"readyReplicas":2,"availableReplicas":2,"conditions":[{"type":"Available","status":"True","reason":"Test","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z","lastUpdateTime":"2026-01-01T00:00:00Z"}]}}"#;
    let condition = session.follow("wait deployment/web -n shop --for=condition=Available --timeout=30s");
    let replicas =
        session.follow("wait deployment/web -n shop --for=jsonpath={.status.readyReplicas}=2 --timeout=30s");
    session.ok(
        &format!("patch deployment web -n shop --subresource=status --type=merge -p '{status}'"),
        &["patched"],
    );
    rollout.wait_for(&["successfully rolled out"]);
    condition.finish();
    replicas.finish();
    rollout.finish();
    session.ok("get deployment web -n shop", &["2/2"]);

    let gone = session.follow("wait cm/settings -n shop --for=delete --timeout=30s");
    session.ok("delete cm settings -n shop", &["deleted"]);
    gone.finish();
    session.fails(
        "wait deployment/web -n shop --for=condition=Never --timeout=0",
        "",
        &["condition not met"],
    );
}

/// A ReplicaSet owned by a Deployment.
fn dependent(owner_uid: &str) -> String {
    format!(
        r"
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: child
  namespace: shop
  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: web, uid: {owner_uid}, blockOwnerDeletion: true, controller: true}}]
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: web, image: nginx}}]}}
"
    )
}

#[test]
fn deletes_cascade_as_asked() {
    let Some(session) = Session::start() else { return };
    session.ok("create namespace shop", &[]);
    for (cascade, child_stays) in [("background", false), ("foreground", false), ("orphan", true)] {
        session.ok_with("apply -f -", MANIFEST, &[]);
        let uid = session.ok("get deployment web -n shop -o jsonpath={.metadata.uid}", &[]);
        session.ok_with("create -f -", &dependent(&uid), &["replicaset.apps/child created"]);
        session.ok(&format!("delete deployment web -n shop --cascade={cascade} --timeout=30s"), &["deleted"]);
        if child_stays {
            session.ok("wait rs/child -n shop --for=jsonpath={.metadata.name}=child --timeout=30s", &[]);
            let owners = session.ok("get rs child -n shop -o jsonpath={.metadata.ownerReferences}", &[]);
            assert_eq!(owners, "", "a released child has no owner");
        } else {
            session.ok("wait rs/child -n shop --for=delete --timeout=30s", &[]);
        }
    }
    session.ok("delete rs,cm,svc -n shop -l app=web", &["settings"]);
    session.ok_with("delete --ignore-not-found -f -", MANIFEST, &[]);
    session.ok("delete namespace shop --timeout=30s", &["deleted"]);
    session.fails("get namespace shop", "", &["NotFound"]);
    for cascade in ["foreground", "orphan"] {
        session.ok("create namespace shop", &[]);
        session.ok_with("apply -f -", MANIFEST, &[]);
        session.ok(&format!("delete namespace shop --cascade={cascade} --timeout=30s"), &["deleted"]);
    }
    session.fails("delete namespace default", "", &["(Forbidden)", "this namespace may not be deleted"]);
}

#[test]
fn a_deleted_namespace_tells_its_contents_what_was_asked() {
    let Some(session) = Session::start() else { return };
    session.ok("create namespace shop", &[]);
    session.ok_with("apply -f -", MANIFEST, &[]);
    session.ok(r#"patch cm settings -n shop --type=merge -p '{"metadata":{"finalizers":["federation.rs/member-copies"]}}'"#, &[]);
    session.ok("delete namespace shop --wait=false", &["deleted"]);
    session.ok("wait ns/shop --for=condition=NamespaceFinalizersRemaining --timeout=30s", &["condition met"]);
    session.ok(
        r"get cm settings -n shop -o 'jsonpath={.metadata.annotations.federation\.rs/deletion-propagation}'",
        &["Background"],
    );
    session.fails("create cm late -n shop", "", &["is forbidden", "because it is being terminated"]);
    let gone = session.follow("wait ns/shop --for=delete --timeout=30s");
    session.ok(r#"patch cm settings -n shop --type=merge -p '{"metadata":{"finalizers":null}}'"#, &[]);
    gone.finish();
}

#[test]
fn events_are_seen_in_both_groups() {
    let Some(session) = Session::start() else { return };
    session.ok("create namespace shop", &[]);
    session.ok_with("apply -f -", MANIFEST, &[]);
    let event = r#"
apiVersion: v1
kind: Event
metadata: {name: web.1, namespace: shop}
involvedObject: {apiVersion: apps/v1, kind: Deployment, name: web, namespace: shop, uid: UID}
reason: Placed
message: two clusters
type: Normal
source: {component: test}
firstTimestamp: "2026-01-01T00:00:00Z"
lastTimestamp: "2026-01-01T00:00:00Z"
count: 1
---
apiVersion: events.k8s.io/v1
kind: Event
metadata: {name: web.2, namespace: shop}
regarding: {apiVersion: apps/v1, kind: Deployment, name: web, namespace: shop}
reason: Moved
note: one cluster
type: Warning
action: Move
eventTime: "2026-01-01T00:00:00.000000Z"
reportingController: test
reportingInstance: test-1
"#;
    let uid = session.ok("get deployment web -n shop -o jsonpath={.metadata.uid}", &[]);
    session.ok_with(
        "create -f -",
        &event.replace("UID", &uid),
        &["event/web.1 created", "event.events.k8s.io/web.2 created"],
    );
    session.ok(
        "get events -n shop",
        &[
            "LAST SEEN",
            "TYPE",
            "REASON",
            "OBJECT",
            "MESSAGE",
            "deployment/web",
            "two clusters",
            "one cluster",
        ],
    );
    session.ok("events -n shop --for deployment/web", &["two clusters", "one cluster"]);
    session.ok("events -n shop --types=Warning", &["one cluster"]);
    session.ok("get events.v1.events.k8s.io -n shop -o yaml", &["note: two clusters"]);
    session
        .ok("get events.v1. -n shop --field-selector involvedObject.name=web,type=Warning", &["one cluster"]);
    session.ok("describe deployment web -n shop", &["Events:", "two clusters"]);
}
