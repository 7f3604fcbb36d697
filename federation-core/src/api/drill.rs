//! The kind FailoverDrill: a rehearsed failure, with its hypothesis and its measured results.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// The rehearsal of a cluster's loss.
    FailoverDrill, "failoverdrills", k8s_openapi::ClusterResourceScope, FailoverDrillSpec, FailoverDrillStatus
}

/// The rehearsal of a cluster's loss: what is lost, how far, what is expected, and when it ends. While it runs, only changes of `stop` and
/// `renewTime` have an effect. A drill with a `schedule` never runs itself: the controller creates drills from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailoverDrillSpec {
    /// Names of the clusters to lose.
    pub lose: Vec<String>,
    /// The application that is drilled and measured.
    pub app: DrillApp,
    /// How far the loss goes.
    pub scope: DrillScope,
    /// What must hold, for example `rto<10s,errors<0.1%,ready>=80%`. The drill ends as soon as it can no longer hold.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hypothesis: String,
    /// Seconds for which the clusters are lost; 30 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub duration_seconds: Option<u32>,
    /// Start although the pre-flight checks doubt that the hypothesis can hold. A drill that would leave users without any cluster is refused
    /// anyway.
    #[serde(skip_serializing_if = "is_false")]
    pub force: bool,
    /// Only make the pre-flight checks.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// End the drill and restore.
    #[serde(skip_serializing_if = "is_false")]
    pub stop: bool,
    /// Who runs the drill and renews its lease; if empty, it has no lease.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub holder_identity: String,
    /// Seconds after renewTime at which a drill with a holder ends; 10 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 300))]
    pub lease_duration_seconds: Option<u32>,
    /// When the holder last renewed the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub renew_time: Option<MicroTime>,
    /// Cron schedule in UTC, such as `0 4 * * 1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    /// Suspend the schedule.
    #[serde(skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// Number of finished drills of the schedule to keep; 20 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub history_limit: Option<u32>,
}

impl FailoverDrillSpec {
    /// Milliseconds for which the clusters are lost.
    pub fn duration_ms(&self) -> i64 {
        i64::from(self.duration_seconds.unwrap_or(30)) * 1000
    }

    /// When the lease lapses, in Unix milliseconds; `None` without a holder. `renewed_ms` is when the reader saw `renewTime` change, by the
    /// reader's clock, since the holder's may be minutes off.
    pub fn lapses_ms(&self, renewed_ms: i64) -> Option<i64> {
        let lease = i64::from(self.lease_duration_seconds.unwrap_or(10)) * 1000;
        (!self.holder_identity.is_empty()).then(|| renewed_ms.saturating_add(lease))
    }
}

/// An application: a Service, and the workloads of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillApp {
    /// `default` if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the Service, and of the workloads behind it.
    pub name: String,
}

impl DrillApp {
    /// Its namespace.
    pub fn namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name)
    }
}

/// How far the loss goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrillScope {
    /// The application's answers leave the clusters out.
    #[default]
    Traffic,
    /// Additionally, the application's replicas are placed elsewhere after evictAfter.
    Schedule,
    /// The agent disconnects from the hub, and probes of the cluster count as failed; the verdict decides the rest.
    Isolate,
}

/// Progress and results of a drill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailoverDrillStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Phase of the drill.
    pub phase: DrillPhase,
    /// The rule that decided the phase, in CamelCase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The final phase once everything is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<DrillPhase>,
    /// The controller process that drives the drill. Another process restores and never continues it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runner: String,
    /// The clusters that were lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// When the clusters were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub start_time: Option<MicroTime>,
    /// When they were restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub end_time: Option<MicroTime>,
    /// When everything was as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub completion_time: Option<MicroTime>,
    /// What the pre-flight found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preflight: Vec<DrillFinding>,
    /// Measured stages, in the order in which they were reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<DrillStage>,
    /// The hypothesis, term by term.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hypothesis: Vec<DrillTerm>,
    /// The application's replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<DrillReplicas>,
    /// What users request, for further vantage points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look: Option<DrillLook>,
    /// What users saw, by vantage point: `hub`, `agent/CLUSTER`, `fedctl`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, DrillUsers>,
    /// Decisions with reasons; the last 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<DrillEntry>,
    /// For a schedule: when it last created a drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_schedule_time: Option<MicroTime>,
    /// The controller's signature of the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<DrillSignature>,
}

