//! What claims say of their requests by name, and what is said of the devices that they get: `apis/resource/validation`.

use std::collections::{HashMap, HashSet};

use apimachinery::{FieldError, FieldPath, FieldReason, addresses, names};
use serde_json::Value;

use super::{
    resource::{few, pool_name},
    resource_slice::{EFFECTS, binding, qualified},
};
use crate::{
    registry::ErrorList,
    validation::{deleting, driver, immutable, items, label, listed, news, pod_spec, required, text},
};

const MOST_REQUESTS: usize = 32;
const MOST_USERS: usize = 256;
const MOST_RESULTS: usize = 32;
/// Those of a class and those of a claim.
const MOST_CONFIGURATIONS: usize = 64;
/// Bytes of what is handed to drivers, or told by them: `OpaqueParametersMaxLength`, `AllocatedDeviceStatusDataMaxLength`.
const MOST_BYTES: usize = 10 * 1024;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;
const INTERFACE_MAX: usize = 256;
const HARDWARE_ADDRESS_MAX: usize = 128;

const NO_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// The names of a claim's requests, each with those of its alternatives.
pub(super) struct Requests<'a>(HashMap<&'a str, HashSet<&'a str>>);

impl<'a> Requests<'a> {
    pub(super) fn of(devices: &'a Value) -> Self {
        let named = |request: &'a Value| {
            let others = items(request, "firstAvailable").map(|other| text(other, "name"));
            (text(request, "name"), others.collect())
        };
        Self(items(devices, "requests").map(named).collect())
    }

    fn has(&self, name: &str) -> bool {
        let (request, other) = name.split_once('/').map_or((name, None), |(name, other)| (name, Some(other)));
        self.0.get(request).is_some_and(|others| other.is_none_or(|other| others.contains(other)))
    }

    fn check(&self, name: &str, path: &FieldPath, errors: &mut ErrorList) {
        if name.matches('/').count() > 1 {
            errors.push(FieldError::invalid(path, name, NO_REQUEST));
            return;
        }
        name.split('/').for_each(|part| label(part, path, errors));
        if !self.has(name) {
            errors.push(FieldError::invalid(path, name, NO_REQUEST));
        }
    }

    /// The requests that something is for.
    fn check_list(&self, object: &Value, path: &FieldPath, errors: &mut ErrorList) {
        let list = few(object, "requests", path, MOST_REQUESTS, errors);
        let path = path.child("requests");
        let names: Vec<_> = list.iter().map(|name| name.as_str().unwrap_or_default()).collect();
        for (index, name) in names.iter().enumerate() {
            self.check(name, &path.index(index), errors);
        }
        let mut seen = HashSet::new();
        for (index, name) in names.into_iter().enumerate().filter(|(_, name)| !seen.insert(*name)) {
            errors.push(FieldError::duplicate(&path.index(index), name));
        }
    }

    /// What the devices of several requests have in common, or not.
    pub(super) fn check_constraint(&self, constraint: &Value, path: &FieldPath, errors: &mut ErrorList) {
        self.check_list(constraint, path, errors);
        let attribute = ["matchAttribute", "distinctAttribute"]
            .into_iter()
            .find_map(|name| Some((name, constraint[name].as_str()?)));
        let Some((place, name)) = attribute else {
            // In these words, though there is none.
            let message = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(FieldError::required(path, message));
            return;
        };
        let path = path.child(place);
        qualified(name, &path, errors);
        if !name.contains('/') {
            let message = "a fully qualified name must be a domain and a name separated by a slash";
            errors.push(FieldError::invalid(&path, name, message));
        }
    }

    pub(super) fn check_configuration(&self, config: &Value, path: &FieldPath, errors: &mut ErrorList) {
        self.check_list(config, path, errors);
        configuration(config, path, errors);
    }

    /// Devices that a claim gets.
    fn check_allocation(&self, allocation: &Value, path: &FieldPath, errors: &mut ErrorList) {
        let (devices, place) = (&allocation["devices"], path.child("devices"));
        for (index, result) in few(devices, "results", &place, MOST_RESULTS, errors).iter().enumerate() {
            let path = place.child("results").index(index);
            self.check(text(result, "request"), &path.child("request"), errors);
            device(result, &path, errors);
            binding(result, &path, errors);
        }
        for (index, config) in few(devices, "config", &place, MOST_CONFIGURATIONS, errors).iter().enumerate()
        {
            let path = place.child("config").index(index);
            if let Some(source) = required(config, &path, "source", errors) {
                listed(source, &path.child("source"), &["FromClaim", "FromClass"], errors);
            }
            self.check_configuration(config, &path, errors);
        }
        if allocation["nodeSelector"].is_object() {
            pod_spec::node_selector(&allocation["nodeSelector"], &path.child("nodeSelector"), errors);
        }
    }
}

