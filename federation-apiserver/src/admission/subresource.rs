//! Requests whose body is of another kind than their resource: Bindings and Evictions of pods, TokenRequests, Scales, and reviews; and CONNECT to pods,
//! Services and nodes, where the options are the object. Policies and webhooks get these bodies, not the objects that the requests change.

use apimachinery::ApiError;
use serde_json::Value;

use super::{mutate::mutate_as, validating_policies::check_policies_as, webhook};
use crate::{registry::Kind, verbs::Call};

/// `v1` Binding.
pub(crate) static BINDING: Kind = Kind { kind: "Binding", ..Kind::BUILT_IN };
/// `policy/v1` Eviction.
pub(crate) static EVICTION: Kind = Kind { group: "policy", kind: "Eviction", ..Kind::BUILT_IN };
/// `autoscaling/v1` Scale.
pub(crate) static SCALE: Kind = Kind { group: "autoscaling", kind: "Scale", ..Kind::BUILT_IN };
/// `authentication.k8s.io/v1` TokenRequest.
pub(crate) static TOKEN_REQUEST: Kind =
    Kind { group: "authentication.k8s.io", kind: "TokenRequest", ..Kind::BUILT_IN };

/// `v1` options of CONNECT.
static CONNECTIONS: [Kind; 6] = [
    connecting("PodExecOptions"),
    connecting("PodAttachOptions"),
    connecting("PodPortForwardOptions"),
    connecting("PodProxyOptions"),
    connecting("ServiceProxyOptions"),
    connecting("NodeProxyOptions"),
];

const fn connecting(kind: &'static str) -> Kind {
    Kind { kind, verbs: &["connect"], ..Kind::BUILT_IN }
}

/// The options of a kind.
pub(crate) fn connection(kind: &str) -> Option<&'static Kind> {
    CONNECTIONS.iter().find(|form| form.kind == kind)
}

/// Such a request.
pub(crate) struct SubresourceRequest<'a> {
    pub(crate) call: &'a Call,
    /// The kind of its body, if it is not the call's own.
    pub(crate) form: Option<&'static Kind>,
    /// What it replaces; only Scales have that.
    pub(crate) old: Option<&'a Value>,
    pub(crate) dry_run: bool,
}

impl SubresourceRequest<'_> {
    /// Calls mutating policies and webhooks. The result is the body, as they have changed it.
    ///
    /// # Errors
    /// When one refuses, or fails and its failure policy is `Fail`.
    pub(crate) async fn mutate(&self, body: Value) -> Result<Value, ApiError> {
        let changed = mutate_as(self.call, self.form, self.old, &body, self.dry_run).await?;
        Ok(changed.unwrap_or(body))
    }

    /// Calls validating policies and webhooks.
    ///
    /// # Errors
    /// When one refuses, or cannot be called and its failure policy is `Fail`.
    pub(crate) async fn validate(&self, body: &Value) -> Result<(), ApiError> {
        check_policies_as(self.call, self.form, self.old, Some(body), self.dry_run).await?;
        let asked = webhook::Write::of(self.call, self.old, self.dry_run).in_form(self.form);
        asked.validate(Some(body)).await
    }
}
