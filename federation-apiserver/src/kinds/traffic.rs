//! The kinds of group `federation.rs` that DNS answers follow from: TrafficPolicy and ClientRegions.

use std::{collections::HashSet, net::IpAddr};

use apimachinery::{
    FieldError, FieldPath,
    meta::Scope,
    names::{self, NameRule},
};
use federation_core::{
    api,
    traffic::{CONTINENTS, Prefix, is_country, is_region_name, location},
};
use serde_json::Value;

use super::federation::{BASE, check_names, check_weight, parses, strings};
use crate::{
    auth::User,
    registry::{Column, ErrorList, Kind, field, joined},
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "ClientRegions",
        plural: "clientregions",
        singular: "clientregions",
        short_names: &["fcr"],
        scope: Scope::Cluster,
        name_rule: NameRule::Dns1123Subdomain,
        columns: &[
            Column::NAME,
            Column::text("Regions", "Regions that it speaks of.", |object, _| {
                joined(
                    object["spec"]["regions"].as_object().into_iter().flatten().map(|(name, _)| name.clone()),
                )
            }),
            Column::text("Prefixes", "Prefixes that are in the table.", |object, _| {
                field(object, "/status/prefixes")
            }),
            Column::AGE,
        ],
        validate: |object, errors| {
            if parses::<api::ClientRegions>(object, errors) {
                client_regions(&object["spec"], errors);
            }
        },
        ..BASE
    },
    &Kind {
        kind: "TrafficPolicy",
        plural: "trafficpolicies",
        singular: "trafficpolicy",
        short_names: &["ftp"],
        columns: &[
            Column::NAME,
            Column::text("Service", "Whose users.", |object, _| field(object, "/spec/service")),
            Column::text("Strategy", "How clusters are chosen.", |object, _| field(object, "/spec/strategy")),
            Column::text("Answering", "Clusters that are answered at present.", |object, _| {
                joined(strings(&object["status"]["answering"]))
            }),
            Column::text("Switched", "Clusters that were switched by hand.", |object, _| switched(object)),
            Column::AGE,
            Column::text("Proximity", "Whether clients get clusters near to them.", |object, _| {
                field(object, "/spec/proximity")
            })
            .wide(),
            Column::text("Epoch", "Epoch of the zone that says so.", |object, _| {
                field(object, "/status/epoch")
            })
            .wide(),
        ],
        validate: |object, errors| {
            if parses::<api::TrafficPolicy>(object, errors) {
                policy(&object["spec"], errors);
            }
        },
        sign,
        ..BASE
    },
];

fn switched(object: &Value) -> Value {
    joined(object["spec"]["overrides"].as_object().into_iter().flatten().map(|(cluster, switch)| {
        format!("{cluster}={}", switch["state"].as_str().unwrap_or("Off").to_ascii_lowercase())
    }))
}

/// Who set a switch, and when, is not for the writer to say: a switch that says something new is his, every other one stays as it was.
fn sign(object: &mut Value, old: Option<&Value>, user: &User, now: &str) {
    let said = |switch: &Value| {
        let mut switch = switch.clone();
        if let Some(fields) = switch.as_object_mut() {
            fields.remove("by");
            fields.remove("since");
        }
        switch
    };
    let Some(switches) = object.pointer_mut("/spec/overrides").and_then(Value::as_object_mut) else { return };
    for (cluster, switch) in switches {
        let before = old.map_or(&Value::Null, |old| &old["spec"]["overrides"][cluster.as_str()]);
        let same = said(before) == said(switch);
        let Some(fields) = switch.as_object_mut() else { continue };
        for (field, new) in [("by", &*user.name), ("since", now)] {
            match before.get(field).filter(|_| same) {
                Some(kept) => fields.insert(field.to_owned(), kept.clone()),
                None => fields.insert(field.to_owned(), new.into()),
            };
        }
    }
}

/// Integer fields of a policy with the values that they take.
const RANGES: &[(&[&str], u64, u64)] = &[
    (&["picks"], 1, 16),
    (&["ttlSeconds"], 1, 86_400),
    (&["minTtlSeconds"], 1, 86_400),
    (&["health", "panicPercent"], 0, 100),
    (&["health", "minimumHoldSeconds"], 0, 86_400),
    (&["health", "slowStartSeconds"], 0, 86_400),
    (&["health", "drainSeconds"], 0, 86_400),
    (&["safety", "minClusters"], 0, 1000),
    (&["safety", "maxWithdrawnPercent"], 1, 100),
    (&["safety", "windowSeconds"], 1, 86_400),
];

