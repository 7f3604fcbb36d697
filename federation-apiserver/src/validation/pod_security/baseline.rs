//! What every level forbids: known ways out of a pod.

use serde_json::Value;

use super::{
    Level, Standard, Violation,
    wording::{distinct, named, of_containers, plural, quoted, setters, those},
};
use crate::validation::{
    items,
    legacy_annotations::{APP_ARMOR, SECCOMP, SECCOMP_OF_POD},
    text,
    visit::containers,
};

type Check = fn(Standard, &Value, &Value) -> Option<Violation>;

/// The checks in the order of their names. The restricted level has stricter ones in the place of some.
const CHECKS: [(Check, Replaced); 12] = [
    (app_armor, Replaced::Never),
    (capabilities, Replaced::Since(22)),
    (host_namespaces, Replaced::Never),
    (host_paths, Replaced::Since(0)),
    (host_ports, Replaced::Never),
    (hosts_of_probes, Replaced::Never),
    (privileged, Replaced::Never),
    (proc_mount, Replaced::Since(OWN_USERS)),
    (se_linux, Replaced::Never),
    (seccomp, Replaced::Since(19)),
    (sysctls, Replaced::Never),
    (host_process, Replaced::Never),
];

/// Since which minor version the restricted level has a check of its own in its place.
enum Replaced {
    Never,
    Since(u32),
}

pub(super) fn check(standard: Standard, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let replaced = |replaced: &Replaced| match replaced {
        Replaced::Never => false,
        Replaced::Since(minor) => standard.level == Level::Restricted && standard.since(*minor),
    };
    let checks = CHECKS.iter().filter(|(_, by)| !replaced(by));
    checks.filter_map(|(check, _)| check(standard, metadata, spec)).collect()
}

/// Since which minor version the standards go by who a pod's users are.
pub(super) const OWN_USERS: u32 = 35;

/// Whether the pod has users of its own, so that its root is not the host's.
pub(super) fn has_own_users(standard: Standard, spec: &Value) -> bool {
    standard.since(OWN_USERS) && spec["hostUsers"] == false
}

fn app_armor(_: Standard, metadata: &Value, spec: &Value) -> Option<Violation> {
    let bad = |context: &Value| {
        let kind = context["appArmorProfile"]["type"].as_str();
        kind.filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost")).map(str::to_owned)
    };
    let of_pod = bad(&spec["securityContext"]);
    let wrong = those(spec, |container| bad(&container["securityContext"]).is_some());
    let own = containers(spec).filter_map(|container| bad(&container["securityContext"]));
    let mut values = distinct(of_pod.clone().into_iter().chain(own).collect());
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let annotations = annotations.filter_map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        let good = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        (key.starts_with(APP_ARMOR) && !good).then(|| format!("{key}={}", apimachinery::field::quoted(value)))
    });
    let annotations = distinct(annotations.collect());
    let mut who = setters(of_pod.is_some(), &wrong);
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    values.extend(annotations);
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let detail =
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), go_quoted(&values));
    Some(Violation::new(reason, detail))
}

/// In Go's quotes: what is in them may have quotes itself.
fn go_quoted(texts: &[String]) -> String {
    let each = texts.iter().map(|text| apimachinery::field::quoted(text));
    each.collect::<Vec<_>>().join(", ")
}

/// What a container may have that it has by default.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Capabilities that a container adds, and those that it may not.
pub(super) fn added<'a>(container: &'a Value, allowed: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let all = items(&container["securityContext"]["capabilities"], "add").filter_map(Value::as_str);
    all.filter(|one| !allowed.contains(one)).map(str::to_owned)
}

/// Who adds capabilities that he may not add, and which.
pub(super) fn adding(spec: &Value, allowed: &[&str]) -> Option<String> {
    let wrong = those(spec, |container| added(container, allowed).next().is_some());
    if wrong.is_empty() {
        return None;
    }
    let values = distinct(containers(spec).flat_map(|one| added(one, allowed).collect::<Vec<_>>()).collect());
    Some(format!(
        "{} must not include {} in securityContext.capabilities.add",
        of_containers(&wrong),
        quoted(&values)
    ))
}

fn capabilities(_: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    adding(spec, &CAPABILITIES).map(|detail| Violation::new("non-default capabilities", detail))
}

fn host_namespaces(_: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|name| spec[*name] == true);
    let shared: Vec<_> = shared.map(|name| format!("{name}=true")).collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", ")))
}

fn host_paths(_: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    let volumes = items(spec, "volumes").filter(|volume| volume["hostPath"].is_object());
    let names: Vec<_> = volumes.map(|volume| text(volume, "name").to_owned()).collect();
    (!names.is_empty()).then(|| Violation::new("hostPath volumes", named("volume", "volumes", &names)))
}

