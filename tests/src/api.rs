//! One Kubernetes API, through kubectl.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{Outcome, run};

/// An API as kubectl sees it.
#[derive(Clone, Debug)]
pub struct Api {
    kubeconfig: PathBuf,
    cache: PathBuf,
    namespace: Option<&'static str>,
}

impl Api {
    /// The API of a kubeconfig. What kubectl caches goes to `cache`.
    pub fn new(kubeconfig: &Path, cache: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), cache: cache.to_owned(), namespace: None }
    }

    /// The same, asked from inside a network namespace: of a site that is cut off, by who is there.
    #[must_use]
    pub fn from_inside(mut self, namespace: &'static str) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.namespace {
            None => Command::new("kubectl"),
            Some(namespace) => {
                let mut inside = Command::new("nsenter");
                inside.arg(format!("--net=/run/netns/{namespace}")).arg("kubectl");
                inside
            }
        };
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache);
        command.args(arguments);
        // What limits the whole answer must not limit a watch.
        if !arguments.iter().any(|word| ["wait", "rollout", "-w"].contains(word)) {
            command.arg("--request-timeout=10s");
        }
        command
    }

    /// Runs kubectl, whatever comes of it.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    pub fn outcome(&self, arguments: &[&str]) -> Result<Outcome> {
        Outcome::of(&mut self.command(arguments))
    }

    /// Runs kubectl, which must succeed. Returns what it printed.
    ///
    /// # Errors
    /// When it does not.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(arguments))
    }

    /// `kubectl apply` of manifests in a text.
    ///
    /// # Errors
    /// When it fails.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(file.path(), manifests)?;
        self.kubectl(&["apply", "-f", &file.path().to_string_lossy()])
    }

    /// One object, `None` if there is none. `name` is `kind/name`.
    ///
    /// # Errors
    /// When the API does not answer, or refuses.
    pub fn get(&self, namespace: &str, name: &str) -> Result<Option<Value>> {
        let outcome = self.outcome(&["-n", namespace, "get", name, "-o", "json"])?;
        if outcome.success {
            return Ok(Some(serde_json::from_str(&outcome.stdout)?));
        }
        if outcome.stderr.contains("(NotFound)") {
            return Ok(None);
        }
        bail!("get {name}: {}", outcome.stderr.trim());
    }

    /// One object that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn existing(&self, namespace: &str, name: &str) -> Result<Value> {
        self.get(namespace, name)?.with_context(|| format!("there is no {name} in {namespace}"))
    }

    /// All objects of a kind in a namespace.
    ///
    /// # Errors
    /// When the API does not answer, or refuses.
    pub fn list(&self, namespace: &str, kind: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["-n", namespace, "get", kind, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// When the API does not answer, or refuses.
    pub fn has(&self, namespace: &str, name: &str) -> Result<bool> {
        Ok(self.get(namespace, name)?.is_some())
    }

    /// The value at a JSON pointer of one object; `Null` if the object or the value is not there.
    ///
    /// # Errors
    /// When the API does not answer, or refuses.
    pub fn field(&self, namespace: &str, name: &str, pointer: &str) -> Result<Value> {
        let object = self.get(namespace, name)?.unwrap_or_default();
        Ok(object.pointer(pointer).cloned().unwrap_or_default())
    }

    /// `spec.replicas`, 0 if the object is not there.
    ///
    /// # Errors
    /// When the API does not answer, or refuses.
    pub fn replicas(&self, namespace: &str, name: &str) -> Result<i64> {
        Ok(self.field(namespace, name, "/spec/replicas")?.as_i64().unwrap_or(0))
    }

    /// One request of curl with the kubeconfig's client certificate: for what kubectl would not say. Returns the status code and the body.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn raw(&self, method: &str, path: &str, body: Option<&str>) -> Result<(u16, String)> {
        let server =
            self.kubectl(&["config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}"])?;
        let folder = tempfile::tempdir()?;
        let mut files = Vec::new();
        for (file, pointer) in [
            ("ca", "{.clusters[0].cluster.certificate-authority-data}"),
            ("cert", "{.users[0].user.client-certificate-data}"),
            ("key", "{.users[0].user.client-key-data}"),
        ] {
            let encoded = self.kubectl(&["config", "view", "--raw", "-o", &format!("jsonpath={pointer}")])?;
            let path = folder.path().join(file);
            std::fs::write(&path, &encoded)?;
            let decoded = run(Command::new("base64").arg("-d").arg(&path))?;
            std::fs::write(&path, decoded)?;
            files.push(path);
        }
        let [ca, cert, key] = files.as_slice() else { bail!("three files were written") };
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "10", "-X", method, "-w", "\n%{http_code}"]);
        command.arg("--cacert").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        if let Some(body) = body {
            command.args(["-H", "Content-Type: application/json", "--data-binary", body]);
        }
        let answer = run(command.arg(format!("{server}{path}")))?;
        let (body, code) = answer.rsplit_once('\n').context("curl printed no status code")?;
        Ok((code.parse()?, body.to_owned()))
    }
}
