//! The kinds DNSZone and DNSRecordSet of group `federation.rs`.

use apimachinery::{FieldError, FieldPath, meta::Scope, names::NameRule};
use federation_core::api;
use federation_core::dns::{Data, Name, Type};
use serde_json::Value;

use super::federation::{BASE, parses};
use crate::{
    registry::{Column, ErrorList, Kind, field, joined},
    validation,
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "DNSZone",
        plural: "dnszones",
        singular: "dnszone",
        short_names: &["fdz"],
        scope: Scope::Cluster,
        name_rule: NameRule::Dns1123Subdomain,
        columns: &[
            Column::NAME,
            Column::text("Signed", "Whether keys are published.", |object, _| {
                condition(object, "Signed", "status")
            }),
            Column::text("Step", "Where the zone's keys are.", |object, _| field(object, "/status/step")),
            Column::text("Keys", "Tags of the published keys.", |object, _| {
                let keys = object["status"]["keys"].as_array().into_iter().flatten();
                joined(keys.map(|key| key["tag"].to_string()))
            }),
            Column::AGE,
        ],
        validate: |object, errors| {
            if parses::<api::DNSZone>(object, errors) {
                zone(&object["spec"], errors);
            }
        },
        ..BASE
    },
    &Kind {
        kind: "DNSRecordSet",
        plural: "dnsrecordsets",
        singular: "dnsrecordset",
        short_names: &["fdr"],
        columns: &[
            Column::NAME,
            Column::text("Record", "Name of the records.", |object, _| field(object, "/spec/name")),
            Column::text("Type", "Type of the records.", |object, _| field(object, "/spec/type")),
            Column::text("Accepted", "Whether they are served.", |object, _| {
                condition(object, "Accepted", "status")
            }),
            Column::AGE,
            Column::text("Why", "Why they are not served.", |object, _| {
                condition(object, "Accepted", "message")
            })
            .wide(),
        ],
        validate: |object, errors| {
            if parses::<api::DNSRecordSet>(object, errors) {
                record_set(&object["spec"], errors);
            }
        },
        ..BASE
    },
];

fn condition(object: &Value, kind: &str, part: &str) -> Value {
    validation::condition(object, kind).map_or(Value::Null, |condition| condition[part].clone())
}

fn range(value: &Value, path: &FieldPath, least: u64, most: u64, errors: &mut ErrorList) {
    if let Some(number) = value.as_u64()
        && !(least..=most).contains(&number)
    {
        let message = format!("must be between {least} and {most}, inclusive");
        errors.push(FieldError::invalid(path, number, &message));
    }
}

fn zone(spec: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec").child("dnssec");
    let dnssec = &spec["dnssec"];
    range(&dnssec["parentDsTtlSeconds"], &path.child("parentDsTtlSeconds"), 1, 604_800, errors);
    range(
        &dnssec["signatureValiditySeconds"],
        &path.child("signatureValiditySeconds"),
        86_400,
        31_536_000,
        errors,
    );
    let compact = path.child("compactSignaturesPerSecond");
    range(&dnssec["compactSignaturesPerSecond"], &compact, 1, 100_000, errors);
    if dnssec["compactSignaturesPerSecond"].is_number() && dnssec["denial"] != "Compact" {
        errors.push(FieldError::forbidden(&compact, "means something only where denial is Compact"));
    }
}

/// What can be told without knowing the zones; the rest is told by the condition `Accepted`.
fn record_set(spec: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec");
    let text = |name: &str| spec[name].as_str().unwrap_or_default();
    let name = text("name");
    if name.is_empty() {
        errors.push(FieldError::required(
            &path.child("name"),
            "a name within the zone, or @ for the zone itself",
        ));
    } else if name != "@"
        && let Err(error) = Name::parse(&format!("{}.", name.trim_end_matches('.')))
    {
        errors.push(FieldError::invalid(&path.child("name"), name, &error.to_string()));
    }
    if let Some(zone) = spec["zone"].as_str()
        && let Err(error) = Name::parse(&format!("{}.", zone.trim_end_matches('.')))
    {
        errors.push(FieldError::invalid(&path.child("zone"), zone, &error.to_string()));
    }
    range(&spec["ttlSeconds"], &path.child("ttlSeconds"), 1, 604_800, errors);
    let Some(kind) = Type::of_zone(text("type")) else {
        let message = "must be a type of records, in capitals, as A, CAA, HTTPS, MX or TXT, or TYPE and a number; SOA, and the types of \
                       DNSSEC but DS, are made by the servers";
        errors.push(FieldError::invalid(&path.child("type"), text("type"), message));
        return;
    };
    let none = Vec::new();
    let records = spec["records"].as_array().unwrap_or(&none);
    if records.is_empty() {
        errors.push(FieldError::required(&path.child("records"), "must hold at least one record"));
    }
    if kind == Type::CNAME && records.len() > 1 {
        errors.push(FieldError::invalid(
            &path.child("records"),
            spec["records"].clone(),
            "an alias has one target",
        ));
    }
    for (index, record) in records.iter().enumerate() {
        let record = record.as_str().unwrap_or_default();
        if let Err(error) = Data::parse(kind, record) {
            errors.push(FieldError::invalid(&path.child("records").index(index), record, &error.to_string()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(spec: Value, fields: &[&str]) {
        let mut errors = ErrorList::default();
        record_set(&spec, &mut errors);
        let text = format!("{errors:?}");
        assert_eq!(errors.len(), fields.len(), "{text}");
        for field in fields {
            assert!(text.contains(field), "{field} is not in {text}");
        }
    }

    #[test]
    fn errors_of_a_zone_name_their_fields() {
        let errors_of = |dnssec: Value| {
            let mut errors = ErrorList::default();
            zone(&json!({"dnssec": dnssec}), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(
            errors_of(json!({"enabled": true, "denial": "Compact", "compactSignaturesPerSecond": 9}))
                .is_empty()
        );
        let wrong = errors_of(json!({"signatureValiditySeconds": 1, "compactSignaturesPerSecond": 0}));
        let field = "spec.dnssec.compactSignaturesPerSecond: ";
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[1].starts_with(field) && wrong[2].starts_with(field), "{wrong:?}");
    }

    #[test]
    fn errors_of_a_record_set_name_their_fields() {
        check(json!({"name": "@", "type": "MX", "records": ["10 mail.example.net."]}), &[]);
        check(json!({"name": "*.x", "type": "TYPE65280", "records": ["\\# 1 00"], "ttlSeconds": 60}), &[]);
        check(json!({"name": "", "type": "A", "records": ["192.0.2.1"]}), &["name"]);
        check(
            json!({"name": "a b", "zone": "a..b", "type": "A", "records": ["192.0.2.1"]}),
            &["name", "zone"],
        );
        check(json!({"name": "a", "type": "SOA", "records": ["x"]}), &["type"]);
        check(
            json!({"name": "a", "type": "A", "records": ["192.0.2.1", "2001:db8::1"], "ttlSeconds": 0}),
            &["records", "ttlSeconds"],
        );
        check(json!({"name": "a", "type": "CNAME", "records": []}), &["records"]);
    }
}
