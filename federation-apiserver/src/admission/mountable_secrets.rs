//! The annotation `kubernetes.io/enforce-mountable-secrets` of the admission plugin `ServiceAccount`: pods of such an account may use only the
//! secrets that it lists.

use apimachinery::ApiError;
use serde_json::Value;

use crate::{
    store::{Key, ResourceKey},
    validation::{items, mirror_pod, text},
    verbs::Call,
};

const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";

/// Checks a new Pod, or new ephemeral containers.
pub(super) fn check(call: &Call, name: &str, old: Option<&Value>, pod: &Value) -> Result<(), ApiError> {
    let part = call.path.subresource.as_deref();
    let asked = match old {
        None => part.is_none(),
        Some(_) => part == Some("ephemeralcontainers"),
    };
    if !asked || mirror_pod::is_mirror(pod) {
        return Ok(());
    }
    let account = text(&pod["spec"], "serviceAccountName");
    let key = Key::new(ResourceKey::new("", "serviceaccounts"), call.namespace(), account);
    let found = call.shared.storage.get(&key).and_then(|stored| stored.value().ok());
    let Some(account) = found.filter(is_enforced) else { return Ok(()) };
    let refused = if part.is_some() { unlisted_of_ephemeral(&account, pod) } else { unlisted(&account, pod) };
    refused.map_or(Ok(()), |why| Err(ApiError::forbidden(&call.resource(), name, &why)))
}

/// As Go's `strconv.ParseBool` reads it.
fn is_enforced(account: &Value) -> bool {
    let value = account["metadata"]["annotations"][ENFORCED].as_str();
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

fn lists(account: &Value, list: &str, secret: &str) -> bool {
    items(account, list).any(|listed| text(listed, "name") == secret)
}

/// The first secret that a pod uses and its account does not list.
fn unlisted(account: &Value, pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    for volume in items(spec, "volumes").filter(|volume| volume["secret"].is_object()) {
        let secret = text(&volume["secret"], "secretName");
        if !lists(account, "secrets", secret) {
            return Some(told(&format!("volume with secret.secretName={secret:?}"), "secret", account));
        }
    }
    let of_containers = unlisted_in(account, spec, "initContainers", "init container")
        .or_else(|| unlisted_in(account, spec, "containers", "container"));
    if of_containers.is_some() {
        return of_containers;
    }
    let (index, secret) = items(spec, "imagePullSecrets")
        .map(|secret| text(secret, "name"))
        .enumerate()
        .find(|(_, secret)| !lists(account, "imagePullSecrets", secret))?;
    Some(told(&format!("imagePullSecrets[{index}].name={secret:?}"), "imagePullSecret", account))
}

fn unlisted_of_ephemeral(account: &Value, pod: &Value) -> Option<String> {
    unlisted_in(account, &pod["spec"], "ephemeralContainers", "ephemeral container")
}

/// The first secret in the environment of a container that the account does not list.
fn unlisted_in(account: &Value, spec: &Value, list: &str, called: &str) -> Option<String> {
    items(spec, list).find_map(|container| {
        let name = text(container, "name");
        let variables = items(container, "env").filter_map(|env| {
            let reference = &env["valueFrom"]["secretKeyRef"];
            let by = format!("envVar {}", text(env, "name"));
            reference.is_object().then(|| (by, text(reference, "name")))
        });
        let sources = items(container, "envFrom").filter_map(|from| {
            let reference = &from["secretRef"];
            reference.is_object().then(|| ("envFrom".to_owned(), text(reference, "name")))
        });
        let (by, secret) = variables.chain(sources).find(|(_, secret)| !lists(account, "secrets", secret))?;
        let what = format!("{called} {name} with {by} referencing secret.secretName={secret:?}");
        Some(told(&what, "secret", account))
    })
}

fn told(what: &str, secret: &str, account: &Value) -> String {
    let account = text(&account["metadata"], "name");
    format!("{what} is not allowed because service account {account} does not reference that {secret}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn account() -> Value {
        json!({"metadata": {"name": "a"}, "secrets": [{"name": "own"}], "imagePullSecrets": [{"name": "pull"}]})
    }

    #[track_caller]
    fn check(spec: Value, expect: Option<&str>) {
        let found = unlisted(&account(), &json!({"spec": spec}));
        let whole = expect.map(|what| {
            format!("{what} is not allowed because service account a does not reference that secret")
        });
        assert_eq!(found, whole);
    }

    #[test]
    fn only_the_secrets_that_an_account_lists_are_used() {
        let env = |secret: &str| json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]);
        let from = |secret: &str| json!([{"secretRef": {"name": secret}}]);
        check(json!({"volumes": [{"secret": {"secretName": "own"}}, {"emptyDir": {}}]}), None);
        check(
            json!({"volumes": [{"secret": {"secretName": "x"}}]}),
            Some(r#"volume with secret.secretName="x""#),
        );
        check(json!({"containers": [{"name": "c", "env": env("own"), "envFrom": from("own")}]}), None);
        check(
            json!({"containers": [{"name": "c", "env": env("x")}]}),
            Some(r#"container c with envVar E referencing secret.secretName="x""#),
        );
        check(
            json!({"initContainers": [{"name": "i", "envFrom": from("x")}], "containers": [{"name": "c", "env": env("y")}]}),
            Some(r#"init container i with envFrom referencing secret.secretName="x""#),
        );
        let pull = json!({"spec": {"imagePullSecrets": [{"name": "pull"}, {"name": "own"}]}});
        assert_eq!(
            unlisted(&account(), &pull).as_deref(),
            Some(
                r#"imagePullSecrets[1].name="own" is not allowed because service account a does not reference that imagePullSecret"#
            )
        );
        let debugger = json!({"spec": {"ephemeralContainers": [{"name": "d", "env": env("x")}]}});
        assert_eq!(unlisted(&account(), &debugger), None);
        assert!(unlisted_of_ephemeral(&account(), &debugger).is_some_and(|why| why.starts_with("ephemeral")));
    }

    #[test]
    fn the_annotation_is_read_as_go_reads_it() {
        let annotated = |value: &str| is_enforced(&json!({"metadata": {"annotations": {ENFORCED: value}}}));
        assert!(annotated("true") && annotated("T") && annotated("1"));
        assert!(!annotated("yes") && !annotated("false") && !is_enforced(&json!({})));
    }
}
