//! GET of one object.

use apimachinery::ApiError;
use http::{Response, StatusCode};

use super::{Call, update};
use crate::http::Body;

/// Answers with the object that the URL names.
pub(super) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    update::check_subresource(call, "get")?;
    if let Some(version) = call.query.get("resourceVersion")
        && version.parse::<u64>().is_err()
    {
        return Err(ApiError::bad_request(format!("resourceVersion {version:?} is not a number")));
    }
    call.answer(StatusCode::OK, &*call.current()?)
}