/// What is handed to a driver.
pub(super) fn configuration(config: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (opaque, path) = (&config["opaque"], path.child("opaque"));
    if opaque.is_object() {
        driver(text(opaque, "driver"), &path.child("driver"), errors);
        raw(&opaque["parameters"], &path.child("parameters"), errors);
    } else {
        errors.push(FieldError::required(&path, ""));
    }
}

fn raw(value: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if value.is_null() {
        errors.push(FieldError::required(path, ""));
    } else if value.to_string().len() > MOST_BYTES {
        errors.push(FieldError::too_long(path, MOST_BYTES));
    } else if !value.is_object() {
        errors.push(FieldError::invalid(path, "<value omitted>", "must be a valid JSON object"));
    }
}

pub(super) fn toleration(toleration: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (key, value) = (text(toleration, "key"), text(toleration, "value"));
    if !key.is_empty() {
        let place = path.child("key");
        errors.extend(names::label_key(key).iter().map(|error| FieldError::invalid(&place, key, error)));
    }
    let place = path.child("value");
    match text(toleration, "operator") {
        "Exists" if !value.is_empty() => {
            errors.push(FieldError::invalid(&place, value, "must be empty for operator `Exists`"));
        }
        "Exists" => {}
        "Equal" => {
            let found = names::label_value(value);
            errors.extend(found.iter().map(|error| FieldError::invalid(&place, value, error)));
        }
        "" => errors.push(FieldError::required(&path.child("operator"), "")),
        other => listed(other, &path.child("operator"), &["Equal", "Exists"], errors),
    }
    let effect = text(toleration, "effect");
    if !effect.is_empty() {
        listed(effect, &path.child("effect"), &EFFECTS, errors);
    }
}

/// Which device it is.
fn device(of: &Value, path: &FieldPath, errors: &mut ErrorList) {
    driver(text(of, "driver"), &path.child("driver"), errors);
    pool_name(of, "pool", path, errors);
    label(text(of, "device"), &path.child("device"), errors);
}

fn id(of: &Value) -> String {
    let id = [text(of, "driver"), text(of, "pool"), text(of, "device")].join("/");
    match text(of, "shareID") {
        "" => id,
        share => format!("{id}/{share}"),
    }
}

/// The errors of a change of a claim's status: `validateResourceClaimStatusUpdate`. Those that the stored status has as well do not stand in
/// the way of others who write it.
pub(super) fn status(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (status, before, path) = (&new["status"], &old["status"], FieldPath::new("status"));
    if status == before {
        return;
    }
    news(users, new, old, errors);
    news(told, new, old, errors);
    let known: HashSet<_> = items(before, "reservedFor").map(Value::to_string).collect();
    let (place, path) = (path.child("reservedFor"), path.child("allocation"));
    let joined = items(status, "reservedFor").any(|user| !known.contains(&user.to_string()));
    let allocation = &status["allocation"];
    if is_unallocated(new) {
        if joined || !is_unallocated(old) {
            errors.push(FieldError::forbidden(&place, "may not be specified when `allocated` is not set"));
        }
    } else if joined && deleting(new) {
        let message =
            "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(FieldError::forbidden(&place, message));
    }
    if !allocation.is_null() {
        if before["allocation"].is_null() {
            let requests = Requests::of(&new["spec"]["devices"]);
            requests.check_allocation(allocation, &path, errors);
        } else {
            immutable(allocation, &before["allocation"], &path, errors);
        }
    }
}