/// Service bindings of one policy: each costs a record for every cluster at every name.
const BINDINGS_MAX: usize = 8;

fn policy(spec: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec");
    let service = spec["service"].as_str().unwrap_or_default();
    if service.is_empty() {
        errors.push(FieldError::required(&path.child("service"), "name a Service of the same namespace"));
    } else {
        for error in names::dns1035_label(service) {
            errors.push(FieldError::invalid(&path.child("service"), service, &error));
        }
    }
    for (index, host) in strings(&spec["hostnames"]).enumerate() {
        let name = host.trim_end_matches('.');
        // One label that stands for any others may be in front.
        let rest = if name == "*" { "x" } else { name.strip_prefix("*.").unwrap_or(name) };
        for error in names::dns1123_subdomain(rest) {
            errors.push(FieldError::invalid(&path.child("hostnames").index(index), host.as_str(), &error));
        }
    }
    for (fields, least, most) in RANGES {
        let found = fields.iter().fold(spec, |at, name| &at[*name]);
        if let Some(number) = found.as_u64()
            && !(*least..=*most).contains(&number)
        {
            let path = fields.iter().fold(path.clone(), |path, name| path.child(name));
            let message = format!("must be between {least} and {most}, inclusive");
            errors.push(FieldError::invalid(&path, number, &message));
        }
    }
    if let Ok(check) = serde_json::from_value::<api::HealthCheck>(spec["healthCheck"].clone()) {
        for (field, problem) in check.problems() {
            let value = spec["healthCheck"][field].clone();
            errors.push(FieldError::invalid(&path.child("healthCheck").child(field), value, &problem));
        }
    }
    bindings(spec, &path.child("serviceBindings"), errors);
    for (name, weight) in spec["weights"].as_object().into_iter().flatten() {
        check_weight(weight, &path.child("weights").key(name), errors);
    }
    ranks(spec, &path, errors);
    combinations(spec, &path, errors);
    switches(spec, &path, errors);
}

/// How the Service is spoken to.
fn bindings(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let listed = spec["serviceBindings"].as_array().map_or(&[][..], Vec::as_slice);
    if listed.len() > BINDINGS_MAX {
        errors.push(FieldError::too_many(path, listed.len(), BINDINGS_MAX));
    }
    for (index, binding) in listed.iter().enumerate() {
        let Ok(read) = serde_json::from_value::<api::ServiceBinding>(binding.clone()) else { continue };
        for (field, problem) in read.problems() {
            let path = path.index(index).child(field);
            errors.push(FieldError::invalid(&path, binding[field].clone(), &problem));
        }
    }
}

/// `order` and `tiers`.
fn ranks(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    check_names(&spec["order"], &path.child("order"), errors);
    let tiers = path.child("tiers");
    let none = Vec::new();
    let listed = spec["tiers"].as_array().unwrap_or(&none);
    if !listed.is_empty() && spec["order"].as_array().is_some_and(|order| !order.is_empty()) {
        errors.push(FieldError::forbidden(&tiers, "may not be specified together with order"));
    }
    let mut seen = HashSet::new();
    for (index, tier) in listed.iter().enumerate() {
        let path = tiers.index(index);
        check_names(&tier["clusters"], &path.child("clusters"), errors);
        check_names(&tier["regions"], &path.child("regions"), errors);
        if strings(&tier["clusters"]).chain(strings(&tier["regions"])).next().is_none() {
            errors.push(FieldError::required(&path, "name clusters, regions or both"));
        }
        let clusters = tier["clusters"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for (place, cluster) in clusters.enumerate() {
            if !seen.insert(cluster) {
                errors.push(FieldError::duplicate(&path.child("clusters").index(place), cluster));
            }
        }
    }
}

/// Fields that mean something only together.
fn combinations(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let strategy = spec["strategy"].as_str().unwrap_or("Weighted");
    if spec["picks"].as_u64().is_some_and(|picks| picks > 1) && strategy != "Weighted" {
        let message = format!("may be more than 1 for the strategy Weighted only, not for {strategy}");
        errors.push(FieldError::invalid(&path.child("picks"), spec["picks"].clone(), &message));
    }
    if let (Some(least), Some(ttl)) = (spec["minTtlSeconds"].as_u64(), spec["ttlSeconds"].as_u64())
        && least > ttl
    {
        let message = "must not be greater than ttlSeconds";
        errors.push(FieldError::invalid(&path.child("minTtlSeconds"), least, message));
    }
    let fallback = path.child("health").child("fallback");
    let addresses = &spec["health"]["fallback"];
    for (index, address) in addresses.as_array().into_iter().flatten().enumerate() {
        if address.as_str().and_then(|text| text.parse::<IpAddr>().ok()).is_none() {
            let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&fallback.index(index), address.clone(), message));
        }
    }
    if spec["health"]["allDown"] == "Fallback" && addresses.as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(&fallback, "allDown is Fallback: say which addresses"));
    }
}

