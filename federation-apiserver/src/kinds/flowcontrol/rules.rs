//! What FlowSchemas and PriorityLevelConfigurations must be (`pkg/apis/flowcontrol/validation`).

use apimachinery::{FieldError, FieldPath, names};
use serde_json::Value;

use crate::{
    flow,
    registry::ErrorList,
    validation::{items, label, subdomain, text},
};

/// `FlowSchemaMaxMatchingPrecedence`
const PRECEDENCE_MAX: i64 = 10_000;
/// `priorityLevelConfigurationQueuingMaxQueues`
const QUEUES_MAX: i64 = 10_000_000;
/// `shufflesharding.MaxHashBits`: a hand is dealt from one number.
const HASH_BITS_MAX: i64 = 60;
/// The level and the schema that no server is without.
const EXEMPT: &str = "exempt";
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Finds the errors of a FlowSchema.
pub(super) fn schema(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let name = text(&object["metadata"], "name");
    let precedence = spec["matchingPrecedence"].as_i64().unwrap_or_default();
    let mut wrong = |message: &str| {
        errors.push(FieldError::invalid(&path.child("matchingPrecedence"), precedence, message));
    };
    if precedence <= 0 {
        wrong("must be a positive value");
    } else if precedence > PRECEDENCE_MAX {
        wrong("must not be greater than 10000");
    } else if precedence == 1 && name != EXEMPT {
        wrong("only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = &spec["distinguisherMethod"];
    if method.is_object() && !["ByNamespace", "ByUser"].contains(&text(method, "type")) {
        let at = path.child("distinguisherMethod").child("type");
        errors.push(FieldError::not_supported(&at, method.clone(), &["ByNamespace", "ByUser"]));
    }
    let level = text(&spec["priorityLevelConfiguration"], "name");
    let at = path.child("priorityLevelConfiguration").child("name");
    if level.is_empty() {
        errors.push(FieldError::required(&at, "must reference a priority level"));
    } else {
        subdomain(level, &at, errors);
    }
    for (place, rule) in items(spec, "rules").enumerate() {
        rule_with_subjects(rule, &path.child("rules").index(place), errors);
    }
    fixed(name, spec, flow::mandatory_schema(name), errors);
    conditions(object, errors);
}

/// Finds the errors of a PriorityLevelConfiguration.
pub(super) fn level(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let (name, kind) = (text(&object["metadata"], "name"), text(spec, "type"));
    if (name == EXEMPT) != (kind == "Exempt") {
        let message = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.push(FieldError::invalid(&path.child("type"), kind, message));
    }
    let (exempt, limited) = (path.child("exempt"), path.child("limited"));
    match kind {
        "Exempt" => {
            if spec["limited"].is_object() {
                errors.push(FieldError::forbidden(&limited, "must be nil if the type is not Limited"));
            }
            shares(&spec["exempt"], &exempt, errors);
        }
        "Limited" => {
            if spec["exempt"].is_object() {
                errors.push(FieldError::forbidden(&exempt, "must be nil if the type is Limited"));
            }
            if spec["limited"].is_object() {
                limited_level(&spec["limited"], &limited, errors);
            } else {
                errors.push(FieldError::required(&limited, "must not be empty when type is Limited"));
            }
        }
        _ => errors.push(FieldError::not_supported(&path.child("type"), kind, &["Exempt", "Limited"])),
    }
    if name != EXEMPT {
        fixed(name, spec, flow::mandatory_level(name), errors);
    }
    conditions(object, errors);
}

/// What no server is without must be as every server makes it.
fn fixed(name: &str, spec: &Value, mandatory: Option<Value>, errors: &mut ErrorList) {
    if mandatory.is_some_and(|mandatory| mandatory != *spec) {
        let message = format!("spec of '{name}' must equal the fixed value");
        errors.push(FieldError::invalid(&FieldPath::new("spec"), spec.clone(), &message));
    }
}

fn conditions(object: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("status").child("conditions");
    let kinds: Vec<&str> =
        items(&object["status"], "conditions").map(|condition| text(condition, "type")).collect();
    for (place, kind) in kinds.iter().enumerate() {
        let at = path.index(place).child("type");
        if kinds[..place].contains(kind) {
            errors.push(FieldError::duplicate(&at, *kind));
        }
        if kind.is_empty() {
            errors.push(FieldError::required(&at, "must not be empty"));
        }
    }
}

fn shares(level: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(shares) = level["nominalConcurrencyShares"].as_i64().filter(|shares| *shares < 0) {
        let at = path.child("nominalConcurrencyShares");
        errors.push(FieldError::invalid(&at, shares, "must be a non-negative integer"));
    }
    if let Some(percent) = level["lendablePercent"].as_i64().filter(|percent| !(0..=100).contains(percent)) {
        let at = path.child("lendablePercent");
        errors.push(FieldError::invalid(&at, percent, "must be between 0 and 100, inclusive"));
    }
}

fn limited_level(limited: &Value, path: &FieldPath, errors: &mut ErrorList) {
    shares(limited, path, errors);
    if let Some(percent) = limited["borrowingLimitPercent"].as_i64().filter(|percent| *percent < 0) {
        let at = path.child("borrowingLimitPercent");
        errors.push(FieldError::invalid(&at, percent, "if specified, must be a non-negative integer"));
    }
    let (response, path) = (&limited["limitResponse"], path.child("limitResponse"));
    let queuing = &response["queuing"];
    let at = path.child("queuing");
    match text(response, "type") {
        "Reject" if queuing.is_object() => {
            let message = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(&at, message));
        }
        "Reject" => {}
        "Queue" if queuing.is_object() => queues(queuing, &at, errors),
        "Queue" => {
            let message = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(&at, message));
        }
        kind => errors.push(FieldError::not_supported(&path.child("type"), kind, &["Queue", "Reject"])),
    }
}