/// Phases of a drill.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DrillPhase {
    /// Not started.
    #[default]
    Pending,
    /// The clusters are lost.
    Running,
    /// The clusters are restored, but not everything is as before yet.
    Restoring,
    /// The hypothesis held.
    Passed,
    /// The hypothesis did not hold.
    Failed,
    /// It ended before there was a result.
    Aborted,
    /// The pre-flight checks refused it; nothing was done.
    Refused,
    /// Dry run: the pre-flight checks passed.
    Cleared,
}

impl DrillPhase {
    /// Whether the phase is final.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running | Self::Restoring)
    }

    /// Whether clusters are lost, or not fully restored yet.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Restoring)
    }
}

/// A finding of the pre-flight checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillFinding {
    /// The rule, in CamelCase.
    pub rule: String,
    /// Whether `force` overrides it.
    pub forcible: bool,
    /// For people.
    pub message: String,
}

/// A measured stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillStage {
    /// `Detected`, `Decided`, `DNSChanged`, `ReplicasCreated`, `ReplicasReady`, `UsersRecovered` or `Restored`.
    pub name: String,
    /// Which of several: a DNS server, a cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Milliseconds after the start.
    pub after_ms: i64,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One term of the hypothesis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillTerm {
    /// As written.
    pub term: String,
    /// What was measured, for people.
    pub measured: String,
    /// Whether it held; unset while that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
}

/// An application's replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillReplicas {
    /// That the application wants.
    pub wanted: i64,
    /// Ready when the drill started, everywhere.
    pub ready_before: i64,
    /// Ready now, or when the time was up, in the clusters that are left.
    pub ready_left: i64,
}

/// What users look at: they ask for the name, and fetch the page from the address that they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillLook {
    /// The name that they ask for.
    pub name: String,
    /// DNS servers, `address:port`.
    pub dns: Vec<String>,
    /// Port of the pages.
    pub port: u16,
    /// Path of the page, from its slash.
    pub path: String,
    /// Whose each address is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<DrillAddress>,
}

/// An address at which a cluster serves the application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillAddress {
    /// The address.
    pub address: String,
    /// Name of the cluster.
    pub cluster: String,
    /// The port there, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// What users at one vantage saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillUsers {
    /// Pages that were asked for since the start.
    pub requests: u64,
    /// Of them, those that did not come.
    pub failed: u64,
    /// Why, with how many; the most frequent 16.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u64>,
    /// Pages by the cluster that served them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, u64>,
    /// Milliseconds that a page took: the median.
    pub p50_ms: u32,
    /// The 95th percentile.
    pub p95_ms: u32,
    /// The 99th percentile.
    pub p99_ms: u32,
    /// The slowest.
    pub max_ms: u32,
    /// Milliseconds after the start at which a user last got no page, or one from a lost cluster; none if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_harm_ms: Option<i64>,
    /// Milliseconds after the start of the last page that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heard_ms: Option<i64>,
    /// Milliseconds in one bucket of the course.
    pub bucket_ms: i64,
    /// The course, from the start on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<DrillBucket>,
}

/// What users saw in one stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillBucket {
    /// Pages that came from clusters that are left.
    pub served: u64,
    /// Pages that came from lost clusters.
    pub from_lost: u64,
    /// Pages that did not come.
    pub failed: u64,
    /// The slowest, milliseconds.
    pub max_ms: u32,
}

/// One decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillEntry {
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub time: Option<MicroTime>,
    /// The rule that decided, in CamelCase.
    pub rule: String,
    /// For people.
    pub message: String,
}

/// A signature by the federation's certificate authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillSignature {
    /// Name of the algorithm.
    pub algorithm: String,
    /// `sha256:<hex>` of the authority's SubjectPublicKeyInfo.
    pub key: String,
    /// Base64 of the signature of the report's canonical JSON.
    pub value: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
