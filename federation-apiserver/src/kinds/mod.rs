//! The rows of the table of kinds, a file for each family.

mod apps;
mod coordination;
mod core_config;
mod core_event;
mod core_namespace;
mod core_node;
mod core_service;
mod federation;
mod rbac;
mod reviews;

pub(crate) use federation::check_cluster_selector;

use crate::registry::Kind;

/// Every kind that is served, core first.
pub(crate) fn all() -> Vec<&'static Kind> {
    [
        core_namespace::KINDS,
        core_config::KINDS,
        core_event::CORE,
        core_service::KINDS,
        core_node::KINDS,
        apps::KINDS,
        coordination::KINDS,
        core_event::EVENTS,
        rbac::KINDS,
        reviews::KINDS,
        federation::KINDS,
    ]
    .concat()
}