/// Switches by hand.
fn switches(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (cluster, switch) in spec["overrides"].as_object().into_iter().flatten() {
        let path = path.child("overrides").key(cluster);
        for error in names::dns1123_label(cluster) {
            errors.push(FieldError::invalid(&path, cluster.as_str(), &error));
        }
        if switch.get("state").is_none_or(Value::is_null) {
            errors.push(FieldError::required(&path.child("state"), "On or Off"));
        }
        if switch["reason"].as_str().unwrap_or_default().trim().is_empty() {
            errors.push(FieldError::required(&path.child("reason"), "say why, for those who find it later"));
        }
    }
}

fn client_regions(spec: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec").child("regions");
    for (name, region) in spec["regions"].as_object().into_iter().flatten() {
        let path = path.key(name);
        if !is_region_name(name) {
            let message = "a region's name is at most 63 of [A-Za-z0-9._-]";
            errors.push(FieldError::invalid(&path, name.as_str(), message));
        }
        for (index, text) in strings(&region["prefixes"]).enumerate() {
            if let Err(error) = text.parse::<Prefix>() {
                let path = path.child("prefixes").index(index);
                errors.push(FieldError::invalid(&path, text.as_str(), &error.to_string()));
            }
        }
        for (index, code) in strings(&region["countries"]).enumerate() {
            if !is_country(&code) {
                let path = path.child("countries").index(index);
                let message = "must be an ISO 3166-1 alpha-2 code in upper case, such as TW";
                errors.push(FieldError::invalid(&path, code.as_str(), message));
            }
        }
        for (index, code) in strings(&region["continents"]).enumerate() {
            if !CONTINENTS.contains(&code.as_str()) {
                let path = path.child("continents").index(index);
                errors.push(FieldError::not_supported(&path, code.as_str(), &CONTINENTS));
            }
        }
        check_names(&region["nearest"], &path.child("nearest"), errors);
        let place = region["location"].as_str().unwrap_or_default();
        if !place.is_empty() && location(place).is_none() {
            let message = "must be latitude,longitude in decimal degrees, such as 25.04,121.56";
            errors.push(FieldError::invalid(&path.child("location"), place, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The fields of the errors.
    fn fields(check: fn(&Value, &mut ErrorList), spec: &Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        check(spec, &mut errors);
        errors
            .iter()
            .map(|error| error.to_string().split(": ").next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn a_whole_policy_is_taken() {
        let spec = json!({
            "service": "web", "hostnames": ["shop", "*.shop", "*"], "strategy": "Weighted", "picks": 2, "proximity": "Nearest",
            "tiers": [{"clusters": ["taiwan"]}, {"regions": ["asia-northeast"]}],
            "serviceBindings": [{"alpn": ["h2", "h3"]}, {"type": "SVCB", "prefix": "_dns", "alpn": ["dot"], "port": 853}],
            "weights": {"taiwan": 3}, "ttlSeconds": 30, "minTtlSeconds": 2,
            "health": {"panicPercent": 0, "onPanic": "IgnoreHealth", "allDown": "Fallback", "fallback": ["192.0.2.9"],
                "minimumHoldSeconds": 10, "slowStartSeconds": 60, "drainSeconds": 30},
            "safety": {"minClusters": 1, "maxWithdrawnPercent": 50, "windowSeconds": 60},
            "overrides": {"taiwan": {"state": "Off", "reason": "maintenance", "until": "2026-11-24T20:00:00Z"}},
        });
        assert_eq!(fields(policy, &spec), Vec::<String>::new());
        assert!(serde_json::from_value::<api::TrafficPolicySpec>(spec).is_ok());
    }

    #[test]
    fn every_error_names_its_field() {
        let spec = json!({
            "service": "Web", "hostnames": ["a.*.b"], "picks": 17, "strategy": "Sticky", "order": ["taiwan"],
            "tiers": [{"clusters": ["a", "a"]}, {}], "ttlSeconds": 1, "minTtlSeconds": 2,
            "health": {"panicPercent": 101, "allDown": "Fallback", "fallback": ["x"], "drainSeconds": 86401},
            "safety": {"maxWithdrawnPercent": 0, "windowSeconds": 0},
            "overrides": {"taiwan": {"reason": " "}},
            "serviceBindings": [{"prefix": "https", "alpn": [""]}, {"noDefaultAlpn": true, "ech": "!"}],
        });
        let expected = [
            "spec.service",
            "spec.hostnames[0]",
            "spec.picks",
            "spec.health.panicPercent",
            "spec.health.drainSeconds",
            "spec.safety.maxWithdrawnPercent",
            "spec.safety.windowSeconds",
            "spec.serviceBindings[0].prefix",
            "spec.serviceBindings[0].alpn",
            "spec.serviceBindings[1].noDefaultAlpn",
            "spec.serviceBindings[1].ech",
            "spec.tiers",
            "spec.tiers[0].clusters[1]",
            "spec.tiers[1]",
            "spec.picks",
            "spec.minTtlSeconds",
            "spec.health.fallback[0]",
            "spec.overrides[taiwan].state",
            "spec.overrides[taiwan].reason",
        ];
        assert_eq!(fields(policy, &spec), expected);
    }

    #[test]
    fn clusters_of_tiers_are_told_apart_however_many_there_are() {
        let tier = |first: usize| json!({"clusters": (first..first + 50_000).map(|number| format!("a{number}")).collect::<Vec<_>>()});
        let mut errors = ErrorList::new();
        ranks(&json!({"tiers": [tier(0), tier(49_999)]}), &FieldPath::new("spec"), &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, [r#"spec.tiers[1].clusters[0]: Duplicate value: "a49999""#]);
    }

    #[test]
    fn a_switch_is_signed_by_whoever_sets_it() {
        let mut first =
            json!({"spec": {"overrides": {"taiwan": {"state": "Off", "reason": "a", "by": "mallory"}}}});
        sign(&mut first, None, &User::new("alice", []), "2026-11-24T20:00:00Z");
        let signed = json!({"state": "Off", "reason": "a", "by": "alice", "since": "2026-11-24T20:00:00Z"});
        assert_eq!(first["spec"]["overrides"]["taiwan"], signed);
        // Bob changes another one: Alice's stays hers.
        let mut second = first.clone();
        second["spec"]["overrides"]["tokyo"] = json!({"state": "On", "reason": "b"});
        second["spec"]["overrides"]["taiwan"]["by"] = "bob".into();
        sign(&mut second, Some(&first), &User::new("bob", []), "2026-11-24T21:00:00Z");
        assert_eq!(second["spec"]["overrides"]["taiwan"], signed);
        assert_eq!(second["spec"]["overrides"]["tokyo"]["by"], "bob");
        let mut third = second.clone();
        third["spec"]["overrides"]["taiwan"]["state"] = "On".into();
        sign(&mut third, Some(&second), &User::new("bob", []), "2026-11-24T21:00:00Z");
        assert_eq!(third["spec"]["overrides"]["taiwan"]["by"], "bob");
    }

    #[test]
    fn regions_of_clients_are_checked() {
        let spec = json!({"regions": {
            "asia-east": {"prefixes": ["203.0.113.0/24", "2001:db8::/32"], "countries": ["TW"], "continents": ["AS"],
                "nearest": ["asia-northeast"], "location": "25.04,121.56"},
        }});
        assert_eq!(fields(client_regions, &spec), Vec::<String>::new());
        let spec = json!({"regions": {"x y": {"prefixes": ["203.0.113.1/24", "a/8", "192.0.2.0/33", "::ffff:192.0.2.0/120"], "countries": ["tw"],
            "continents": ["XX"], "location": "91,0"}}});
        let expected = [
            "spec.regions[x y]",
            "spec.regions[x y].prefixes[0]",
            "spec.regions[x y].prefixes[1]",
            "spec.regions[x y].prefixes[2]",
            "spec.regions[x y].prefixes[3]",
            "spec.regions[x y].countries[0]",
            "spec.regions[x y].continents[0]",
            "spec.regions[x y].location",
        ];
        assert_eq!(fields(client_regions, &spec), expected);
    }
}
