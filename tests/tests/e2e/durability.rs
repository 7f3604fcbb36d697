//! (h) `kill -9` of the API server under a stream of writes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use federation_tests::{Process, program};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};

const WRITERS: usize = 16;
const KILLS: usize = 3;

async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)?)
}

/// Creates ConfigMaps until it is told to end; returns the names of those that were acknowledged, with their values.
async fn write(client: Client, writer: usize, end: Arc<AtomicBool>) -> Vec<(String, String)> {
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("w{writer}-{}-{number}", std::process::id());
        let value = format!("{writer}/{number}");
        let map = ConfigMap {
            metadata: kube::api::ObjectMeta { name: Some(name.clone()), ..Default::default() },
            data: Some(BTreeMap::from([("key".to_owned(), value.clone())])),
            ..ConfigMap::default()
        };
        if api.create(&PostParams::default(), &map).await.is_err() {
            // The server is dead: this one may or may not be there.
            break;
        }
        acknowledged.push((name, value));
    }
    acknowledged
}

#[test]
fn every_acknowledged_write_survives_kill_9() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let data_dir = folder.path().join("data");
    let arguments = [
        "--data-dir".to_owned(),
        data_dir.to_string_lossy().into_owned(),
        "--listen".to_owned(),
        format!("127.0.0.1:{port}"),
    ];
    let start = || -> Result<Process> {
        let binary = program("federation-apiserver")?;
        let mut process = Process::start(folder.path(), "federation-apiserver", None, &binary, &arguments)?;
        process.ready(Duration::from_secs(30))?;
        Ok(process)
    };
    // The processes are started from this thread: see `Process`.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    for round in 0..KILLS {
        let mut process = start()?;
        let end = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let client = runtime.block_on(client(&data_dir.join("admin.conf")))?;
            tasks.push(runtime.spawn(write(client, round * WRITERS + writer, Arc::clone(&end))));
        }
        // Until a good number is written, whatever the machine's speed.
        let watcher = runtime.block_on(client(&data_dir.join("admin.conf")))?;
        let api: Api<ConfigMap> = Api::namespaced(watcher, "default");
        let wanted = acknowledged.len() + 300;
        federation_tests::eventually("300 more are written", Duration::from_secs(30), || {
            let list = runtime.block_on(api.list_metadata(&ListParams::default()))?;
            Ok(list.items.len() >= wanted)
        });
        process.kill()?;
        end.store(true, Ordering::Relaxed);
        for task in tasks {
            acknowledged.extend(runtime.block_on(task)?);
        }
        eprintln!("  round {round}: {} acknowledged", acknowledged.len());
    }
    let _process = start()?;
    let api: Api<ConfigMap> =
        Api::namespaced(runtime.block_on(client(&data_dir.join("admin.conf")))?, "default");
    let there: BTreeMap<String, String> = runtime
        .block_on(api.list(&ListParams::default()))?
        .items
        .into_iter()
        .filter_map(|map| Some((map.metadata.name?, map.data?.remove("key")?)))
        .collect();
    for (name, value) in &acknowledged {
        let found = there.get(name).with_context(|| format!("{name} was acknowledged, and is lost"))?;
        assert_eq!(found, value);
    }
    Ok(())
}
