//! Drills: a cluster's loss rehearsed on the whole federation.

use std::time::Duration;

use base64::Engine as _;
use federation_core::api::FailoverDrill;
use federation_core::drill::report::{Report, embedded, html, signed_bytes, text};
use federation_runtime::pki;
use serde_json::{Value, json};

use crate::federation::{
    CLUSTERS, DEPLOYMENTS, Federation, Member, PLACEMENTS, Settings, until, until_within,
};
use crate::traffic::{NAME, served, until_answered, until_each, until_only};

const DRILLS: &str = "/apis/federation.rs/v1alpha1/failoverdrills";

fn drill(name: &str, spec: &Value) -> Value {
    let mut object = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "FailoverDrill", "metadata": {"name": name},
        "spec": {"lose": ["taiwan"], "app": {"name": "web"}, "durationSeconds": 6}});
    for (field, value) in spec.as_object().expect("a map of fields") {
        object["spec"][field] = value.clone();
    }
    object
}

/// Both members serve, and are answered with.
async fn both_serve(federation: &Federation, members: [&Member; 2]) -> std::net::SocketAddr {
    let dns = federation.dns().await;
    served(federation, &json!({})).await;
    until_each(dns, NAME, members).await;
    let path = format!("{DEPLOYMENTS}/web");
    federation.api.until(&path, "is ready", |found| found["status"]["readyReplicas"] == 4).await;
    dns
}

async fn until_phase(federation: &Federation, name: &str, phase: &str) -> Value {
    let what = format!("is {phase}");
    let path = format!("{DRILLS}/{name}");
    federation.api.until(&path, &what, |drill| drill["status"]["phase"] == phase).await
}

fn stage(drill: &Value, name: &str) -> Option<i64> {
    let stages = drill["status"]["stages"].as_array()?;
    stages.iter().find(|stage| stage["name"] == name)?["afterMs"].as_i64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traffic_drill_moves_users_measures_them_and_restores() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = both_serve(&federation, [&taiwan, &tokyo]).await;
    let spec = json!({"hypothesis": "rto<5s,errors<1%,ready>=50%,p95<900ms"});
    federation.api.create(DRILLS, &drill("first", &spec)).await;
    until_phase(&federation, "first", "Running").await;
    until_only(dns, &tokyo).await;
    // Another one has to come back later.
    federation.api.create(DRILLS, &drill("second", &json!({"lose": ["tokyo"]}))).await;
    let refused = until_phase(&federation, "second", "Refused").await;
    assert_eq!(refused["status"]["reason"], "AnotherRuns", "{refused:#}");

    let passed = until_phase(&federation, "first", "Passed").await;
    until_answered(dns, NAME, &taiwan).await;
    for name in ["Detected", "Decided", "DNSChanged", "DNSChangedEverywhere", "UsersRecovered", "Restored"] {
        assert!(stage(&passed, name).is_some(), "{name} in {passed:#}");
    }
    assert!(stage(&passed, "DNSChangedEverywhere") <= stage(&passed, "UsersRecovered").max(Some(1000)));
    // Users look beside the hub, and beside the agent that is not lost.
    let all = passed["status"]["users"].as_object().expect("users");
    assert_eq!(all.keys().collect::<Vec<_>>(), ["agent/tokyo", "hub"]);
    for (vantage, users) in all {
        assert!(
            users["requests"].as_u64() > Some(50) && users["clusters"]["tokyo"].as_u64() > Some(0),
            "{vantage}: {users:#}"
        );
    }
    let terms = passed["status"]["hypothesis"].as_array().expect("terms");
    assert!(terms.len() == 4 && terms.iter().all(|term| term["held"] == true), "{terms:#?}");
    report_holds(&federation, &passed).await;
    // Replicas stayed where they were.
    let placement =
        federation.api.get(&format!("{PLACEMENTS}/deployments.apps.web")).await.expect("it is there");
    assert_eq!(placement["spec"]["clusters"][0]["replicas"], 2, "{placement:#}");
}

