//! What `/statusz` and `/flagz` have in common (`component-base/zpages`): they are text for people, and JSON for those who ask for the kind of
//! the page by name.

use apimachinery::ApiError;
use http::HeaderMap;

use crate::http::negotiate;

pub(super) const COMPONENT: &str = "kube-apiserver";
pub(super) const GROUP: &str = "config.k8s.io";
/// The second line of both pages.
pub(super) const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";

/// The form in which a page is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// In a version of its group.
    Json(String),
}

/// Text for whoever asks for nothing in particular; JSON takes group, version and `kind`.
pub(super) fn form(headers: &HeaderMap, kind: &str) -> Result<Form, ApiError> {
    let ranges = negotiate::accept(headers);
    let fits = |range: &negotiate::MediaRange| match range.kind.as_str() {
        "*/*" | "text/*" | "text/plain" => Some(Form::Text),
        "application/json" => {
            let version = range.parameter("v").filter(|version| ["v1alpha1", "v1beta1"].contains(version))?;
            let named = range.parameter("g") == Some(GROUP) && range.parameter("as") == Some(kind);
            named.then(|| Form::Json(version.to_owned()))
        }
        _ => None,
    };
    if ranges.is_empty() {
        return Ok(Form::Text);
    }
    ranges.iter().find_map(fits).ok_or_else(|| {
        let json = format!("application/json;as={kind};g={GROUP};v=v1beta1");
        ApiError::not_acceptable(&["text/plain", &json])
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    fn asked(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).ok()?);
        form(&headers, "Statusz").ok()
    }

    #[test]
    fn json_is_for_those_who_name_its_kind() {
        assert_eq!(form(&HeaderMap::new(), "Statusz").ok(), Some(Form::Text));
        assert_eq!(asked("text/html,*/*;q=0.8"), Some(Form::Text));
        let whole = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
        assert_eq!(asked(whole), Some(Form::Json("v1beta1".to_owned())));
        assert_eq!(asked("application/json"), None);
        assert_eq!(asked("application/json;v=v1;g=config.k8s.io;as=Statusz"), None);
        assert_eq!(asked("application/json;v=v1beta1;g=config.k8s.io;as=Flagz"), None);
    }
}
