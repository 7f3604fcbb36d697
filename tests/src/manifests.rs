//! What the tests apply.

use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name for a namespace that no other test, and no earlier run, has used.
pub fn unique(what: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{:x}-{number}", std::process::id())
}

/// The test's namespace. Its label lets the harness remove it from the members afterwards.
pub fn namespace(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels: {{federation-e2e: \"true\"}}\n---\n"
    )
}

/// A Deployment of real web servers.
pub fn deployment(namespace: &str, name: &str, replicas: u32) -> String {
    workload("Deployment", namespace, name, replicas)
}

/// A ReplicaSet of real web servers.
pub fn replica_set(namespace: &str, name: &str, replicas: u32) -> String {
    workload("ReplicaSet", namespace, name, replicas)
}

fn workload(kind: &str, namespace: &str, name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: registry.local/site:1
        imagePullPolicy: IfNotPresent
        args: [web]
        env:
        - {{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
---
"
    )
}

/// A Service that users reach at the same port of every node.
pub fn node_port(namespace: &str, name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  type: NodePort
  selector: {{app: {name}}}
  ports: [{{name: http, port: 8080, targetPort: 8080, nodePort: {port}}}]
---
"
    )
}

/// A ConfigMap with one key, `key`.
pub fn config_map(namespace: &str, name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{key: {value:?}}}\n---\n"
    )
}

/// A PlacementPolicy that divides a workload by weights.
pub fn weights(namespace: &str, kind: &str, name: &str, taiwan: u32, tokyo: u32) -> String {
    format!(
        "apiVersion: federation.rs/v1alpha1
kind: PlacementPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  resourceSelectors: [{{apiVersion: apps/v1, kind: {kind}, name: {name}}}]
  replicas:
    mode: Divide
    rebalance: true
    clusters:
      taiwan: {{weight: {taiwan}}}
      tokyo: {{weight: {tokyo}}}
---
"
    )
}

/// A TrafficPolicy by which every answer names every place that serves.
pub fn answer_with_all(namespace: &str, service: &str) -> String {
    format!(
        "apiVersion: federation.rs/v1alpha1
kind: TrafficPolicy
metadata: {{name: {service}, namespace: {namespace}}}
spec: {{service: {service}, strategy: All, ttlSeconds: 1}}
---
"
    )
}
