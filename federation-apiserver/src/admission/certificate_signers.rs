//! The permissions to approve and sign certificates of a signer: the admission plugins `CertificateApproval`, `CertificateSigning` and
//! `CertificateSubjectRestriction` of kube-apiserver.

use apimachinery::{ApiError, rbac::Attributes};
use serde_json::Value;

use crate::{
    auth::{
        CONTROLLERS, MASTERS, User,
        authz::{Authorizer, Decision, NON_API_GROUPS},
    },
    kinds::{asks_for_group, same_conditions},
    validation::text,
    verbs::Call,
};

const GROUP: &str = "certificates.k8s.io";

/// The signer of client certificates for the API.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Groups that a client certificate must not have: administrators, and the federation's own parts.
const POWERS: [&str; 4] = [MASTERS, CONTROLLERS, NON_API_GROUPS[0], NON_API_GROUPS[1]];

fn is_request(call: &Call) -> bool {
    call.kind.is(GROUP, "certificatesigningrequests")
}

/// Checks a write of a CertificateSigningRequest or of a part of one. Other kinds pass.
pub(super) async fn check(call: &Call, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    if !is_request(call) {
        return Ok(());
    }
    let refuse = |why: String| Err(ApiError::forbidden(&call.resource(), name, &why));
    let Some(old) = old else {
        if text(&new["spec"], "signerName") != CLIENT_SIGNER {
            return Ok(());
        }
        return match asks_for_group(new, &POWERS) {
            Ok(None) => Ok(()),
            Ok(Some(group)) => {
                refuse(format!("use of {CLIENT_SIGNER} signer with {group} group is not allowed"))
            }
            Err(why) => refuse(format!("failed to parse CSR: {why}")),
        };
    };
    let verb = match call.path.subresource.as_deref() {
        Some("approval") => "approve",
        Some("status") if decides(new, old) => "sign",
        _ => return Ok(()),
    };
    let signer = text(&old["spec"], "signerName");
    if may(call.shared.authorizer(), &call.user, verb, signer).await {
        return Ok(());
    }
    refuse(format!("user not permitted to {verb} requests with signerName {signer:?}"))
}

/// Whether the conditions of the decision, or the certificate, change in the status.
fn decides(new: &Value, old: &Value) -> bool {
    text(&new["status"], "certificate") != text(&old["status"], "certificate") || !same_conditions(new, old)
}

/// `certauthorization.IsAuthorizedForSignerName`: for the signer itself, or for all of its domain.
async fn may(authorizer: &Authorizer, user: &User, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer, &format!("{domain}/*")] {
        let asked = Attributes {
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..Attributes::resource(verb)
        };
        if matches!(authorizer.decide(user, &asked).await, Decision::Allow(_)) {
            return true;
        }
    }
    false
}
