//! Validation of container lifecycles: probes, hooks, restart rules, and resize policies.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, net, one_of, required, text, visit};
use crate::registry::ErrorList;

/// What the rules of a container need of its pod.
pub(super) struct Pod<'a> {
    /// Seconds; none if the pod does not say.
    grace: Option<i64>,
    restart_policy: &'a str,
    os: &'a str,
}

impl<'a> Pod<'a> {
    pub(super) fn of(spec: &'a Value) -> Self {
        Self {
            grace: spec["terminationGracePeriodSeconds"].as_i64(),
            restart_policy: text(spec, "restartPolicy"),
            os: text(&spec["os"], "name"),
        }
    }
}

/// Finds the errors of a container in a list of the spec.
pub(super) fn validate(
    container: &Value,
    path: &FieldPath,
    list: &str,
    pod: &Pod<'_>,
    errors: &mut ErrorList,
) {
    if list == "ephemeralContainers" {
        return;
    }
    if list == "initContainers" && !visit::is_sidecar(container) {
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if !container[field].is_null() {
                let message = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(&path.child(field), message));
            }
        }
    } else {
        lifecycle(&container["lifecycle"], &path.child("lifecycle"), pod, errors);
        for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if container[name].is_object() {
                probe(&container[name], &path.child(name), name != "readinessProbe", pod, errors);
            }
        }
    }
    if list == "initContainers" {
        // How these restart is looked at before their names.
        restarts_container(container, path, errors);
    } else {
        restarts(container, path, errors);
    }
}

/// Who runs before the others does not begin anew because it gets more.
fn restarts_container(container: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if visit::is_sidecar(container) {
        return;
    }
    for (index, policy) in items(container, "resizePolicy").enumerate() {
        if policy["restartPolicy"] == "RestartContainer" {
            let path = path.child("resizePolicy").index(index).child("restartPolicy");
            let message = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(FieldError::invalid(&path, "RestartContainer", message));
        }
    }
}

/// Signals that a container of Windows may be stopped with.
const WINDOWS_SIGNALS: [&str; 2] = ["SIGKILL", "SIGTERM"];
/// The same of Linux.
const LINUX_SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMAX-14",
    "SIGRTMAX-13",
    "SIGRTMAX-12",
    "SIGRTMAX-11",
    "SIGRTMAX-10",
    "SIGRTMAX-9",
    "SIGRTMAX-8",
    "SIGRTMAX-7",
    "SIGRTMAX-6",
    "SIGRTMAX-5",
    "SIGRTMAX-4",
    "SIGRTMAX-3",
    "SIGRTMAX-2",
    "SIGRTMAX-1",
    "SIGRTMAX",
];

fn lifecycle(lifecycle: &Value, path: &FieldPath, pod: &Pod<'_>, errors: &mut ErrorList) {
    for hook in ["postStart", "preStop"] {
        if lifecycle[hook].is_object() {
            handler_of(&lifecycle[hook], &path.child(hook), true, pod, errors);
        }
    }
    let Some(signal) = lifecycle["stopSignal"].as_str() else { return };
    let path = path.child("stopSignal");
    match pod.os {
        "" => {
            let message = "may not be set for containers with empty `spec.os.name`";
            errors.push(FieldError::forbidden(&path, message));
        }
        "windows" => one_of(signal, &path, &WINDOWS_SIGNALS, errors),
        "linux" => one_of(signal, &path, &LINUX_SIGNALS, errors),
        // Which is no system, and told as such.
        _ => {}
    }
}

/// Which resources may change while the container runs: `validation.validateResizePolicy`. The places have no index, as kube-apiserver
/// names them.
pub(super) fn resize_policy(container: &Value, path: &FieldPath, pod: &Pod<'_>, errors: &mut ErrorList) {
    let path = path.child("resizePolicy");
    let mut seen = HashSet::new();
    for (index, policy) in items(container, "resizePolicy").enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if !seen.insert(resource) {
            errors.push(FieldError::duplicate(&path.index(index), resource));
        }
        for (value, known) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])]
        {
            if value.is_empty() {
                errors.push(FieldError::required(&path, ""));
            } else {
                one_of(value, &path, &known, errors);
            }
        }
        if pod.restart_policy == "Never" && restart != "NotRequired" {
            let message = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(&path, restart, message));
        }
    }
}

const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

