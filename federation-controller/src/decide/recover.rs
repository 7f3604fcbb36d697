//! Where a decision starts of which the store may know less than members do, because it was restored from a backup.

use std::sync::Arc;
use std::time::Duration;

use federation_core::api::{FailoverPreference, Verdict};
use federation_core::placement::{self, Claim, ClusterView};
use federation_core::{select, template as core_template};

use super::board::Snapshot;
use super::reconcile::Reconciler;
use crate::observe::{Decided, Template};

/// Members that have not said yet what they hold are waited for so long before it is looked again. They say so when they come, and are
/// taken for lost when they do not.
pub(super) const INVENTORY_WAIT: Duration = Duration::from_millis(200);

/// Where the next decision starts.
pub(super) enum Recovery {
    /// From this one; none if nobody holds anything.
    From(Option<Arc<Decided>>),
    /// Not all members have said what they hold.
    Wait,
}

impl Reconciler {
    /// Where the next decision about a workload starts: from the store's, or from what members hold by newer ones.
    pub(super) fn recover(
        &self,
        template: &Template,
        view: &core_template::Template,
        snapshot: &Snapshot,
        last: Option<Arc<Decided>>,
    ) -> Recovery {
        let doubtful = match &last {
            // It is new, or the store does not know that it is not.
            None => true,
            Some(last) => last.lost || self.epochs.is_doubtful(last.spec.epoch),
        };
        if view.replicas.is_none() || !doubtful {
            return Recovery::From(last);
        }
        let members = || {
            let taken_in = |view: &&ClusterView| view.joined && view.spec.hub_accepts != Some(false);
            snapshot.views.iter().filter(taken_in)
        };
        let is_told = |view: &ClusterView| self.sessions.is_compared(&view.name);
        // Nobody knows yet whether it is lost, or it is about to say what it holds.
        let is_awaited = |view: &ClusterView| {
            !is_told(view) && (view.verdict == Verdict::Unknown || self.sessions.is_connected(&view.name))
        };
        if members().any(is_awaited) {
            return Recovery::Wait;
        }
        let key = template.key.to_wire().into();
        let mut claims: Vec<Claim> = members()
            .filter_map(|view| {
                let item = self.sessions.claim(&view.name, &key)?;
                let replicas = item.replicas.map(i64::from);
                (item.uid == *template.uid).then(|| Claim {
                    cluster: view.name.clone(),
                    epoch: item.epoch,
                    replicas,
                })
            })
            .collect();
        let runs = |view: &ClusterView| {
            let claimed = claims.iter().find(|claim| claim.cluster == view.name).map(|claim| claim.replicas);
            let decided = || last.as_ref()?.spec.clusters.iter().find(|target| target.name == view.name);
            claimed.or_else(|| Some(decided()?.replicas)).is_some_and(|replicas| replicas != Some(0))
        };
        if self.is_exclusive(view) && !members().any(|view| is_told(view) && runs(view)) {
            // One who is out of reach may run it, by a lease of which the store does not know.
            claims.extend(members().filter(|view| !is_told(view)).map(|unheard| Claim {
                cluster: unheard.name.clone(),
                epoch: u64::MAX,
                replicas: view.replicas,
            }));
        }
        let Some(spec) = placement::recover(last.as_ref().map(|last| &last.spec), &claims) else {
            return Recovery::From(last);
        };
        tracing::warn!(key = %template.key, ?claims, "members hold newer decisions than the store: decided from those");
        Recovery::From(Some(Arc::new(match last {
            Some(last) => Decided { spec, ..Decided::clone(&last) },
            None => Decided { spec, status: Default::default(), lost: true },
        })))
    }

    fn is_exclusive(&self, view: &core_template::Template) -> bool {
        let (policies, cluster_policies) = self.world.policies();
        select::policy(view, &policies, &cluster_policies)
            .is_some_and(|policy| policy.spec.failover.prefer == FailoverPreference::Exclusivity)
    }
}
