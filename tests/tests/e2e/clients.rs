//! (m) The API as other clients see it: kube-rs informers, and bad input.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use federation_tests::{Federation, Settings, manifests};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

const LIMIT: Duration = Duration::from_secs(20);

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some(name.into()), ..Default::default() },
        data: Some(BTreeMap::from([("key".to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    }
}

#[test]
fn a_kube_rs_informer_sees_what_is_there_and_then_every_change_once() -> Result<()> {
    let federation = Federation::start_on("127.0.0.1", &Settings::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let config = Kubeconfig::read_from(federation.kubeconfig())?;
        let client = Client::try_from(
            kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?,
        )?;
        let api: Api<ConfigMap> = Api::namespaced(client, "default");
        for number in 0..25 {
            api.create(&PostParams::default(), &map(&format!("before-{number}"), "one")).await?;
        }
        // Small pages, so that the first list is continued.
        let settings = watcher::Config::default().page_size(10);
        let mut events = watcher::watcher(api.clone(), settings).boxed();
        let mut first = 0;
        loop {
            match tokio::time::timeout(LIMIT, events.try_next()).await??.context("the watch ended")? {
                Event::InitApply(object) => {
                    first += u32::from(object.metadata.name.unwrap_or_default().starts_with("before-"));
                }
                Event::InitDone => break,
                _ => {}
            }
        }
        assert_eq!(first, 25);
        api.create(&PostParams::default(), &map("after", "one")).await?;
        let mut changed = api.get("after").await?;
        changed.data = Some(BTreeMap::from([("key".to_owned(), "two".to_owned())]));
        api.replace("after", &PostParams::default(), &changed).await?;
        api.delete("after", &DeleteParams::background()).await?;
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last != "gone") {
            match tokio::time::timeout(LIMIT, events.try_next()).await??.context("the watch ended")? {
                Event::Apply(object) if object.metadata.name.as_deref() == Some("after") => {
                    let deleting = object.metadata.deletion_timestamp.is_some();
                    let value = object.data.and_then(|mut data| data.remove("key")).unwrap_or_default();
                    let line = if deleting { "deleting".to_owned() } else { value };
                    if seen.last() != Some(&line) {
                        seen.push(line);
                    }
                }
                Event::Delete(object) if object.metadata.name.as_deref() == Some("after") => {
                    seen.push("gone".into());
                }
                _ => {}
            }
        }
        // The controller's finalizer may or may not have come in time: then there is a deletion to be seen.
        seen.retain(|line| line != "deleting");
        assert_eq!(seen, ["one", "two", "gone"]);
        Ok(())
    })
}

#[test]
fn bad_manifests_are_refused_with_the_field_named() -> Result<()> {
    let federation = Federation::start_on("127.0.0.1", &Settings::default())?;
    let api = federation.api();
    let refused = |manifest: &str, words: &[&str]| -> Result<()> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(file.path(), manifest)?;
        let outcome = api.outcome(&["apply", "-f", &file.path().to_string_lossy()])?;
        assert!(!outcome.success, "taken: {manifest}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{word:?} is not in {}", outcome.stderr);
        }
        Ok(())
    };
    refused(&manifests::config_map("default", "No_Good", "x"), &["metadata.name"])?;
    refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default, labels: {\"-x\": y}}\n",
        &["metadata.labels"],
    )?;
    refused(
        &manifests::deployment("default", "web", 1)
            .replace("matchLabels: {app: web}", "matchLabels: {app: other}"),
        &["spec.template.metadata.labels"],
    )?;
    refused(
        &manifests::deployment("default", "web", 1).replace("replicas: 1", "replicas: -1"),
        &["spec.replicas"],
    )?;
    refused(&manifests::deployment("default", "web", 1).replace("replicas:", "replicsa:"), &["replicsa"])?;
    refused(
        &manifests::weights("default", "Deployment", "web", 1, 1).replace("weight: 1", "weight: -1"),
        &["weight"],
    )?;
    refused(&manifests::config_map("nowhere", "a", "x"), &["nowhere", "not found"])?;
    Ok(())
}

#[test]
fn kubectl_works_with_no_special_flags() -> Result<()> {
    let federation = Federation::start_on("127.0.0.1", &Settings::default())?;
    let api = federation.api();
    api.apply(
        &(manifests::deployment("default", "web", 3) + &manifests::config_map("default", "settings", "one")),
    )?;
    let table = api.kubectl(&["get", "deployments"])?;
    assert!(table.contains("READY") && table.contains("0/3"), "{table}");
    assert!(api.kubectl(&["get", "deploy,cm", "-o", "yaml"])?.contains("replicas: 3"));
    assert!(api.kubectl(&["describe", "deployment", "web"])?.contains("3 desired"));
    assert!(api.kubectl(&["explain", "placementpolicy.spec"])?.contains("replicas"));
    assert!(api.kubectl(&["explain", "deployment.spec.replicas"])?.contains("replicas"));
    api.kubectl(&["label", "configmap", "settings", "colour=blue"])?;
    api.kubectl(&["annotate", "configmap", "settings", "note=seen"])?;
    assert!(api.kubectl(&["get", "cm", "-l", "colour=blue", "-o", "name"])?.contains("configmap/settings"));
    api.kubectl(&[
        "patch",
        "deployment",
        "web",
        "-p",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"b"}]}]}}}}"#,
    ])?;
    let containers = api.field("default", "deployment/web", "/spec/template/spec/containers")?;
    assert_eq!(
        containers.as_array().unwrap().len(),
        1,
        "a strategic merge by the containers' names: {containers}"
    );
    assert_eq!(containers[0]["image"], "registry.local/site:1");
    api.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/data/key","value":"two"}]"#,
    ])?;
    api.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"]).unwrap_err();
    api.kubectl(&["create", "secret", "generic", "token", "--from-literal=a=b"])?;
    api.kubectl(&["create", "namespace", "other"])?;
    api.kubectl(&["delete", "secret", "token", "--timeout=10s"])?;
    api.kubectl(&["delete", "namespace", "other", "--timeout=20s"])?;
    assert!(api.get("default", "namespace/other")?.is_none());
    Ok(())
}
