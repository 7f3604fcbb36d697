//! Sessions of kubectl as scripts: `tests/golden/*.txt` hold commands, and under each what a real kube-apiserver made kubectl say.
//!
//! `GOLDEN_KUBECONFIG=FILE` runs them on the server that FILE names instead of ours, and `GOLDEN_WRITE=1` writes down what is said:
//! together they record a script anew. The real server had no controllers of workloads then, as ours has none.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use regex::Regex;
use tempfile::TempDir;

use super::kubectl::Session;

macro_rules! sessions {
    ($($name:ident $script:literal)*) => {
        $(#[test]
        fn $name() {
            check($script);
        })*
    };
}

sessions! {
    apply_says_what_a_real_server_makes_it_say "apply"
    server_side_apply_says_what_a_real_server_makes_it_say "server-side"
    the_life_of_an_object_is_told_as_by_a_real_server "objects"
    workloads_are_told_as_by_a_real_server "workloads"
    access_is_told_as_by_a_real_server "access"
    kinds_of_ones_own_are_told_as_by_a_real_server "definitions"
    changes_are_told_as_by_a_real_server "watches"
}

#[track_caller]
fn check(script: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{script}.txt"));
    let wanted = fs::read_to_string(&path).unwrap();
    let Some(shell) = Shell::start(&format!("golden-{script}")) else { return };
    let said = shell.play(&wanted);
    if env::var_os("GOLDEN_WRITE").is_some() {
        fs::write(&path, said).unwrap();
        return;
    }
    for (wanted, said) in wanted.split("\n$ ").zip(said.split("\n$ ")) {
        assert_eq!(said, wanted, "{}", path.display());
    }
    assert_eq!(said, wanted, "{}", path.display());
}

/// A shell in which `kubectl` talks to a server, in a namespace of its own.
struct Shell {
    folder: TempDir,
    _session: Option<Session>,
}

impl Shell {
    fn start(namespace: &str) -> Option<Self> {
        let session = Session::start_with(&["--authorization-mode", "RBAC"])?;
        let folder = tempfile::tempdir().unwrap();
        symlink(session.kubectl(), folder.path().join("kubectl")).unwrap();
        let (config, session) = match env::var_os("GOLDEN_KUBECONFIG") {
            Some(path) => (PathBuf::from(path), None),
            None => (session.config(), Some(session)),
        };
        fs::copy(config, folder.path().join("config")).unwrap();
        let shell = Self { folder, _session: session };
        shell.run(&format!(
            "kubectl delete namespace {namespace}; kubectl create namespace {namespace}
             kubectl config set-context --current --namespace={namespace}
             for i in $(seq 100); do kubectl get serviceaccount default >/dev/null 2>&1 && break; sleep 0.2; done"
        ));
        Some(shell)
    }

    fn run(&self, command: &str) -> String {
        let folder = self.folder.path();
        let path = env::var("PATH").unwrap_or_default();
        let output = Command::new("bash")
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .env_clear()
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("HOME", folder)
            .env("KUBECONFIG", folder.join("config"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        comparable(&String::from_utf8_lossy(&output.stdout))
    }

    /// The script with what is said now in place of what stands there.
    fn play(&self, script: &str) -> String {
        let mut played = String::new();
        let mut lines = script.lines();
        // Of what a command said, or between commands: what follows tells.
        let mut empty = String::new();
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("$ ") else {
                if line.is_empty() {
                    empty.push('\n');
                } else if line.starts_with('#') {
                    played += &format!("{empty}{line}\n");
                    empty.clear();
                } else {
                    empty.clear();
                }
                continue;
            };
            played += &std::mem::take(&mut empty);
            let mut command = command.to_owned();
            if command.contains("<<END") {
                for line in lines.by_ref() {
                    command += &format!("\n{line}");
                    if line == "END" {
                        break;
                    }
                }
            }
            played += &format!("$ {command}\n{}", self.run(&command));
        }
        played + &empty
    }
}

/// Text without ids, times, ages and addresses.
fn comparable(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, with) in [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
        (r"127\.0\.0\.1:\d+", "<server>"),
        (r"(?m)\b(\d+[smhd])+ *$", "<age>"),
        (r"\b(configmap.{1,2}b-)\w{5}\b", "${1}<suffix>"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, with).into_owned();
    }
    text.truncate(text.trim_end_matches('\n').len());
    if !text.is_empty() {
        text.push('\n');
    }
    text
}
