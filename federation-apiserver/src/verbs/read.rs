//! GET of one object.

use apimachinery::ApiError;
use http::{Response, StatusCode};

use super::{Call, component_status, list, update};
use crate::http::Body;

/// Answers with the object that the URL names.
pub(super) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    update::check_subresource(call, "get")?;
    if let Some(text) = call.query.get("resourceVersion") {
        let version = text.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        })?;
        // Not older than what the client has seen, wherever that was.
        list::fresh(call, version).await?;
    }
    let found = match component_status::find(call)? {
        Some(component) => component,
        None => call.current()?,
    };
    call.answer(StatusCode::OK, &found).await
}