fn host_ports(_: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    let of = |container: &Value| -> Vec<i64> {
        let ports = items(container, "ports").filter_map(|port| port["hostPort"].as_i64());
        ports.filter(|port| *port != 0).collect()
    };
    let wrong = those(spec, |container| !of(container).is_empty());
    if wrong.is_empty() {
        return None;
    }
    let ports = distinct(containers(spec).flat_map(of).map(|port| format!("{port}")).collect());
    let detail = format!(
        "{} {} {} {}",
        of_containers(&wrong),
        plural("uses", "use", wrong.len()),
        plural("hostPort", "hostPorts", ports.len()),
        ports.join(", ")
    );
    Some(Violation::new("hostPort", detail))
}

/// Probes and hooks that go to other hosts than the pod (KEP-4940).
fn hosts_of_probes(standard: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    if !standard.since(34) {
        return None;
    }
    let of = |container: &Value| -> Vec<String> {
        let (lifecycle, own) = (&container["lifecycle"], |name: &str| &container[name]);
        let handlers = [
            own("livenessProbe"),
            own("readinessProbe"),
            own("startupProbe"),
            &lifecycle["postStart"],
            &lifecycle["preStop"],
        ];
        let hosts = handlers.into_iter().flat_map(|handler| {
            ["httpGet", "tcpSocket"].into_iter().map(move |action| text(&handler[action], "host"))
        });
        hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect()
    };
    let wrong = distinct(those(spec, |container| !of(container).is_empty()));
    if wrong.is_empty() {
        return None;
    }
    let hosts = distinct(containers(spec).flat_map(of).collect());
    let detail = format!(
        "{} {} {} {}",
        of_containers(&wrong),
        plural("uses", "use", wrong.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(&hosts)
    );
    Some(Violation::new("probe or lifecycle host", detail))
}

fn privileged(_: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    let wrong = those(spec, |container| container["securityContext"]["privileged"] == true);
    let detail = || format!("{} must not set securityContext.privileged=true", of_containers(&wrong));
    (!wrong.is_empty()).then(|| Violation::new("privileged", detail()))
}

fn proc_mount(standard: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    if has_own_users(standard, spec) { None } else { mounts_of_proc(spec) }
}

/// Who has more of `/proc` than the default.
pub(super) fn mounts_of_proc(spec: &Value) -> Option<Violation> {
    let bad = |container: &Value| {
        let kind = container["securityContext"]["procMount"].as_str();
        kind.filter(|kind| *kind != "Default").map(str::to_owned)
    };
    let wrong = those(spec, |container| bad(container).is_some());
    if wrong.is_empty() {
        return None;
    }
    let values = distinct(containers(spec).filter_map(bad).collect());
    let detail =
        format!("{} must not set securityContext.procMount to {}", of_containers(&wrong), quoted(&values));
    Some(Violation::new("procMount", detail))
}

fn se_linux(standard: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    let good = |kind: &str| match kind {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
        "container_engine_t" => standard.since(31),
        _ => false,
    };
    let options = |one: &Value| one["securityContext"]["seLinuxOptions"].clone();
    let bad = |one: &Value| {
        let options = options(one);
        !good(text(&options, "type"))
            || !text(&options, "user").is_empty()
            || !text(&options, "role").is_empty()
    };
    let who = setters(bad(spec), &those(spec, bad));
    if who.is_empty() {
        return None;
    }
    let all: Vec<_> = std::iter::once(spec).chain(containers(spec)).map(options).collect();
    let kinds = all.iter().map(|options| text(options, "type").to_owned()).filter(|kind| !good(kind));
    let kinds = distinct(kinds.collect());
    let mut what = Vec::new();
    if !kinds.is_empty() {
        what.push(named("type", "types", &kinds));
    }
    for name in ["user", "role"] {
        if all.iter().any(|options| !text(options, name).is_empty()) {
            what.push(format!("{name} may not be set"));
        }
    }
    let detail =
        format!("{} set forbidden securityContext.seLinuxOptions: {}", who.join(" and "), what.join("; "));
    Some(Violation::new("seLinuxOptions", detail))
}

/// Whether a profile confines.
pub(super) fn is_confined(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

/// Who says that he is not confined, and what he says.
pub(super) fn unconfined(spec: &Value) -> Option<Violation> {
    let bad = |one: &Value| {
        let profile = &one["securityContext"]["seccompProfile"];
        (profile.is_object() && !is_confined(text(profile, "type"))).then(|| text(profile, "type").to_owned())
    };
    let who = setters(bad(spec).is_some(), &those(spec, |container| bad(container).is_some()));
    if who.is_empty() {
        return None;
    }
    let values = distinct(std::iter::once(spec).chain(containers(spec)).filter_map(bad).collect());
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        who.join(" and "),
        quoted(&values)
    );
    Some(Violation::new("seccompProfile", detail))
}

fn seccomp(standard: Standard, metadata: &Value, spec: &Value) -> Option<Violation> {
    if standard.since(19) {
        return unconfined(spec);
    }
    let keys = containers(spec).map(|container| format!("{SECCOMP}{}", text(container, "name")));
    let bad = std::iter::once(SECCOMP_OF_POD.to_owned()).chain(keys).filter_map(|key| {
        let value = metadata["annotations"].get(&key)?.as_str()?;
        let good = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
        (!good).then(|| format!("{key}={}", apimachinery::field::quoted(value)))
    });
    let bad = distinct(bad.collect());
    let detail =
        || format!("forbidden {} {}", plural("annotation", "annotations", bad.len()), bad.join(", "));
    (!bad.is_empty()).then(|| Violation::new("seccompProfile", detail()))
}

/// Settings of the kernel that are the pod's own, and since which minor version they are taken for safe.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(standard: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    let names = items(&spec["securityContext"], "sysctls").map(|sysctl| text(sysctl, "name"));
    let safe = |name: &str| SYSCTLS.iter().any(|(known, minor)| *known == name && standard.since(*minor));
    let wrong: Vec<_> = names.filter(|name| !safe(name)).collect();
    (!wrong.is_empty()).then(|| Violation::new("forbidden sysctls", wrong.join(", ")))
}