fn queues(queuing: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let number = |name: &str| queuing[name].as_i64().unwrap_or_default();
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    let mut wrong = |name: &str, value: i64, message: &str| {
        errors.push(FieldError::invalid(&path.child(name), value, message));
    };
    if length <= 0 {
        wrong("queueLengthLimit", length, "must be positive");
    }
    if queues <= 0 {
        wrong("queues", queues, "must be positive");
    } else if queues > QUEUES_MAX {
        wrong("queues", queues, &format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand <= 0 {
        wrong("handSize", hand, "must be positive");
    } else if hand > queues {
        wrong("handSize", hand, &format!("should not be greater than queues ({queues})"));
    } else if entropy_bits(queues, hand) > HASH_BITS_MAX as f64 {
        let message = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS_MAX}"
        );
        wrong("handSize", hand, &message);
    }
}

/// `shufflesharding.RequiredEntropyBits`
fn entropy_bits(queues: i64, hand: i64) -> f64 {
    ((queues as f64).log2() * hand as f64).ceil()
}

fn rule_with_subjects(rule: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let subjects = path.child("subjects");
    if items(rule, "subjects").next().is_none() {
        errors.push(FieldError::required(&subjects, "subjects must contain at least one value"));
    }
    for (place, one) in items(rule, "subjects").enumerate() {
        subject(one, &subjects.index(place), errors);
    }
    if items(rule, "resourceRules").chain(items(rule, "nonResourceRules")).next().is_none() {
        let message = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, message));
    }
    for (place, one) in items(rule, "resourceRules").enumerate() {
        resource_rule(one, &path.child("resourceRules").index(place), errors);
    }
    for (place, one) in items(rule, "nonResourceRules").enumerate() {
        path_rule(one, &path.child("nonResourceRules").index(place), errors);
    }
}