/// All formats tell it, and the signature is the authority's over what the API holds.
async fn report_holds(federation: &Federation, drill: &Value) {
    let read = |object: &Value| serde_json::from_value::<FailoverDrill>(object.clone()).unwrap();
    let all: Vec<FailoverDrill> = federation.api.items(DRILLS).await.iter().map(read).collect();
    let report = Report::new(&read(drill), &all);
    let pages = [text(&report), html(&report), serde_json::to_string(&report).unwrap()];
    for page in &pages {
        assert!(
            page.contains("UsersRecovered") && page.contains("Passed") && page.contains("errors"),
            "{page}"
        );
    }
    assert_eq!(embedded(&pages[1]).as_ref(), Some(&report));
    let signature = report.signature.as_ref().unwrap();
    let value = base64::engine::general_purpose::STANDARD.decode(&signature.value).unwrap();
    let authority = federation.authority();
    let pin = pki::verify(&authority.certificate_pem, &signed_bytes(&report.drill), &value).unwrap();
    assert_eq!(signature.key, pin.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_drill_moves_replicas_and_brings_them_back() {
    let settings = Settings { evict_after: Duration::from_secs(1), ..Settings::default() };
    let (federation, taiwan, tokyo) = Federation::pair_with(settings).await;
    both_serve(&federation, [&taiwan, &tokyo]).await;
    let spec = json!({"scope": "Schedule", "hypothesis": "errors<1%,ready>=100%", "durationSeconds": 10});
    federation.api.create(DRILLS, &drill("move", &spec)).await;
    let path = format!("{DEPLOYMENTS}/web");
    tokyo.api.until(&path, "runs all of them", |copy| copy["status"]["readyReplicas"] == 4).await;
    let passed = until_phase(&federation, "move", "Passed").await;
    assert!(stage(&passed, "ReplicasCreated") <= stage(&passed, "ReplicasReady"), "{passed:#}");
    assert!(stage(&passed, "ReplicasCreated") >= Some(1000), "evictAfter was waited for: {passed:#}");
    for member in [&taiwan, &tokyo] {
        member.api.until(&path, "runs its half again", |copy| copy["status"]["readyReplicas"] == 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_agent_is_away_for_real_and_comes_back() {
    let settings = Settings { heartbeat: Duration::from_millis(300), ..Settings::default() };
    let (federation, taiwan, tokyo) = Federation::pair_with(settings).await;
    let dns = both_serve(&federation, [&taiwan, &tokyo]).await;
    let spec = json!({"scope": "Isolate", "durationSeconds": 12, "hypothesis": "errors<1%"});
    federation.api.create(DRILLS, &drill("cut", &spec)).await;
    until_phase(&federation, "cut", "Running").await;
    until("the verdict says that taiwan is lost", || async {
        let cluster = federation.api.get(&format!("{CLUSTERS}/taiwan")).await?;
        let verdict = cluster["status"]["verdict"].as_str()?.to_owned();
        (verdict != "Healthy").then_some(())
    })
    .await;
    until_only(dns, &tokyo).await;
    let passed = until_within(Duration::from_secs(40), "it is over", || async {
        let drill = federation.api.get(&format!("{DRILLS}/cut")).await?;
        let phase = drill["status"]["phase"].as_str()?.to_owned();
        (phase != "Running" && phase != "Restoring").then_some(drill)
    })
    .await;
    assert_eq!(passed["status"]["phase"], "Passed", "{passed:#}");
    assert!(stage(&passed, "Detected") <= stage(&passed, "Decided"), "{passed:#}");
    federation.verdict("taiwan", "Healthy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_agent_comes_back_to_another_hub() {
    let (mut federation, taiwan, tokyo) = Federation::pair().await;
    both_serve(&federation, [&taiwan, &tokyo]).await;
    federation.api.create(DRILLS, &drill("cut", &json!({"scope": "Isolate", "durationSeconds": 600}))).await;
    let path = format!("{CLUSTERS}/taiwan");
    federation.api.until(&path, "is lost", |cluster| cluster["status"]["verdict"] != "Healthy").await;
    federation.stop_controller().await;
    federation.start_controller().await;
    federation.verdict("taiwan", "Healthy").await;
    let aborted = until_phase(&federation, "cut", "Aborted").await;
    assert_eq!(aborted["status"]["reason"], "HubRestarted", "{aborted:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hypothesis_that_breaks_ends_the_drill_and_restores() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = both_serve(&federation, [&taiwan, &tokyo]).await;
    // Answers are cached for a second: nobody recovers within a millisecond.
    federation
        .api
        .create(DRILLS, &drill("hasty", &json!({"hypothesis": "rto<1ms", "durationSeconds": 300})))
        .await;
    let failed = until_phase(&federation, "hasty", "Failed").await;
    assert_eq!(failed["status"]["reason"], "HypothesisBroken", "{failed:#}");
    assert_eq!(failed["status"]["hypothesis"][0]["held"], false);
    until_answered(dns, NAME, &taiwan).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_dies_in_the_middle_leaves_nothing_lost() {
    let (mut federation, taiwan, tokyo) = Federation::pair().await;
    let dns = both_serve(&federation, [&taiwan, &tokyo]).await;
    federation.api.create(DRILLS, &drill("orphan", &json!({"durationSeconds": 600}))).await;
    until_phase(&federation, "orphan", "Running").await;
    until_only(dns, &tokyo).await;
    federation.stop_controller().await;
    federation.start_controller().await;
    let aborted = until_phase(&federation, "orphan", "Aborted").await;
    assert_eq!(aborted["status"]["reason"], "HubRestarted", "{aborted:#}");
    until_answered(dns, NAME, &taiwan).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_runs_a_drill_and_dies_or_stops_it_ends_it() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    both_serve(&federation, [&taiwan, &tokyo]).await;
    let held = json!({"holderIdentity": "somebody", "leaseDurationSeconds": 2, "durationSeconds": 600});
    federation.api.create(DRILLS, &drill("left", &held)).await;
    let aborted = until_phase(&federation, "left", "Aborted").await;
    assert_eq!(aborted["status"]["reason"], "LeaseLapsed", "{aborted:#}");

    federation.api.create(DRILLS, &drill("stopped", &json!({"durationSeconds": 600}))).await;
    until_phase(&federation, "stopped", "Running").await;
    federation.api.merge(&format!("{DRILLS}/stopped"), &json!({"spec": {"stop": true}})).await;
    let aborted = until_phase(&federation, "stopped", "Aborted").await;
    assert_eq!(aborted["status"]["reason"], "Stopped", "{aborted:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflight_refuses_what_cannot_pass_or_would_leave_nobody() {
    let settings = Settings {
        heartbeat: Duration::from_millis(300),
        evict_after: Duration::from_secs(300),
        clusterset: None,
        ..Settings::default()
    };
    let (federation, mut taiwan, mut tokyo) = Federation::pair_with(settings).await;
    both_serve(&federation, [&taiwan, &tokyo]).await;
    for (name, spec, reason) in [
        ("capacity", json!({"hypothesis": "ready>=80%"}), "Capacity"),
        ("late", json!({"scope": "Schedule", "hypothesis": "ready>=80%"}), "EvictsTooLate"),
        ("nobody", json!({"lose": ["taiwan", "tokyo"]}), "NothingLeft"),
        ("unknown", json!({"app": {"name": "shop"}}), "NoSuchApp"),
    ] {
        federation.api.create(DRILLS, &drill(name, &spec)).await;
        let refused = until_phase(&federation, name, "Refused").await;
        assert_eq!(refused["status"]["reason"], reason, "{refused:#}");
    }
    federation.api.create(DRILLS, &drill("dry", &json!({"dryRun": true}))).await;
    until_phase(&federation, "dry", "Cleared").await;

    taiwan.stop_agent().await;
    tokyo.stop_agent().await;
    federation
        .api
        .until(&format!("{CLUSTERS}/taiwan"), "is frozen", |cluster| {
            let conditions = cluster["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|one| one["type"] == "Frozen" && one["status"] == "True")
        })
        .await;
    federation.api.create(DRILLS, &drill("frozen", &json!({"force": true}))).await;
    let refused = until_phase(&federation, "frozen", "Refused").await;
    assert_eq!(refused["status"]["reason"], "Frozen", "{refused:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_makes_drills() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    both_serve(&federation, [&taiwan, &tokyo]).await;
    let spec = json!({"schedule": "* * * * *", "durationSeconds": 1, "suspend": true});
    federation.api.create(DRILLS, &drill("nightly", &spec)).await;
    // The last full minute was missed, and is still worth catching up with.
    let path = format!("{DRILLS}/nightly");
    let last = json!({"status": {"lastScheduleTime": "2026-01-01T00:00:00.000000Z"}});
    federation.api.merge(&format!("{path}/status"), &last).await;
    federation.api.merge(&path, &json!({"spec": {"suspend": false}})).await;
    let made = until("a drill was made and passed", || async {
        let drills = federation.api.items(DRILLS).await;
        drills.into_iter().find(|drill| {
            drill["metadata"]["labels"]["federation.rs/drill-schedule"] == "nightly"
                && drill["status"]["phase"] == "Passed"
        })
    })
    .await;
    assert_eq!(made["metadata"]["ownerReferences"][0]["name"], "nightly");
    assert_eq!(made["spec"].get("schedule"), None);
}
