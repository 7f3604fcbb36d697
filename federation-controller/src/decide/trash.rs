//! Deleted templates are kept for a while, so that a person can have them back.

use std::sync::Arc;

use super::reconcile::{Error, Reconciler};
use crate::observe::Template;

impl Reconciler {
    /// Once for each template, before anything of it goes.
    pub(super) async fn keep_in_trash(&self, template: &Arc<Template>) -> Result<(), Error> {
        let key = &template.key;
        if self.trash_grace.is_zero() || self.ledger.with(key, &template.uid, |entry| entry.trashed) {
            return Ok(());
        }
        let decided = self.world.decided(key);
        let clusters = decided.map_or_else(Vec::new, |decided| {
            decided.spec.clusters.iter().map(|target| target.name.clone()).collect()
        });
        self.writer.create_trash(template, clusters, self.trash_grace).await?;
        self.ledger.with(key, &template.uid, |entry| entry.trashed = true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use federation_runtime::tasks;
    use serde_json::{Value, json};

    use super::*;
    use crate::act::api::{Api, Direct};
    use crate::act::write::Writer;
    use crate::observe::Kind;
    use crate::testing;

    /// An API whose first write panics.
    #[derive(Default)]
    struct FailsFirst(AtomicU32);

    impl Direct for FailsFirst {
        fn answer(&self, _: http::Request<Vec<u8>>) -> Option<Result<Value, kube::Error>> {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "the first write fails");
            Some(Ok(Value::Null))
        }

        fn delays(&self) -> (Duration, Duration) {
            (Duration::ZERO, Duration::ZERO)
        }
    }

    #[tokio::test]
    async fn a_deleted_template_is_in_the_trash_when_that_is_written_and_for_ever_if_it_is_kept_for_so_long()
    {
        let api = Arc::new(FailsFirst::default());
        let reconciler = Reconciler {
            writer: Writer::new(Api::Direct(api.clone())),
            trash_grace: Duration::MAX,
            ..testing::machine().await.reconciler()
        };
        let object = json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}});
        let template = Arc::new(Template::read(Kind::find("", "configmaps").expect("a kind"), object));
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(
                tasks::caught("a-deletion", reconciler.keep_in_trash(&template))
                    .await
                    .is_ok_and(|kept| kept.is_ok()),
            );
        }
        assert_eq!((kept, api.0.load(Ordering::Relaxed)), (vec![false, true, true], 2));
    }
}
