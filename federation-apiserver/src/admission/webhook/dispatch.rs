//! Calls one webhook, and makes a patched object storable.

use std::sync::Arc;

use apimachinery::{ApiError, patch};
use serde_json::{Value, json};

use super::{
    Write,
    configurations::Hook,
    matching::Matched,
    review::{self, Phase, Verdict},
    versions::VersionedObject,
};
use crate::{admission::matching::Operation, crd::conversion, outbound::in_pieces};

impl Write<'_> {
    /// Sends the review and reads the verdict.
    ///
    /// # Errors
    /// When there is no verdict, with Kubernetes' message.
    pub(super) async fn ask(
        &self,
        hook: &Hook,
        matched: &Matched<'_>,
        phase: Phase,
    ) -> Result<Verdict, String> {
        let server = hook.server.as_ref().map_err(|why| format!("could not get REST client: {why}"))?;
        let version = hook
            .review_version
            .ok_or("webhook does not accept known AdmissionReview versions (v1, v1beta1)")?;
        let uid = uuid::Uuid::new_v4().to_string();
        let mut request = matched.request.clone();
        request["uid"] = uid.as_str().into();
        request["options"] = self.options();
        let text =
            |view: &Option<Arc<VersionedObject<'_>>>| view.as_ref().map(|view| view.text()).transpose();
        let (object, old) = (text(&matched.object)?, text(&matched.old)?);
        let body = in_pieces(review::pieces(&review::request(version, request), object, old));
        let query = format!("timeout={}s", hook.timeout.as_secs());
        let snapshot = self.call.shared.storage.snapshot();
        let answer = server.post(&snapshot, &query, body, hook.timeout).await;
        let answer = answer.map_err(|why| format!("failed to call webhook: {why}"))?;
        if !answer.status.is_success() {
            let text = String::from_utf8_lossy(&answer.body);
            let why = if text.trim().is_empty() { "an error on the server".into() } else { text };
            return Err(format!(
                "failed to call webhook: the server responded with the status code {} but did not return more information: {}",
                answer.status.as_u16(),
                why.trim().chars().take(1024).collect::<String>()
            ));
        }
        review::read(phase, version, &uid, &answer.body)
    }

    /// Refuses to call a webhook with side effects for a dry run.
    pub(super) fn check_dry_run(&self, hook: &Hook) -> Result<(), ApiError> {
        if !self.dry_run || hook.spares_dry_runs {
            return Ok(());
        }
        Err(ApiError::bad_request(format!("admission webhook {:?} does not support dry run", hook.name)))
    }

    /// `CreateOptions`, `UpdateOptions` or `DeleteOptions` of the request; none for CONNECT.
    fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = match self.operation {
            Operation::Delete => {
                let sent = crate::verbs::sent_options(self.call).ok();
                sent.filter(Value::is_object).unwrap_or_else(|| json!({}))
            }
            _ => json!({}),
        };
        options["apiVersion"] = "meta.k8s.io/v1".into();
        options["kind"] = kind.into();
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        if self.operation != Operation::Delete {
            for name in ["fieldManager", "fieldValidation"] {
                if let Some(text) = self.call.query.get(name) {
                    options[name] = text.into();
                }
            }
        }
        options
    }

    /// The object after a patch, in the call's own version, with types checked and defaults filled in.
    pub(super) async fn patched(
        &self,
        hook: &Hook,
        matched: &Matched<'_>,
        before: &Value,
        operations: &Value,
    ) -> Result<Value, ApiError> {
        let mut next = matched.object.as_ref().map(|view| (*view.value).clone()).unwrap_or_default();
        patch::json::apply(&mut next, operations).map_err(ApiError::internal)?;
        let call = self.call;
        let seen = self.form.or(matched.kind.as_deref()).unwrap_or(&call.kind);
        if let Some(why) = call.undecodable(seen, &next) {
            let why =
                format!("admission webhook {:?} returned an object that does not decode: {why}", hook.name);
            return Err(ApiError::internal(why));
        }
        if self.form.is_some() {
            return Ok(next);
        }
        if (seen.group, seen.version) != (call.kind.group, call.kind.version) {
            next = conversion::between(&call.shared.storage, seen, &call.kind, next).await?;
        }
        call.canonicalise(&mut next);
        crate::verbs::settle_mutated(&call.kind, &mut next, before)?;
        Ok(next)
    }
}