fn host_process(_: Standard, _: &Value, spec: &Value) -> Option<Violation> {
    let bad = |one: &Value| one["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let who = setters(bad(spec), &those(spec, bad));
    let detail =
        || format!("{} must not set securityContext.windowsOptions.hostProcess=true", who.join(" and "));
    (!who.is_empty()).then(|| Violation::new("hostProcess", detail()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{check, details};
    use super::*;

    #[track_caller]
    fn told(minor: Option<u32>, spec: &Value, expect: &str) {
        let standard = Standard { level: Level::Baseline, minor };
        assert_eq!(details(&check(standard, &json!({}), spec)), expect);
    }

    #[test]
    fn what_is_the_hosts_is_not_the_pods() {
        told(None, &json!({"containers": [{"name": "a"}]}), "");
        told(
            None,
            &json!({
                "hostNetwork": true, "hostPID": true,
                "volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "hostPath": {}}],
                "initContainers": [{"name": "i", "ports": [{"hostPort": 80}]}],
                "containers": [{"name": "a", "securityContext": {"privileged": true, "procMount": "Unmasked"}}],
            }),
            "host namespaces (hostNetwork=true, hostPID=true), hostPath volumes (volumes \"v\", \"w\"), hostPort (container \"i\" uses hostPort 80), \
             privileged (container \"a\" must not set securityContext.privileged=true), \
             procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        );
    }

    #[test]
    fn only_default_capabilities_are_added() {
        told(
            None,
            &json!({"containers": [{"name": "a", "securityContext": {"capabilities": {"add": ["CHOWN", "SYS_ADMIN", "NET_RAW"]}}}]}),
            "non-default capabilities (container \"a\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        );
    }

    #[test]
    fn rules_are_those_of_the_version_that_is_asked_for() {
        let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}, {"name": "kernel.msgmax"}]}});
        told(None, &sysctl, "forbidden sysctls (kernel.msgmax)");
        told(Some(31), &sysctl, "forbidden sysctls (net.ipv4.tcp_rmem, kernel.msgmax)");
        let probe = json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}]});
        told(Some(33), &probe, "");
        told(None, &probe, "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")");
    }

    #[test]
    fn who_has_users_of_its_own_may_see_all_of_its_processes() {
        let spec = json!({"hostUsers": false, "containers": [{"name": "a", "securityContext": {"procMount": "Unmasked"}}]});
        let refused = "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")";
        told(None, &spec, "");
        told(Some(35), &spec, "");
        told(Some(34), &spec, refused);
        let strict = Standard { level: Level::Restricted, minor: None };
        let found = details(&check(strict, &json!({}), &spec));
        assert!(found.contains(refused), "{found}");
        assert_eq!(found.matches("procMount (").count(), 1, "{found}");
    }

    #[test]
    fn confinement_is_not_lifted() {
        told(
            None,
            &json!({
                "securityContext": {"seccompProfile": {"type": "Unconfined"}, "seLinuxOptions": {"type": "x", "user": "u"}},
                "containers": [{"name": "a", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}],
            }),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\"), \
             seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set), \
             seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        );
    }
}