/// Whether a container starts anew, and after which exit codes: `validation.validateContainerRestartPolicy` (KEP-5307).
pub(super) fn restarts(container: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let rules = path.child("restartPolicyRules");
    match container["restartPolicy"].as_str() {
        Some(policy) => {
            one_of(policy, &path.child("restartPolicy"), &["Always", "Never", "OnFailure"], errors);
        }
        None if items(container, "restartPolicyRules").next().is_some() => {
            let message = "must specify restartPolicy when restart rules are used";
            errors.push(FieldError::required(&path.child("restartPolicy"), message));
        }
        None => {}
    }
    let count = items(container, "restartPolicyRules").count();
    if count > MOST_RULES {
        errors.push(FieldError::too_many(&rules, count, MOST_RULES));
    }
    for (index, rule) in items(container, "restartPolicyRules").enumerate() {
        let path = rules.index(index);
        let (action, known) = (text(rule, "action"), ["Restart", "RestartAllContainers"]);
        one_of(action, &path.child("action"), &known, errors);
        let (codes, path) = (&rule["exitCodes"], path.child("exitCodes"));
        if !codes.is_object() {
            errors.push(FieldError::required(&path, "must be specified"));
            continue;
        }
        one_of(text(codes, "operator"), &path.child("operator"), &["In", "NotIn"], errors);
        let count = items(codes, "values").count();
        if count > MOST_CODES {
            errors.push(FieldError::too_many(&path.child("values"), count, MOST_CODES));
        }
    }
}

/// A probe. Liveness and startup must succeed at the first time.
fn probe(probe: &Value, path: &FieldPath, once: bool, pod: &Pod<'_>, errors: &mut ErrorList) {
    handler_of(probe, path, false, pod, errors);
    let counts =
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    super::non_negative(probe, path, &counts, errors);
    if let Some(seconds) = probe["terminationGracePeriodSeconds"].as_i64()
        && seconds <= 0
    {
        let path = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&path, seconds, "must be greater than 0"));
    }
    // Who is not ready is not ended.
    if !once && !probe["terminationGracePeriodSeconds"].is_null() {
        let (path, seconds) =
            (path.child("terminationGracePeriodSeconds"), probe["terminationGracePeriodSeconds"].clone());
        errors.push(FieldError::invalid(&path, seconds, "must not be set for readinessProbes"));
    }
    if let Some(threshold) = probe["successThreshold"].as_i64()
        && once
        && threshold != 1
    {
        errors.push(FieldError::invalid(&path.child("successThreshold"), threshold, "must be 1"));
    }
}