/// The forms of subjects: the kind, and the field that says which.
const SUBJECTS: [(&str, &str); 3] =
    [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")];

fn subject(subject: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let kind = text(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(known, _)| *known == kind) else {
        let known = ["Group", "ServiceAccount", "User"];
        return errors.push(FieldError::not_supported(&path.child("kind"), kind, &known));
    };
    let (who, at) = (&subject[*own], path.child(own));
    if who.is_null() {
        let message = format!("{own} is required when subject kind is '{kind}'");
        errors.push(FieldError::required(&at, &message));
    } else {
        named(who, kind, &at, errors);
    }
    for (other, field) in SUBJECTS.iter().filter(|(other, _)| *other != kind) {
        if !subject[*field].is_null() {
            let message = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.push(FieldError::forbidden(&path.child(field), &message));
        }
    }
}

fn named(who: &Value, kind: &str, path: &FieldPath, errors: &mut ErrorList) {
    let name = text(who, "name");
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else if kind == "ServiceAccount" && name != "*" {
        subdomain(name, &path.child("name"), errors);
    }
    if kind != "ServiceAccount" {
        return;
    }
    match text(who, "namespace") {
        "" => {
            let message = "must specify namespace for service account";
            errors.push(FieldError::required(&path.child("namespace"), message));
        }
        namespace => label(namespace, &path.child("namespace"), errors),
    }
}

/// A list that must not be empty, and holds the star alone if at all. Returns whether its entries are to be looked at.
fn starred(
    rule: &Value,
    path: &FieldPath,
    name: &str,
    empty: &str,
    others: &str,
    errors: &mut ErrorList,
) -> bool {
    let at = path.child(name);
    let count = items(rule, name).count();
    if count == 0 {
        errors.push(FieldError::required(&at, empty));
    }
    let star = items(rule, name).any(|entry| entry == "*");
    if star && count > 1 {
        let message = format!("if '*' is present, must not specify other {others}");
        errors.push(FieldError::invalid(&at, rule[name].clone(), &message));
    }
    count > 0 && !star
}

fn verbs(rule: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let looked_at = starred(rule, path, "verbs", "verbs must contain at least one value", "verbs", errors);
    if looked_at && !items(rule, "verbs").all(|verb| verb.as_str().is_some_and(|verb| VERBS.contains(&verb)))
    {
        errors.push(FieldError::not_supported(&path.child("verbs"), rule["verbs"].clone(), &VERBS));
    }
}

fn path_rule(rule: &Value, path: &FieldPath, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let name = "nonResourceURLs";
    let empty = "nonResourceURLs must contain at least one value";
    if starred(rule, path, name, empty, "non-resource URLs", errors) {
        for (place, url) in items(rule, name).enumerate() {
            let url = url.as_str().unwrap_or_default();
            if let Some(message) = why_no_path(url) {
                errors.push(FieldError::invalid(&path.child(name).index(place), url, message));
            }
        }
    }
}

/// `ValidateNonResourceURLPath`
fn why_no_path(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "/" => None,
        "" => Some("must not be empty"),
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || stars == 1 && !path.ends_with("/*") => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

fn resource_rule(rule: &Value, path: &FieldPath, errors: &mut ErrorList) {
    verbs(rule, path, errors);
    let empty = "resource rules must supply at least one api group";
    starred(rule, path, "apiGroups", empty, "api groups", errors);
    let empty = "resource rules must supply at least one resource";
    starred(rule, path, "resources", empty, "resources", errors);
    if rule["clusterScope"] == true && items(rule, "namespaces").next().is_none() {
        return;
    }
    let name = "namespaces";
    let empty = "resource rules that are not cluster scoped must supply at least one namespace";
    if starred(rule, path, name, empty, "namespaces", errors) {
        for (place, namespace) in items(rule, name).enumerate() {
            let namespace = namespace.as_str().unwrap_or_default();
            for error in names::dns1123_label(namespace) {
                let message = format!("each member of this list must be '*' or a DNS-1123 label; {error}");
                errors.push(FieldError::invalid(&path.child(name).index(place), namespace, &message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn level_with(queuing: Value) -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 1, "lendablePercent": 0, "limitResponse": {"type": "Queue", "queuing": queuing},
        }}})
    }

    fn told(check: fn(&Value, &mut ErrorList), object: &Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        check(object, &mut errors);
        errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
    }

    #[track_caller]
    fn refused(check: fn(&Value, &mut ErrorList), object: &Value, expect: &str) {
        let found = told(check, object);
        assert!(found.iter().any(|error| error.contains(expect)), "{found:?}");
    }

    #[test]
    fn what_every_server_makes_is_right_and_cannot_be_changed() {
        for (name, spec) in flow::levels() {
            assert_eq!(told(level, &json!({"metadata": {"name": name}, "spec": spec})), [""; 0], "{name}");
        }
        for (name, spec) in flow::schemas() {
            assert_eq!(told(schema, &json!({"metadata": {"name": name}, "spec": spec})), [""; 0], "{name}");
        }
        let mut other =
            json!({"metadata": {"name": "catch-all"}, "spec": flow::mandatory_level("catch-all")});
        other["spec"]["limited"]["nominalConcurrencyShares"] = 9.into();
        refused(level, &other, "spec of 'catch-all' must equal the fixed value");
    }

    #[test]
    fn a_hand_must_fit_its_queues_and_the_number_that_it_is_dealt_from() {
        let good = json!({"queues": 128, "handSize": 6, "queueLengthLimit": 50});
        assert_eq!(told(level, &level_with(good)), [""; 0]);
        let hand = |queues: i64, hand: i64| {
            level_with(json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50}))
        };
        refused(level, &hand(4, 5), "should not be greater than queues (4)");
        refused(level, &hand(10_000, 9_000), "required entropy bits of deckSize 10000 and handSize 9000");
        refused(level, &hand(0, 1), "spec.limited.limitResponse.queuing.queues: ");
        refused(level, &hand(20_000_000, 1), "must not be greater than 10000000");
    }

    #[test]
    fn rules_must_say_who_and_what() {
        let with = |rule: Value| {
            json!({"metadata": {"name": "a"}, "spec": {
                "matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "b"}, "rules": [rule],
            }})
        };
        refused(schema, &with(json!({})), "subjects must contain at least one value");
        refused(schema, &with(json!({})), "at least one of resourceRules and nonResourceRules");
        let both = json!({"kind": "User", "user": {"name": "a"}, "group": {"name": "b"}});
        refused(
            schema,
            &with(json!({"subjects": [both]})),
            "group is forbidden when subject kind is not 'Group'",
        );
        let verbs = json!({"resourceRules": [{"verbs": ["*", "get"], "namespaces": ["A"]}]});
        refused(schema, &with(verbs.clone()), "if '*' is present, must not specify other verbs");
        refused(schema, &with(verbs), "each member of this list must be '*' or a DNS-1123 label");
        let url = json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/a*"]}]});
        refused(schema, &with(url), "wildcard can only do suffix matching");
    }
}
