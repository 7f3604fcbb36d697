//! Objects that come back from the trash. What this server had stored is not refused for rules that came later: it is checked as an update of itself
//! would be. All else is as for any new object: permissions, policies, webhooks, quotas, and the name, which must be free.

use apimachinery::{ApiError, rbac::Attributes, status::GroupResource};
use serde_json::Value;

use super::{Call, call, create};
use crate::{
    auth::authz::{self, Decision},
    registry::Registry,
    store::Key,
};

const GROUP: &str = "federation.rs";
const VERSION: &str = "v1alpha1";
const PLURAL: &str = "trash";

/// What the trash keeps of the object that is to be created, in the form of a new object; none if the request does not say
/// that it comes from there (`?trash=NAME`). Who says so must be able to read it.
pub(super) async fn kept(call: &Call, object: &Value) -> Result<Option<Value>, ApiError> {
    let Some(name) = call.query.get(PLURAL) else { return Ok(None) };
    let asked =
        Attributes { group: GROUP, version: VERSION, resource: PLURAL, name, ..Attributes::resource("get") };
    match call.shared.authorizer().decide(&call.user, &asked).await {
        Decision::Allow(_) => {}
        Decision::Failed(why) => return Err(ApiError::internal(why)),
        Decision::NoOpinion(reason) | Decision::Deny(reason) => {
            return Err(authz::refuse(&call.user, &asked, &reason));
        }
    }
    let missing = || ApiError::not_found(&GroupResource::new(GROUP, PLURAL), name);
    let kind = Registry::get().find(GROUP, VERSION, PLURAL).ok_or_else(missing)?;
    let stored = call.shared.storage.get(&Key::new(kind.storage(), "", name)).ok_or_else(missing)?;
    let trash = call::parse(kind, &stored)?;
    let spec = |field: &str| trash["spec"][field].as_str().unwrap_or_default();
    let own = object["metadata"]["name"].as_str().unwrap_or_default();
    let (api_version, plural) = (call.kind.api_version(), call.kind.plural);
    if (spec("apiVersion"), spec("resource"), spec("namespace"), spec("name"))
        != (&*api_version, plural, call.namespace(), own)
    {
        return Err(ApiError::bad_request(format!("{PLURAL} {name:?} keeps another object")));
    }
    let manifest = serde_json::from_str(spec("manifest"))
        .map_err(|error| ApiError::bad_request(format!("{PLURAL} {name:?} cannot be read: {error}")))?;
    create::as_new(call, manifest).map(Some)
}
