//! The manifest of a desired object, parsed once.

use bytes::Bytes;
use federation_core::api::marks;
use hub_protocol::agent::Entry;
use serde_json::Value;

/// A resource version that no object has: etcd counts up from 1, and would take 292,000 years at a million writes a second.
const NOT_THERE: &str = "9223372036854775807";

/// An entry of the desired state with what is needed to apply and to compare it. It is kept as text: a parsed object takes several times
/// the memory, and parsing takes microseconds.
#[derive(Debug)]
pub struct Wanted {
    /// What is wanted.
    pub entry: Entry,
    /// What to send, with the federation's marks: the hub's bytes as they are where the marks are in them already. `None` if they are
    /// not a JSON object.
    body: Option<Bytes>,
}

impl Wanted {
    /// What is to be applied for an entry: with the marks, and scaled to zero where its lease has lapsed.
    pub fn new(entry: Entry) -> Self {
        let value = serde_json::from_slice::<Value>(&entry.manifest).ok().filter(Value::is_object);
        let body = value.map(|mut value| {
            let replicas = raise(&mut value, entry.floor) | (entry.stopped && stop(&mut value));
            if fill_merge_keys(&mut value) | mark(&mut value, &entry) | replicas {
                Bytes::from(value.to_string())
            } else {
                entry.manifest.clone()
            }
        });
        Self { entry, body }
    }

    /// The object; `None` if the hub's bytes are none.
    pub fn value(&self) -> Option<Value> {
        serde_json::from_slice(self.body.as_ref()?).ok()
    }

    /// The body of a server-side apply. An adopted object keeps its mark: a field that we no longer send would be taken off.
    pub fn body(&self, adopted: bool) -> Option<Vec<u8>> {
        if !adopted {
            return self.body.as_ref().map(|body| body.to_vec());
        }
        let mut value = self.value()?;
        put(&mut value, "annotations", marks::ADOPTED, "true");
        Some(value.to_string().into_bytes())
    }

    /// The body of a server-side apply that only makes: of an object that is there it is refused as a conflict, whatever its version.
    /// The version is a precondition and no field, so that nobody owns it afterwards.
    pub fn body_if_absent(&self) -> Option<Vec<u8>> {
        let mut value = self.value()?;
        value.get_mut("metadata")?.as_object_mut()?.insert("resourceVersion".into(), NOT_THERE.into());
        Some(value.to_string().into_bytes())
    }
}

/// Scales up to what a contingency plan says; tells whether anything changed.
fn raise(value: &mut Value, floor: u32) -> bool {
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut).filter(|_| floor > 0) else {
        return false;
    };
    let more = spec.get("replicas").and_then(Value::as_i64).unwrap_or(1) < i64::from(floor);
    if more {
        spec.insert("replicas".into(), floor.into());
    }
    more
}

/// Scales to zero; tells whether anything changed.
fn stop(value: &mut Value) -> bool {
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else { return false };
    spec.insert("replicas".into(), 0.into()) != Some(0.into())
}

/// Fills in `protocol: TCP` in lists of ports, where it is part of the merge key. Before Kubernetes 1.23 the schema has no default for it, and
/// server-side apply fails without it (kubernetes/kubernetes#92332). Tells whether anything changed.
fn fill_merge_keys(value: &mut Value) -> bool {
    let is_service = value.get("kind").and_then(Value::as_str) == Some("Service");
    let mut changed = is_service && fill_ports(value.pointer_mut("/spec/ports"), "port");
    let pods = ["/spec", "/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
    for pod in pods {
        for containers in ["containers", "initContainers"] {
            let Some(Value::Array(containers)) = value.pointer_mut(&format!("{pod}/{containers}")) else {
                continue;
            };
            for container in containers {
                changed |= fill_ports(container.get_mut("ports"), "containerPort");
            }
        }
    }
    changed
}

fn fill_ports(ports: Option<&mut Value>, key: &str) -> bool {
    let Some(Value::Array(ports)) = ports else { return false };
    let mut changed = false;
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        if port.contains_key(key) && !port.contains_key("protocol") {
            port.insert("protocol".into(), "TCP".into());
            changed = true;
        }
    }
    changed
}

/// Puts the federation's marks on; tells whether anything changed.
fn mark(value: &mut Value, entry: &Entry) -> bool {
    let mut changed = put(value, "labels", marks::MANAGED, "true");
    let annotations = [
        (marks::TEMPLATE_UID, entry.uid.clone()),
        (marks::TEMPLATE_GENERATION, entry.generation.to_string()),
    ];
    for (name, text) in annotations {
        changed |= put(value, "annotations", name, &text);
    }
    // The epoch of the manifest, where the hub wrote one, is that of its rendering: leave it.
    if annotation(value, marks::EPOCH).is_none() {
        changed |= put(value, "annotations", marks::EPOCH, &entry.epoch.to_string());
    }
    changed
}

