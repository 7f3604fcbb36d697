//! Whether a member serves a kind, by what it says of itself: a 404 alone does not tell.

use hub_protocol::Key;
use serde_json::Value;

use super::{Failure, Member, Reason};

impl Member {
    /// Whether the member serves objects of a key's kind, or will in a moment: an API server that starts knows its own kinds before those
    /// that CustomResourceDefinitions define.
    pub(crate) async fn serves(&self, key: &Key) -> Result<bool, Failure> {
        if !key.group.is_empty() {
            let name = format!("{}.{}", key.resource, key.group);
            match self.read(format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")).await {
                Ok(_) => return Ok(true),
                Err(Failure::NotFound | Failure::Refused { .. }) => {}
                Err(failure) => return Err(failure),
            }
            let groups = self.read("/apis".into()).await.map_err(unwell)?;
            let versions = items(&groups, "groups")?
                .filter(|group| text(group, "name") == key.group)
                .filter_map(|group| group.get("versions")?.as_array())
                .flatten();
            if !versions.into_iter().any(|version| text(version, "version") == key.version) {
                return Ok(false);
            }
        }
        let root = if key.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", key.group) };
        let kinds = self.read(format!("{root}/{}", key.version)).await.map_err(unwell)?;
        let mut kinds = items(&kinds, "resources")?;
        Ok(kinds.any(|kind| text(kind, "name") == key.resource))
    }
}

/// What every API server says of itself is not missing because of what is asked for: something else answered.
fn unwell(failure: Failure) -> Failure {
    match failure {
        Failure::NotFound => unknown("not found"),
        Failure::Refused { message, .. } => unknown(&message),
        transient @ Failure::Transient { .. } => transient,
    }
}

fn unknown(why: &str) -> Failure {
    Failure::Transient {
        reason: Reason::Unavailable,
        message: format!("the member does not say which kinds it serves: {why}"),
    }
}

fn items<'a>(list: &'a Value, field: &str) -> Result<impl Iterator<Item = &'a Value> + use<'a>, Failure> {
    let items = list.get(field).and_then(Value::as_array);
    items.map(|items| items.iter()).ok_or_else(|| unknown("the answer is not an API server's"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.kinds.test";

    /// A member that answers these paths, and 404 in a proxy's words elsewhere, or a definition that is not there in Kubernetes'.
    fn member(answers: &[(&str, Value)]) -> Member {
        let answers: BTreeMap<String, Value> =
            answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect();
        let answers = Arc::new(answers);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let path = request.uri().path().to_owned();
            let answer = answers.get(&path).cloned();
            async move {
                let (code, body) = match answer {
                    Some(answer) => (200, answer.to_string()),
                    None if path == DEFINITION => {
                        let message = "customresourcedefinitions \"widgets.kinds.test\" not found";
                        let status =
                            json!({"kind": "Status", "reason": "NotFound", "code": 404, "message": message});
                        (404, status.to_string())
                    }
                    None => (404, "404 page not found".to_owned()),
                };
                http::Response::builder().status(code).body(Body::from(body.into_bytes()))
            }
        });
        Member::new(Client::new(service, "default"))
    }

    fn widget() -> Key {
        Key {
            group: "kinds.test".into(),
            version: "v1".into(),
            resource: "widgets".into(),
            kind: "Widget".into(),
            namespace: "shop".into(),
            name: "a".into(),
        }
    }

    #[tokio::test]
    async fn a_kind_is_not_served_when_the_member_says_so_and_not_because_something_is_missing() {
        let groups =
            |version: &str| json!({"groups": [{"name": "kinds.test", "versions": [{"version": version}]}]});
        let none = ("/apis", json!({"groups": []}));
        let serves = async |answers: &[(&str, Value)]| member(answers).serves(&widget()).await;
        assert_eq!(serves(std::slice::from_ref(&none)).await, Ok(false));
        assert_eq!(serves(&[("/apis", groups("v2"))]).await, Ok(false));
        let kinds = |name: &str| ("/apis/kinds.test/v1", json!({"resources": [{"name": name}]}));
        assert_eq!(serves(&[("/apis", groups("v1")), kinds("gadgets")]).await, Ok(false));
        assert_eq!(serves(&[("/apis", groups("v1")), kinds("widgets")]).await, Ok(true));
        // The API server has just started, and does not serve it yet.
        assert_eq!(
            serves(&[none, (DEFINITION, json!({"kind": "CustomResourceDefinition"}))]).await,
            Ok(true)
        );
        // A proxy answers, and not the API server.
        assert!(matches!(serves(&[]).await, Err(Failure::Transient { .. })));
        assert!(matches!(serves(&[("/apis", groups("v1"))]).await, Err(Failure::Transient { .. })));
        assert!(matches!(serves(&[("/apis", json!("ok"))]).await, Err(Failure::Transient { .. })));
    }
}
