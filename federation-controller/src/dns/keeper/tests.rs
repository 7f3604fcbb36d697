//! Behaviour of the keys of several zones.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use http::{Method, Request, Response};
use kube::client::Body;

use super::*;
use crate::act::api::{Api, Direct};
use crate::testing::until;

/// An API server with these Secrets, by name.
fn client(secrets: &Arc<Mutex<BTreeMap<String, Value>>>) -> Client {
    let secrets = secrets.clone();
    let answer = move |request: Request<Body>| {
        let secrets = secrets.clone();
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let sent = request.into_body().collect_bytes().await.unwrap();
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            let mut secrets = secrets.lock();
            let refused = |code: u16, reason: &str| {
                (
                    code,
                    json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason}),
                )
            };
            let (code, body) = match (method, secrets.get(&name)) {
                (Method::GET, Some(secret)) => (200, secret.clone()),
                (Method::GET, None) => refused(404, "NotFound"),
                _ => {
                    let mut secret: Value = serde_json::from_slice(&sent).unwrap();
                    let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
                    let before =
                        secrets.get(&name).map(|secret| secret["metadata"]["resourceVersion"].clone());
                    if before.as_ref().is_some_and(|before| *before != secret["metadata"]["resourceVersion"])
                    {
                        refused(409, "Conflict")
                    } else {
                        let version =
                            before.and_then(|before| before.as_str()?.parse::<u64>().ok()).unwrap_or(0) + 1;
                        secret["metadata"]["resourceVersion"] = json!(version.to_string());
                        secrets.insert(name, secret.clone());
                        (201, secret)
                    }
                }
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    };
    Client::new(tower::service_fn(answer), "default")
}

/// The same API server, with this DNSZone and no DNSRecordSet. Nothing changes while it is watched.
fn with_zone(secrets: &Arc<Mutex<BTreeMap<String, Value>>>, zone: &DNSZone) -> Client {
    let (of_secrets, zone) = (client(secrets), json!(zone));
    let answer = move |request: Request<Body>| {
        let (of_secrets, zone) = (of_secrets.clone(), zone.clone());
        async move {
            if !request.uri().path().starts_with(&format!("/apis/{API_VERSION}/")) {
                return Ok::<_, tower::BoxError>(of_secrets.send(request).await?);
            }
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                std::future::pending::<()>().await;
            }
            let items = if request.uri().path().ends_with("/dnszones") { vec![zone] } else { Vec::new() };
            let list = json!({"kind": "List", "apiVersion": API_VERSION, "metadata": {"resourceVersion": "7"}, "items": items});
            Ok(Response::new(Body::from(list.to_string().into_bytes())))
        }
    };
    Client::new(tower::service_fn(answer), "default")
}

/// Counts the writes.
#[derive(Default)]
struct Counts(AtomicUsize);

impl Direct for Counts {
    fn answer(&self, _: Request<Vec<u8>>) -> Option<Result<Value, kube::Error>> {
        self.0.fetch_add(1, Relaxed);
        Some(Ok(Value::Null))
    }

    fn delays(&self) -> (Duration, Duration) {
        (Duration::ZERO, Duration::ZERO)
    }
}