/// Whether somebody is to use devices that there are not.
fn is_unallocated(claim: &Value) -> bool {
    items(&claim["status"], "reservedFor").next().is_some() && claim["status"]["allocation"].is_null()
}

/// Who uses a claim.
fn users(claim: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("status");
    let users = few(&claim["status"], "reservedFor", &path, MOST_USERS, errors);
    let place = path.child("reservedFor");
    for (index, user) in users.iter().enumerate() {
        for name in ["resource", "name", "uid"] {
            required(user, &place.index(index), name, errors);
        }
    }
    let mut seen = HashSet::new();
    for (index, user) in users.iter().enumerate().filter(|(_, user)| !seen.insert(text(user, "uid"))) {
        errors.push(FieldError::duplicate(&place.index(index), text(user, "uid")));
    }
}

/// What drivers tell of devices.
fn told(claim: &Value, errors: &mut ErrorList) {
    let status = &claim["status"];
    let allocated: HashSet<_> = items(&status["allocation"]["devices"], "results").map(id).collect();
    let path = FieldPath::new("status.devices");
    let mut seen = HashSet::new();
    for (index, one) in items(status, "devices").enumerate() {
        let (path, id) = (path.index(index), id(one));
        device(one, &path, errors);
        if !allocated.contains(&id) {
            let message = format!("{id}: must be an allocated device in the claim");
            errors.push(FieldError::new(FieldReason::Invalid, &path, None, &message));
        }
        few(one, "conditions", &path, MOST_CONDITIONS, errors);
        if !one["data"].is_null() {
            raw(&one["data"], &path.child("data"), errors);
        }
        network(&one["networkData"], &path.child("networkData"), errors);
        if !seen.insert(id) {
            errors.push(FieldError::duplicate(&path, one.clone()));
        }
    }
}

