//! Answers what expressions ask the authorizer.
//!
//! An evaluation cannot wait. It stops at an authorizer check whose decision is not known yet; then the decision is made, and the evaluation is
//! repeated with it.

use std::{collections::HashMap, sync::Arc};

use apimachinery::rbac::Attributes;
use kube_cel::{Authority, Check, Decision, Value as Cel};
use parking_lot::Mutex;

use crate::{
    auth::{User, authz},
    verbs::Call,
};

/// Decisions of one request. More would be a loop around the authorizer.
const DECISIONS_MAX: usize = 64;

/// What was decided for one request so far.
#[derive(Debug, Default)]
pub(in crate::admission) struct Decisions {
    known: Mutex<HashMap<Check, Decision>>,
    missing: Mutex<Vec<Check>>,
}

impl Authority for Decisions {
    fn decide(&self, check: &Check) -> Option<Decision> {
        let known = self.known.lock();
        let found = known.get(check).cloned();
        if found.is_none() && known.len() < DECISIONS_MAX {
            self.missing.lock().push(check.clone());
        }
        found
    }
}

impl Decisions {
    /// The variable `authorizer` of a call.
    pub(in crate::admission) fn variable(self: &Arc<Self>, call: &Call, verb: &str, name: &str) -> Cel {
        let kind = &call.kind;
        let request = Check {
            verb: verb.to_owned(),
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            resource: kind.plural.to_owned(),
            subresource: call.path.subresource.clone().unwrap_or_default(),
            namespace: call.namespace().to_owned(),
            name: name.to_owned(),
            ..Check::default()
        };
        kube_cel::Access::variable(Arc::<Self>::clone(self), request)
    }

    /// Makes the decisions that the last evaluation lacked; false if it lacked none.
    pub(in crate::admission) async fn learn(&self, call: &Call) -> bool {
        let missing = std::mem::take(&mut *self.missing.lock());
        let any = !missing.is_empty();
        for check in missing {
            let decision = decide(call, &check).await;
            self.known.lock().insert(check, decision);
        }
        any
    }
}

async fn decide(call: &Call, check: &Check) -> Decision {
    let attributes = match &check.path {
        Some(path) => Attributes::path(&check.verb, path),
        None => Attributes {
            namespace: &check.namespace,
            group: &check.group,
            version: &check.version,
            resource: &check.resource,
            subresource: &check.subresource,
            name: &check.name,
            ..Attributes::resource(&check.verb)
        },
    };
    let account = check.service_account.as_ref().map(|(namespace, name)| User::account(namespace, name));
    let user = account.as_ref().unwrap_or(&call.user);
    match call.shared.authorizer().decide(user, &attributes).await {
        authz::Decision::Allow(reason) => Decision { allowed: true, reason: reason.to_string(), error: None },
        authz::Decision::NoOpinion(reason) | authz::Decision::Deny(reason) => {
            Decision { allowed: false, reason, error: None }
        }
        authz::Decision::Failed(why) => Decision { error: Some(why), ..Decision::default() },
    }
}
