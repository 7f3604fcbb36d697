//! Which of the things that must exist do, once after each start: what `/healthz` tells by the names of kube-apiserver's hooks.

use super::{Options, flow, ip_addresses, kubernetes_service, namespace, roles, service_cidrs, system};
use crate::{
    post_start_hooks::{self, Milestone},
    store::Snapshot,
};

/// What has not been seen yet.
pub(super) struct StartupChecks(Vec<Milestone>);

impl StartupChecks {
    pub(super) fn new(options: &Options) -> Self {
        let mut waits = vec![
            Milestone::Followed,
            Milestone::Namespaces,
            Milestone::Classes,
            Milestone::Levels,
            Milestone::Services,
        ];
        waits.extend(options.extension_authentication.is_some().then_some(Milestone::Authentication));
        waits.extend(options.default_roles.then_some(Milestone::Roles));
        waits.extend(options.endpoint.is_some().then_some(Milestone::Endpoint));
        waits.extend(options.cluster_ips.is_some().then_some(Milestone::Networks));
        Self(waits)
    }

    /// Whether all has been seen.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks for what has not been seen yet.
    pub(super) fn look(&mut self, snapshot: &Snapshot, options: &Options) {
        self.0.retain(|when| {
            let done = match when {
                Milestone::Namespaces => {
                    namespace::required(snapshot, options.root_ca_pem.as_deref()).is_empty()
                }
                Milestone::Authentication => {
                    let data = options.extension_authentication.as_ref();
                    data.is_none_or(|data| system::extension_authentication(snapshot, data).is_none())
                }
                Milestone::Roles => roles::bootstrap(snapshot).is_empty(),
                Milestone::Classes => system::classes(snapshot).is_empty(),
                Milestone::Levels => flow::required(snapshot).is_empty(),
                Milestone::Endpoint => {
                    options.endpoint.is_none_or(|to| kubernetes_service::required(snapshot, to).is_empty())
                }
                Milestone::Networks => options.cluster_ips.is_none_or(|network| {
                    service_cidrs::required(snapshot, network).is_none()
                        && ip_addresses::are_complete(snapshot)
                }),
                Milestone::Services => system::services(snapshot).is_empty(),
                Milestone::Assembled | Milestone::Followed | Milestone::Checked => true,
            };
            if done {
                post_start_hooks::done(&options.health, *when);
            }
            !done
        });
    }
}