/// What a probe or a hook does: exactly one thing.
fn handler_of(handler: &Value, path: &FieldPath, hook: bool, pod: &Pod<'_>, errors: &mut ErrorList) {
    let mut given = 0;
    for name in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = &handler[name];
        if !action.is_object() || (name == "grpc") == hook && matches!(name, "grpc" | "sleep") {
            continue;
        }
        given += 1;
        let path = path.child(name);
        if given > 1 {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        match name {
            "exec" if action["command"].as_array().is_none_or(Vec::is_empty) => {
                errors.push(FieldError::required(&path.child("command"), ""));
            }
            "httpGet" => {
                required(action, &path, "path", errors);
                net::port_or_name(&action["port"], &path.child("port"), errors);
                one_of(text(action, "scheme"), &path.child("scheme"), &["HTTP", "HTTPS"], errors);
                for header in items(action, "httpHeaders").map(|header| text(header, "name")) {
                    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
                    if header.is_empty() || !header.bytes().all(good) {
                        let message = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                        errors.push(FieldError::invalid(&path.child("httpHeaders"), header, message));
                    }
                }
            }
            "tcpSocket" => net::port_or_name(&action["port"], &path.child("port"), errors),
            "grpc" => net::port(action["port"].as_i64().unwrap_or_default(), &path.child("port"), errors),
            "sleep" => sleep(action, &path, pod, errors),
            _ => {}
        }
    }
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

/// `validation.validateSleepAction`.
fn sleep(action: &Value, path: &FieldPath, pod: &Pod<'_>, errors: &mut ErrorList) {
    let seconds = action["seconds"].as_i64().unwrap_or_default();
    if let Some(grace) = pod.grace
        && !(0..=grace).contains(&seconds)
    {
        let message = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(path, seconds, &message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(list: &str, spec: &Value, container: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        let (path, pod) = (FieldPath::new("c"), Pod::of(spec));
        resize_policy(container, &path, &pod, &mut errors);
        if list == "initContainers" {
            restarts(container, &path, &mut errors);
        }
        validate(container, &path, list, &pod, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn sidecars_have_probes_and_hooks_and_other_init_containers_none() {
        let probed =
            |policy: Value| json!({"restartPolicy": policy, "readinessProbe": {"grpc": {"port": 80}}});
        told("initContainers", &json!({}), &probed(json!("Always")), &[]);
        told(
            "initContainers",
            &json!({}),
            &probed(Value::Null),
            &["c.readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"],
        );
        told(
            "initContainers",
            &json!({}),
            &json!({"restartPolicy": "Foo"}),
            &[
                r#"c.restartPolicy: Unsupported value: "Foo": supported values: "Always", "Never", "OnFailure""#,
            ],
        );
    }

    #[test]
    fn a_container_starts_anew_by_rules_that_are_few_and_say_what_they_are_for() {
        let with = |rules: Value| json!({"restartPolicy": "Never", "restartPolicyRules": rules});
        let codes = |values: usize| json!({"operator": "In", "values": vec![1; values]});
        let check = |container: Value, expect: &[&str]| told("containers", &json!({}), &container, expect);
        check(with(json!([{"action": "RestartAllContainers", "exitCodes": codes(255)}])), &[]);
        check(
            json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": codes(1)}]}),
            &["c.restartPolicy: Required value: must specify restartPolicy when restart rules are used"],
        );
        check(
            with(json!([{"action": "Restart"}, {"exitCodes": {"values": [1]}}])),
            &[
                "c.restartPolicyRules[0].exitCodes: Required value: must be specified",
                r#"c.restartPolicyRules[1].action: Unsupported value: "": supported values: "Restart", "RestartAllContainers""#,
                r#"c.restartPolicyRules[1].exitCodes.operator: Unsupported value: "": supported values: "In", "NotIn""#,
            ],
        );
        check(
            with(vec![json!({"action": "Restart", "exitCodes": codes(1)}); 21].into()),
            &["c.restartPolicyRules: Too many: 21: must have at most 20 items"],
        );
        check(
            with(json!([{"action": "Restart", "exitCodes": codes(256)}])),
            &["c.restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 items"],
        );
    }

    #[test]
    fn which_signals_there_are_depends_on_the_system() {
        let stopped = |signal: &str| json!({"lifecycle": {"stopSignal": signal}});
        let check = |os: &str, signal: &str, expect: &[&str]| {
            told("containers", &json!({"os": {"name": os}}), &stopped(signal), expect);
        };
        check("linux", "SIGRTMIN+15", &[]);
        check("windows", "SIGKILL", &[]);
        check(
            "windows",
            "SIGINT",
            &[
                r#"c.lifecycle.stopSignal: Unsupported value: "SIGINT": supported values: "SIGKILL", "SIGTERM""#,
            ],
        );
        check(
            "",
            "SIGINT",
            &["c.lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"],
        );
        let mut errors = ErrorList::new();
        let pod = json!({"os": {"name": "linux"}});
        validate(&stopped("INT"), &FieldPath::new("c"), "containers", &Pod::of(&pod), &mut errors);
        assert!(
            errors[0].to_string().starts_with(
                r#"c.lifecycle.stopSignal: Unsupported value: "INT": supported values: "SIGABRT", "SIGALRM", "#
            ),
            "{}",
            errors[0]
        );
    }

    #[test]
    fn nobody_sleeps_longer_than_the_pod_has_to_end() {
        let hook = |seconds: i64| json!({"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}});
        let spec = json!({"terminationGracePeriodSeconds": 30});
        told("containers", &spec, &hook(0), &[]);
        told("containers", &spec, &hook(30), &[]);
        told(
            "containers",
            &spec,
            &hook(31),
            &[
                "c.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        );
    }

    #[test]
    fn only_what_may_end_a_container_says_how_long_that_takes() {
        let probe =
            |name: &str| json!({name: {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1}});
        told("containers", &json!({}), &probe("livenessProbe"), &[]);
        told(
            "containers",
            &json!({}),
            &probe("readinessProbe"),
            &[
                "c.readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
            ],
        );
    }

    #[test]
    fn processors_and_memory_are_resized_and_nothing_else() {
        let policies = |policies: Value| json!({"resizePolicy": policies});
        let good = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        told("containers", &json!({"restartPolicy": "Always"}), &policies(good.clone()), &[]);
        told(
            "containers",
            &json!({"restartPolicy": "Never"}),
            &policies(good),
            &[
                "c.resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            ],
        );
        told(
            "containers",
            &json!({}),
            &policies(json!([{"resourceName": "disk", "restartPolicy": "NotRequired"}])),
            &[r#"c.resizePolicy: Unsupported value: "disk": supported values: "cpu", "memory""#],
        );
    }

    #[test]
    fn what_runs_before_the_others_does_not_begin_anew_for_a_resize() {
        let with = |policy: &str, restart: Value| {
            let policies = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "memory", "restartPolicy": policy}]);
            json!({"restartPolicy": restart, "resizePolicy": policies})
        };
        told("initContainers", &json!({}), &with("NotRequired", Value::Null), &[]);
        told("initContainers", &json!({}), &with("RestartContainer", json!("Always")), &[]);
        told("containers", &json!({}), &with("RestartContainer", Value::Null), &[]);
        told(
            "initContainers",
            &json!({}),
            &with("RestartContainer", Value::Null),
            &[
                "c.resizePolicy[1].restartPolicy: Invalid value: \"RestartContainer\": must not be set to 'RestartContainer' for non-sidecar initContainers",
            ],
        );
    }
}
