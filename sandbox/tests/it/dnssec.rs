//! A zone is signed, its key rolls, and records that no Service makes are served.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::federation::{Federation, Settings, until};

const ZONE: &str = "/apis/federation.rs/v1alpha1/dnszones/fed.example.test";
const ZONES: &str = "/apis/federation.rs/v1alpha1/dnszones";
const RECORDS: &str = "/apis/federation.rs/v1alpha1/namespaces/default/dnsrecordsets";

/// What a validating client that trusts this DS says of the answer.
fn delv(server: SocketAddr, ds: &str, name: &str, kind: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("anchor");
    let (head, digest) = ds.rsplit_once(' ').unwrap();
    std::fs::write(&file, format!("trust-anchors {{ fed.example.test. static-ds {head} \"{digest}\"; }};"))
        .unwrap();
    let output = Command::new("delv")
        .arg("-a")
        .arg(file)
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string()])
        .args(["+root=fed.example.test.", name, kind])
        .output()
        .expect("delv: apt-get install bind9-dnsutils");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn validates(server: SocketAddr, ds: &str, name: &str, kind: &str, part: &str) {
    until(&format!("{name} {kind} validates"), || async {
        let (ds, name, kind) = (ds.to_owned(), name.to_owned(), kind.to_owned());
        let said = tokio::task::spawn_blocking(move || delv(server, &ds, &name, &kind)).await.unwrap();
        (said.contains("fully validated") && said.contains(part)).then_some(())
    })
    .await;
}

fn record_set(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "federation.rs/v1alpha1", "kind": "DNSRecordSet", "metadata": {"name": name}, "spec": spec})
}

fn condition<'o>(object: &'o Value, part: &str) -> &'o str {
    object["status"]["conditions"][0][part].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_is_signed_and_its_key_rolls_over_a_restart() {
    let mut federation = Federation::start(Settings::default()).await;
    let dns = federation.dns().await;
    let zone = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "DNSZone", "metadata": {"name": "fed.example.test"},
        "spec": {"dnssec": {"enabled": true}}});
    federation.api.create(ZONES, &zone).await;
    let text = json!({"name": "hello", "type": "TXT", "records": ["\"from an object\""]});
    federation.api.create(RECORDS, &record_set("text", text.clone())).await;
    let signed = federation.api.until(ZONE, "there is a key", |zone| !zone["status"]["keys"].is_null()).await;
    let old = signed["status"]["keys"][0]["ds"].as_str().unwrap().to_owned();
    assert_eq!((condition(&signed, "type"), condition(&signed, "status")), ("Signed", "True"));
    validates(dns, &old, "hello.fed.example.test.", "TXT", "from an object").await;
    validates(dns, &old, "nothing.fed.example.test.", "A", "negative response").await;

    // Of the same name and type: the older one is served, and the newer one says why it is not.
    federation.api.create(RECORDS, &record_set("textual", text)).await;
    let refused = federation
        .api
        .until(&format!("{RECORDS}/textual"), "it is told", |set| !set["status"]["conditions"].is_null())
        .await;
    assert_eq!((condition(&refused, "status"), condition(&refused, "reason")), ("False", "Refused"));
    assert!(
        condition(&refused, "message").starts_with("spec.type: hello.fed.example.test. has TXT"),
        "{refused}"
    );

    federation.api.merge(ZONE, &json!({"spec": {"dnssec": {"rolls": 1}}})).await;
    let rolling = federation
        .api
        .until(ZONE, "there are two keys", |zone| zone["status"]["step"] == "Introducing")
        .await;
    let keys = rolling["status"]["keys"].as_array().unwrap();
    assert_eq!(
        (keys.len(), &keys[0]["wantedAtParent"], &keys[1]["wantedAtParent"]),
        (2, &json!(true), &json!(false))
    );
    let new = keys[1]["ds"].as_str().unwrap().to_owned();
    for ds in [&old, &new] {
        validates(dns, ds, "hello.fed.example.test.", "TXT", "from an object").await;
    }
    // The Secret outlives the controller; the new one goes on where the old one was.
    federation.stop_controller().await;
    federation.start_controller().await;
    federation.api.merge(&format!("{RECORDS}/text"), &json!({"spec": {"records": ["\"changed\""]}})).await;
    for ds in [&old, &new] {
        validates(dns, ds, "hello.fed.example.test.", "TXT", "changed").await;
    }
}