fn put(value: &mut Value, map: &str, name: &str, text: &str) -> bool {
    let Some(object) = value.as_object_mut() else { return false };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Default::default()));
    let Some(metadata) = metadata.as_object_mut() else { return false };
    let names = metadata.entry(map).or_insert(Value::Null);
    if names.is_null() {
        *names = Value::Object(Default::default());
    }
    let Some(names) = names.as_object_mut() else { return false };
    if names.get(name).and_then(Value::as_str) == Some(text) {
        return false;
    }
    names.insert(name.into(), text.into());
    true
}

/// An annotation of any object.
pub fn annotation<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

/// Epoch of the decision that a copy is of; 0 if it does not say.
pub fn epoch(copy: &Value) -> u64 {
    annotation(copy, marks::EPOCH).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether the object carries the federation's label.
pub fn is_managed(value: &Value) -> bool {
    let label = value.get("metadata").and_then(|m| m.get("labels")).and_then(|l| l.get(marks::MANAGED));
    label.and_then(Value::as_str) == Some("true")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::held;

    fn entry(manifest: &str) -> Entry {
        Entry { uid: "u".into(), generation: 3, epoch: 9, ..held(hub_protocol::Key::default(), manifest) }
    }

    #[test]
    fn marks_are_added_where_the_hub_left_them_out_and_bytes_kept_where_not() {
        let bare = Wanted::new(entry(r#"{"kind":"ConfigMap","metadata":{"name":"a"}}"#));
        let sent: Value = serde_json::from_slice(&bare.body(false).unwrap()).unwrap();
        assert!(is_managed(&sent));
        assert_eq!(annotation(&sent, marks::TEMPLATE_UID), Some("u"));
        assert_eq!(annotation(&sent, marks::EPOCH), Some("9"));
        let marked = Wanted::new(entry(std::str::from_utf8(&bare.body(false).unwrap()).unwrap()));
        assert_eq!(marked.body(false).unwrap(), marked.entry.manifest.to_vec());
    }

    #[test]
    fn a_floor_only_raises() {
        let of = |replicas: i64, floor: u32, stopped: bool| {
            let manifest = format!("{{\"metadata\":{{}},\"spec\":{{\"replicas\":{replicas}}}}}");
            let wanted = Wanted::new(Entry { floor, stopped, ..entry(&manifest) });
            wanted.value().unwrap()["spec"]["replicas"].as_i64().unwrap()
        };
        assert_eq!((of(2, 0, false), of(2, 4, false), of(6, 4, false), of(2, 4, true)), (2, 4, 6, 0));
    }

    #[test]
    fn an_adopted_object_keeps_its_mark() {
        let wanted = Wanted::new(entry(r#"{"metadata":{"name":"a"}}"#));
        let sent: Value = serde_json::from_slice(&wanted.body(true).unwrap()).unwrap();
        assert_eq!(annotation(&sent, marks::ADOPTED), Some("true"));
    }

    #[test]
    fn what_only_makes_names_a_version_that_nothing_has() {
        let wanted = Wanted::new(entry(r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#));
        let mut sent: Value = serde_json::from_slice(&wanted.body_if_absent().unwrap()).unwrap();
        let version = sent["metadata"].as_object_mut().unwrap().remove("resourceVersion").unwrap();
        assert_eq!(version.as_str().unwrap().parse(), Ok(i64::MAX));
        assert_eq!(sent, wanted.value().unwrap());
    }

    #[test]
    fn ports_get_the_protocol_that_old_members_need() {
        let service = Wanted::new(entry(
            r#"{"kind":"Service","metadata":{},"spec":{"ports":[{"port":80},{"port":53,"protocol":"UDP"}]}}"#,
        ));
        let sent: Value = serde_json::from_slice(&service.body(false).unwrap()).unwrap();
        assert_eq!(sent["spec"]["ports"][0]["protocol"], "TCP");
        assert_eq!(sent["spec"]["ports"][1]["protocol"], "UDP");
        let job = Wanted::new(entry(
            r#"{"kind":"Deployment","metadata":{},"spec":{"template":{"spec":{"containers":[{"ports":[{"containerPort":80}]}]}}}}"#,
        ));
        assert_eq!(
            job.value().unwrap()["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"],
            "TCP"
        );
    }

    #[test]
    fn what_is_no_object_is_left_as_it_is() {
        assert!(Wanted::new(entry("[]")).value().is_none());
        assert!(Wanted::new(entry("[]")).body(true).is_none());
        let odd = Wanted::new(entry("{\"metadata\": 3}"));
        assert!(odd.value().is_some());
        assert!(odd.body_if_absent().is_none());
    }
}