fn network(data: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (name, most) in [("interfaceName", INTERFACE_MAX), ("hardwareAddress", HARDWARE_ADDRESS_MAX)] {
        if text(data, name).len() > most {
            errors.push(FieldError::too_long(&path.child(name), most));
        }
    }
    let list = few(data, "ips", path, MOST_ADDRESSES, errors);
    for (index, address) in list.iter().enumerate() {
        let (address, path) = (address.as_str().unwrap_or_default(), path.child("ips").index(index));
        let found = addresses::interface(address);
        errors.extend(found.map(|error| FieldError::invalid(&path, address, &error)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(find: impl FnOnce(&mut ErrorList), expect: &[&str]) {
        let mut errors = ErrorList::new();
        find(&mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    fn devices() -> Value {
        json!({"requests": [{"name": "a"}, {"name": "b", "firstAvailable": [{"name": "c"}]}]})
    }

    #[test]
    fn constraints_and_configurations_are_for_requests_of_the_claim() {
        let (devices, path) = (devices(), FieldPath::new("p"));
        let requests = Requests::of(&devices);
        let constraint = |constraint: Value, expect: &[&str]| {
            check(|errors| requests.check_constraint(&constraint, &path, errors), expect);
        };
        constraint(json!({"requests": ["a", "b", "b/c"], "matchAttribute": "d.io/n"}), &[]);
        constraint(
            json!({"requests": ["nope", "a/c", "a", "a"], "matchAttribute": "noslash"}),
            &[
                &format!(r#"p.requests[0]: Invalid value: "nope": {NO_REQUEST}"#),
                &format!(r#"p.requests[1]: Invalid value: "a/c": {NO_REQUEST}"#),
                r#"p.requests[3]: Duplicate value: "a""#,
                r#"p.matchAttribute: Invalid value: "noslash": a fully qualified name must be a domain and a name separated by a slash"#,
            ],
        );
        constraint(
            json!({}),
            &[
                r#"p: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#,
            ],
        );
        let config = json!({"requests": ["a"], "opaque": {"driver": "d.io", "parameters": [1]}});
        check(
            |errors| requests.check_configuration(&config, &path, errors),
            &[r#"p.opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object"#],
        );
        check(
            |errors| requests.check_configuration(&json!({}), &path, errors),
            &["p.opaque: Required value"],
        );
    }

    #[test]
    fn taints_of_devices_are_tolerated_in_known_ways() {
        let told = |of: Value, expect: &[&str]| {
            check(|errors| toleration(&of, &FieldPath::new("t"), errors), expect);
        };
        told(json!({"operator": "Exists"}), &[]);
        told(
            json!({"operator": "Nope", "effect": "Bad"}),
            &[
                r#"t.operator: Unsupported value: "Nope": supported values: "Equal", "Exists""#,
                r#"t.effect: Unsupported value: "Bad": supported values: "NoExecute", "NoSchedule", "None""#,
            ],
        );
    }

    #[test]
    fn a_claim_in_use_stays_allocated() {
        let result = json!({"request": "a", "driver": "d.io", "pool": "p", "device": "x"});
        let allocated = json!({"devices": {"results": [result]}});
        let user = json!({"resource": "pods", "name": "p", "uid": "u"});
        let claim = |status: Value| json!({"spec": {"devices": devices()}, "status": status});
        let held = claim(json!({"allocation": allocated, "reservedFor": [user]}));
        let told =
            |new: &Value, old: &Value, expect: &[&str]| check(|errors| status(new, old, errors), expect);
        told(&held, &claim(json!({})), &[]);
        told(
            &claim(json!({"reservedFor": [user]})),
            &held,
            &["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
        );
        let mut going = held.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        told(
            &going,
            &claim(json!({"allocation": allocated})),
            &[
                "status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            ],
        );
        let mut spoken = held.clone();
        let address = json!({"ips": ["10.0.0.1/24", "010.0.0.1/24"]});
        spoken["status"]["devices"] = json!([
            {"driver": "d.io", "pool": "p", "device": "x", "networkData": address},
            {"driver": "d.io", "pool": "p", "device": "y"},
        ]);
        told(
            &spoken,
            &held,
            &[
                r#"status.devices[0].networkData.ips[1]: Invalid value: "010.0.0.1/24": must be in canonical form ("10.0.0.1/24")"#,
                "status.devices[1]: Invalid value: d.io/p/y: must be an allocated device in the claim",
            ],
        );
    }

    #[test]
    fn what_an_older_server_took_into_a_status_does_not_stand_in_the_way() {
        let user = |name: &str, uid: &str| json!({"resource": "pods", "name": name, "uid": uid});
        let claim = |status: Value| json!({"spec": {"devices": devices()}, "status": status});
        let check =
            |new: &Value, old: &Value, expect: &[&str]| check(|errors| status(new, old, errors), expect);
        let odd = json!({"driver": "d.io", "pool": "p", "device": "y"});
        let twice = [user("p", "u"), user("q", "u"), user("r", "v")];
        let stored = claim(json!({"reservedFor": twice, "devices": [odd]}));
        // One leaves, or there are devices at last.
        check(&claim(json!({"reservedFor": twice[..2], "devices": [odd]})), &stored, &[]);
        let result = json!({"request": "a", "driver": "d.io", "pool": "p", "device": "x"});
        let allocation = json!({"devices": {"results": [result]}});
        let allocated = json!({"reservedFor": twice, "devices": [odd], "allocation": allocation});
        check(&claim(allocated), &stored, &[]);
        let more = [user("p", "u"), user("q", "u"), user("r", "v"), user("s", "v")];
        let other = json!({"driver": "d.io", "pool": "p", "device": "z"});
        check(
            &claim(json!({"reservedFor": more, "devices": [odd, other]})),
            &stored,
            &[
                r#"status.reservedFor[3]: Duplicate value: "v""#,
                "status.devices[1]: Invalid value: d.io/p/z: must be an allocated device in the claim",
                "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
            ],
        );
    }
}
