//! What reports say.

use std::collections::BTreeMap;

use super::*;
use crate::api::{
    DrillApp, DrillBucket, DrillEntry, DrillScope, DrillStage, DrillTerm, DrillUsers, FailoverDrillSpec,
    FailoverDrillStatus,
};
use crate::drill::course::time;

fn mk_drill(name: &str, start_ms: i64, recovered_ms: i64) -> FailoverDrill {
    let spec = FailoverDrillSpec {
        lose: vec!["taiwan".into()],
        app: DrillApp { namespace: String::new(), name: "web".into() },
        scope: DrillScope::Traffic,
        ..FailoverDrillSpec::default()
    };
    let mut drill = FailoverDrill::new(name, spec);
    drill.metadata.uid = Some(format!("uid-{name}"));
    let users = DrillUsers {
        requests: 400,
        failed: 2,
        errors: BTreeMap::from([("connect: </script><b>".into(), 2)]),
        clusters: BTreeMap::from([("tokyo".into(), 398)]),
        bucket_ms: 250,
        buckets: vec![DrillBucket { served: 8, from_lost: 2, failed: 1, max_ms: 9 }; 20],
        ..DrillUsers::default()
    };
    drill.status = Some(FailoverDrillStatus {
        phase: DrillPhase::Passed,
        message: "its time was up, and every term held".into(),
        start_time: Some(time(start_ms)),
        stages: vec![DrillStage {
            name: names::RECOVERED.into(),
            after_ms: recovered_ms,
            ..DrillStage::default()
        }],
        hypothesis: vec![DrillTerm {
            term: "rto<10s".into(),
            measured: format!("{recovered_ms} ms"),
            held: Some(true),
        }],
        users: BTreeMap::from([("hub".into(), users)]),
        log: vec![DrillEntry { time: Some(time(start_ms)), rule: "Started".into(), message: "lost".into() }],
        ..FailoverDrillStatus::default()
    });
    drill
}

#[test]
fn all_formats_tell_the_same() {
    let (first, second) = (mk_drill("first", 1000, 1900), mk_drill("second", 9000, 2100));
    let report = Report::new(&second, &[second.clone(), first]);
    let trend: Vec<(&str, Option<i64>)> =
        report.trend.iter().map(|point| (point.name.as_str(), point.recovered_ms)).collect();
    assert_eq!(trend, [("first", Some(1900)), ("second", Some(2100))]);
    for page in [text(&report), html(&report)] {
        for expect in ["second", "Passed", "rto&lt;10s", "2100 ms", "400", "UsersRecovered", "1900 ms"] {
            let plain = expect.replace("&lt;", "<");
            assert!(page.contains(expect) || page.contains(&plain), "{expect} in {page}");
        }
    }
    let back: Report = serde_json::from_value(json!(report)).expect("it is one");
    assert_eq!(back, report);
}

#[test]
fn a_page_holds_its_report_and_nothing_breaks_out_of_it() {
    let drill = mk_drill("first", 1000, 1900);
    let report = Report::new(&drill, std::slice::from_ref(&drill));
    let page = html(&report);
    assert_eq!(embedded(&page).as_ref(), Some(&report));
    assert_eq!(html(&report), page);
    assert!(!page.contains("</script><b>") && page.contains("connect: &lt;/script&gt;&lt;b&gt;"));
    assert!(page.contains("<svg ") && !page.contains("http://") && !page.contains("https://"));
    assert_eq!(embedded("<html>"), None);
}

#[test]
fn what_is_signed_changes_with_the_course_and_not_with_the_lease() {
    let mut drill = mk_drill("first", 1000, 1900);
    let signed = signed_bytes(&document(&drill));
    drill.spec.renew_time = Some(time(77));
    drill.spec.stop = true;
    if let Some(status) = &mut drill.status {
        status.signature = Some(DrillSignature::default());
    }
    assert_eq!(signed_bytes(&document(&drill)), signed);
    // Through the API, and with its keys in another order.
    let round: FailoverDrill = serde_json::from_value(json!(drill)).expect("it is one");
    assert_eq!(signed_bytes(&document(&round)), signed);
    if let Some(status) = &mut drill.status {
        status.stages[0].after_ms += 1;
    }
    assert_ne!(signed_bytes(&document(&drill)), signed);
    let (mut one, mut two) = (String::new(), String::new());
    canonical(&json!({"b": [1, {"d": null, "c": "\""}], "a": true}), &mut one);
    canonical(&json!({"a": true, "b": [1, {"c": "\"", "d": null}]}), &mut two);
    assert_eq!((one.as_str(), &one), (r#"{"a":true,"b":[1,{"c":"\"","d":null}]}"#, &two));
}
