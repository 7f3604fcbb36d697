//! The rules of what is said to Windows: identities of its containers, and containers that are processes of the host.

use apimachinery::{FieldError, FieldPath, names};
use serde_json::Value;

use super::visit;
use crate::registry::ErrorList;

const MOST_KIB: usize = 64;
const DOMAIN_END: usize = 256;
const MOST_OF_USER: usize = 104;

/// `validation.validateWindowsSecurityContextOptions`.
pub(super) fn options(context: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (options, path) = (&context["windowsOptions"], path.child("windowsOptions"));
    if let Some(name) = options["gmsaCredentialSpecName"].as_str() {
        super::subdomain(name, &path.child("gmsaCredentialSpecName"), errors);
    }
    if let Some(spec) = options["gmsaCredentialSpec"].as_str() {
        let path = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.push(FieldError::invalid(&path, spec, "gmsaCredentialSpec cannot be an empty string"));
        } else if spec.len() > MOST_KIB * 1024 {
            let message = format!("gmsaCredentialSpec size must be under {MOST_KIB} KiB");
            errors.push(FieldError::invalid(&path, spec, &message));
        }
    }
    if let Some(name) = options["runAsUserName"].as_str() {
        let path = path.child("runAsUserName");
        for message in wrong_with_user(name) {
            errors.push(FieldError::invalid(&path, name, &message));
        }
    }
}

/// What is wrong with `USER` or `DOMAIN\USER`.
fn wrong_with_user(name: &str) -> Vec<String> {
    let one = |message: &str| vec![message.to_owned()];
    if name.is_empty() {
        return one("runAsUserName cannot be an empty string");
    }
    if name.bytes().any(|byte| byte.is_ascii_control()) {
        return one("runAsUserName cannot contain control characters");
    }
    if name.matches('\\').count() > 1 {
        return one("runAsUserName cannot contain more than one backslash");
    }
    let (domain, user) = name.split_once('\\').map_or((None, name), |(domain, user)| (Some(domain), user));
    let mut wrong = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= DOMAIN_END) {
        wrong.push(format!("runAsUserName's Domain length must be under {DOMAIN_END} characters"));
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)) {
        wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > MOST_OF_USER {
        wrong.push(format!("runAsUserName's User length must not be longer than {MOST_OF_USER} characters"));
    }
    if !user.is_empty() && user.chars().all(|letter| matches!(letter, '.' | ' ')) {
        wrong.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|letter| r#""/\:;|=,+*?<>@[]"#.contains(letter)) {
        let message = r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
        wrong.push(message.to_owned());
    }
    wrong
}

fn is_net_bios(domain: &str) -> bool {
    !domain.is_empty()
        && !domain.starts_with('.')
        && domain.chars().count() <= 15
        && !domain.contains(|letter| r#"\/:*?"<>|"#.contains(letter))
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| names::dns1123_label(&label.to_ascii_lowercase()).is_empty())
}

/// `validation.validateWindowsHostProcessPod`: all containers of a pod are processes of the host, or none is.
pub(super) fn host_process(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let said = |one: &Value| one["securityContext"]["windowsOptions"]["hostProcess"].as_bool();
    let of_pod = said(spec);
    let (mut all, mut of_host) = (0, 0);
    for (container, place) in visit::placed(spec, path) {
        let own = said(container);
        all += 1;
        of_host += usize::from(own.or(of_pod) == Some(true));
        if let (Some(whole), Some(own)) = (of_pod, own)
            && whole != own
        {
            let message =
                format!("pod hostProcess value must be identical if both are specified, was {whole}");
            let place = place.child("securityContext.windowsOptions.hostProcess");
            errors.push(FieldError::invalid(&place, own, &message));
        }
    }
    if of_host == 0 {
        return;
    }
    if of_host != all {
        let message =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(path, "", message));
    }
    if spec["hostNetwork"] != true {
        let message = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(&path.child("hostNetwork"), false, message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(rule: fn(&Value, &FieldPath, &mut ErrorList), value: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        rule(value, &FieldPath::new("s"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn users_are_those_that_windows_can_have() {
        let of = |name: &str| json!({"windowsOptions": {"runAsUserName": name}});
        for good in ["ContainerUser", r"NT AUTHORITY\NETWORK SERVICE", r"Example.com\u", r"a\u.v"] {
            told(options, &of(good), &[]);
        }
        for (bad, why) in [
            ("", "runAsUserName cannot be an empty string"),
            ("a\n", "runAsUserName cannot contain control characters"),
            (r"a\b\c", "runAsUserName cannot contain more than one backslash"),
            (r".a\u", "runAsUserName's Domain doesn't match the NetBios nor the DNS format"),
            (r"a\", "runAsUserName's User cannot be empty"),
            (". .", "runAsUserName's User cannot contain only periods or spaces"),
            ("a/b", r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#),
        ] {
            assert_eq!(wrong_with_user(bad), [why], "{bad:?}");
        }
        told(
            options,
            &json!({"windowsOptions": {"gmsaCredentialSpec": ""}}),
            &[
                r#"s.windowsOptions.gmsaCredentialSpec: Invalid value: "": gmsaCredentialSpec cannot be an empty string"#,
            ],
        );
    }

    #[test]
    fn all_containers_are_processes_of_the_host_or_none_is() {
        let on_host = |host: bool| json!({"windowsOptions": {"hostProcess": host}});
        told(
            host_process,
            &json!({"hostNetwork": true, "securityContext": on_host(true), "containers": [{}, {"securityContext": on_host(true)}]}),
            &[],
        );
        told(host_process, &json!({"containers": [{"securityContext": on_host(false)}]}), &[]);
        told(
            host_process,
            &json!({"securityContext": on_host(true), "containers": [{}, {"securityContext": on_host(false)}]}),
            &[
                "s.containers[1].securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess value must be identical if both are specified, was true",
                r#"s: Invalid value: "": If pod contains any hostProcess containers then all containers must be HostProcess containers"#,
                "s.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
            ],
        );
    }
}
