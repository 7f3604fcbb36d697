//! An object in each version that a webhook wants, and as the JSON that is sent. Each is made once for all webhooks.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use apimachinery::ApiError;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    crd::conversion,
    registry::{Kind, KindRef},
    store::Storage,
};

/// An object in one version of its kind.
pub(super) struct VersionedObject<'a> {
    pub(super) value: Cow<'a, Value>,
    text: OnceLock<Bytes>,
}

impl<'a> VersionedObject<'a> {
    fn new(value: Cow<'a, Value>) -> Arc<Self> {
        Arc::new(Self { value, text: OnceLock::new() })
    }

    /// Its JSON.
    pub(super) fn text(&self) -> Result<Bytes, String> {
        if let Some(text) = self.text.get() {
            return Ok(text.clone());
        }
        let text = serde_json::to_vec(&*self.value).map_err(|error| error.to_string())?;
        Ok(self.text.get_or_init(|| text.into()).clone())
    }
}

/// An object in the version of the request, and in those that webhooks want.
pub(super) struct VersionedObjects<'a> {
    own: Arc<VersionedObject<'a>>,
    others: Mutex<Vec<(KindRef, Arc<Converted<'a>>)>>,
}

/// A version that is converted once; concurrent callers wait for it.
type Converted<'a> = OnceCell<Arc<VersionedObject<'a>>>;

impl<'a> VersionedObjects<'a> {
    pub(super) fn of(object: &'a Value) -> Self {
        Self { own: VersionedObject::new(Cow::Borrowed(object)), others: Mutex::default() }
    }

    pub(super) fn own(&self) -> &Arc<VersionedObject<'a>> {
        &self.own
    }

    /// The object in another version of its kind.
    pub(super) async fn converted(
        &self,
        storage: &Storage,
        own: &Kind,
        to: &KindRef,
    ) -> Result<Arc<VersionedObject<'a>>, ApiError> {
        let cell = self.cell(to);
        let convert = async || {
            let object = self.own.value.clone().into_owned();
            let converted = conversion::between(storage, own, to, object).await?;
            Ok::<_, ApiError>(VersionedObject::new(Cow::Owned(converted)))
        };
        cell.get_or_try_init(convert).await.cloned()
    }

    fn cell(&self, to: &KindRef) -> Arc<Converted<'a>> {
        let mut others = self.others.lock();
        let found = others.iter().find(|(kind, _)| (kind.group, kind.version) == (to.group, to.version));
        if let Some((_, cell)) = found {
            return Arc::clone(cell);
        }
        let cell = Arc::default();
        others.push((to.clone(), Arc::clone(&cell)));
        cell
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_text_of_an_object_is_made_once() {
        let object = json!({"a": 1});
        let views = VersionedObjects::of(&object);
        let texts = [views.own().text(), views.own().text()].map(Result::unwrap_or_default);
        assert_eq!(texts[0], r#"{"a":1}"#);
        assert_eq!(texts[0].as_ptr(), texts[1].as_ptr());
    }
}
