//! The rows of the table of kinds, a file for each family.

mod admissionregistration;
pub(crate) mod apiregistration;
mod apps_daemon;
mod apps_deployment;
mod apps_stateful;
mod autoscaling;
mod autoscaling_annotations;
mod autoscaling_v1;
mod batch_cron;
mod batch_job;
mod batch_job_policies;
mod batch_job_status;
mod certificates;
mod cluster_classes;
mod coordination;
mod core_claim;
mod core_config;
mod core_event;
mod core_namespace;
mod core_node;
mod core_pod;
mod core_quota;
mod core_replication;
mod core_service;
mod core_volume;
mod discovery_slice;
mod dns;
mod drills;
mod federation;
mod flowcontrol;
mod networking_ingress;
mod networking_policy;
mod policy;
mod rbac;
mod resource;
mod resource_capacity;
mod resource_rules;
mod resource_slice;
mod reviews;
mod safety;
mod storage;
mod traffic;

pub(crate) use certificates::{asks_for_group, same_conditions};
pub(crate) use core_service::is_externally_accessible;
pub(crate) use federation::check_cluster_selector;
pub(crate) use resource::admin_access;

use crate::registry::Kind;

/// Every kind that is served. Of two resources of one name kubectl takes the first: core comes first, and within a group
/// the preferred version.
pub(crate) fn all() -> Vec<&'static Kind> {
    [
        core_namespace::KINDS,
        core_config::KINDS,
        core_event::CORE,
        core_service::KINDS,
        core_node::KINDS,
        core_pod::KINDS,
        core_replication::KINDS,
        core_volume::KINDS,
        core_claim::KINDS,
        core_quota::KINDS,
        apiregistration::KINDS,
        apps_deployment::KINDS,
        apps_stateful::KINDS,
        apps_daemon::KINDS,
        core_event::EVENTS,
        autoscaling::KINDS,
        batch_job::KINDS,
        batch_cron::KINDS,
        certificates::KINDS,
        networking_ingress::KINDS,
        networking_policy::KINDS,
        policy::KINDS,
        rbac::KINDS,
        reviews::KINDS,
        storage::KINDS,
        admissionregistration::KINDS,
        cluster_classes::KINDS,
        coordination::KINDS,
        discovery_slice::KINDS,
        flowcontrol::KINDS,
        resource::KINDS,
        crate::crd::KINDS,
        dns::KINDS,
        federation::KINDS,
        traffic::KINDS,
        drills::KINDS,
        safety::KINDS,
    ]
    .concat()
}