fn zone(name: &str, spec: Value) -> DNSZone {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

fn objects(zones: &[DNSZone]) -> Objects {
    let zones = zones.iter().map(|zone| (zone.name().to_owned(), zone.clone())).collect();
    Objects { zones, ..Objects::default() }
}

fn condition_of(objects: &Objects, name: &str) -> (String, String) {
    let keys = objects.kept.get(name).map(|kept| &kept.keys);
    let status = zone_status(name, &objects.zones[name], keys, objects.wrong.get(name).map(String::as_str));
    (status.conditions[0].reason.clone(), status.conditions[0].message.clone())
}

#[tokio::test]
async fn a_zone_whose_keys_cannot_be_read_holds_up_no_other() {
    let broken = json!({"metadata": {"name": "dnssec-broken.test", "resourceVersion": "1"}, "data": {"keys.json": "eHl6"}});
    let secrets = Arc::new(Mutex::new(BTreeMap::from([("dnssec-broken.test".to_owned(), broken)])));
    let (client, dns) = (client(&secrets), Dns::new());
    let signed = json!({"dnssec": {"enabled": true}});
    let mut objects = objects(&[
        zone("broken.test", signed.clone()),
        zone("fed.test", signed),
        zone("plain.test", json!({})),
    ]);
    let extras = dns.decide(&client, &mut objects).await;
    let of = |extras: &Extras, name: &str| (extras.zones[name].keys.len(), extras.zones[name].lost);
    assert_eq!(of(&extras, "broken.test."), (0, true), "it is served as it was");
    assert_eq!((of(&extras, "fed.test."), of(&extras, "plain.test.")), ((1, false), (0, false)));
    let (reason, message) = condition_of(&objects, "broken.test");
    assert!(reason == "KeysLost" && message.contains("restore it from a backup"), "{message}");
    // Its keys are back.
    let good = secrets.lock()["dnssec-fed.test"].clone();
    secrets.lock().insert("dnssec-broken.test".into(), good);
    let extras = dns.decide(&client, &mut objects).await;
    assert_eq!(of(&extras, "broken.test."), (1, false));
    assert_eq!(condition_of(&objects, "broken.test"), ("Stable".into(), String::new()));
}

#[tokio::test]
async fn keys_that_somebody_else_wrote_are_read_again() {
    let secrets = Arc::default();
    let (client, dns) = (client(&secrets), Dns::new());
    let mut objects = objects(&[zone("fed.test", json!({"dnssec": {"enabled": true}}))]);
    let first = dns.decide(&client, &mut objects).await;
    // Another controller was the leader for a while.
    secrets.lock().get_mut("dnssec-fed.test").unwrap()["metadata"]["resourceVersion"] = json!("77");
    objects
        .zones
        .insert("fed.test".into(), zone("fed.test", json!({"dnssec": {"enabled": true, "rolls": 1}})));
    let extras = dns.decide(&client, &mut objects).await;
    assert_eq!(extras.zones, first.zones, "as long as a key is not kept nobody sees it");
    assert_eq!(condition_of(&objects, "fed.test").0, "KeysStay");
    let extras = dns.decide(&client, &mut objects).await;
    let tags = |extras: &Extras| extras.zones["fed.test."].keys.len();
    assert_eq!((tags(&extras), objects.wrong.len()), (2, 0), "and the roll goes on");
}

#[tokio::test]
async fn a_roll_waits_for_the_last_dns_server() {
    let secrets = Arc::default();
    let (client, dns) = (client(&secrets), Dns::new());
    let mut objects = objects(&[zone("fed.test", json!({"dnssec": {"enabled": true}}))]);
    let publish = |extras: Extras, epoch| {
        let mut zones = vec![v1::Zone { origin: "fed.test.".into(), ..v1::Zone::default() }];
        dns.dress(&Arc::new(extras), "fed.test.", epoch, &mut zones);
    };
    let served = || dns.0.spread.lock()["fed.test."].served;
    let first = dns.decide(&client, &mut objects).await;
    publish(first.clone(), 4);
    dns.note_served(&|epoch| epoch <= 4);
    assert!(served().is_some());
    // With the second key it begins anew, and it is the epoch that counts which the key came with.
    objects
        .zones
        .insert("fed.test".into(), zone("fed.test", json!({"dnssec": {"enabled": true, "rolls": 1}})));
    let second = dns.decide(&client, &mut objects).await;
    assert_eq!((first.zones["fed.test."].keys.len(), second.zones["fed.test."].keys.len()), (1, 2));
    publish(second.clone(), 5);
    publish(second, 9);
    dns.note_served(&|epoch| epoch <= 4);
    assert_eq!(served(), None, "one of them has not the new key");
    dns.note_served(&|epoch| epoch <= 5);
    assert!(served().is_some());
}

#[tokio::test]
async fn a_loop_that_is_started_anew_signs_on_with_the_keys_that_there_are() {
    let (secrets, written, changes) =
        (Arc::default(), Arc::new(Counts::default()), Arc::new(AtomicUsize::new(0)));
    let client = with_zone(&secrets, &zone("fed.test", json!({"dnssec": {"enabled": true}})));
    let dns = Dns::new();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (writer, changed) = (Writer::new(Api::Direct(written.clone())), changes.clone());
        let changed = move || {
            changed.fetch_add(1, Relaxed);
        };
        let before = written.0.load(Relaxed);
        let run = tokio::spawn(dns.clone().run(client.clone(), writer, changed, |_| true, Shutdown::new()));
        // It has decided when it tells of it.
        until(|| written.0.load(Relaxed) > before).await;
        // As by a panic.
        run.abort();
        let extras = dns.extras().expect("they are known");
        assert!(!extras.zones["fed.test."].lost);
        seen.push(extras.zones["fed.test."].keys.clone());
    }
    assert_eq!((seen[0].len(), changes.load(Relaxed)), (1, 1), "nothing is published anew");
    assert_eq!(seen[0], seen[1]);
}
