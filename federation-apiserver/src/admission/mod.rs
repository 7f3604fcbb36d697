//! What a write must pass after its object is complete and valid, and before it is stored.

use apimachinery::ApiError;
use serde_json::Value;

use crate::{auth::escalation, verbs::Call};

/// Checks a write of a whole object, in place of `old` if there is one.
pub(crate) fn admit(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    if call.path.subresource.is_some() {
        return Ok(());
    }
    escalation::check(call.shared.authorizer(), &call.user, &call.resource(), old, new)
}
