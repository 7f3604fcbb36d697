//! The kind FailoverDrill: a failure rehearsed on purpose, with what it was expected to come to and what it came to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;

kind! {
    /// The rehearsal of a cluster's loss.
    FailoverDrill, "failoverdrills", k8s_openapi::ClusterResourceScope, FailoverDrillSpec, FailoverDrillStatus
}

/// The rehearsal of a cluster's loss: what is lost, how far, what is expected of the rest, and when to end it. Once it runs only `stop` and
/// `renewTime` count. One with a `schedule` never runs itself: the controller makes a drill of it whenever the schedule says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailoverDrillSpec {
    /// Names of the clusters that are lost.
    pub lose: Vec<String>,
    /// The application that is drilled and measured.
    pub app: DrillApp,
    /// How far the loss goes.
    pub scope: DrillScope,
    /// What must hold, for example `rto<10s,errors<0.1%,ready>=80%`. The drill ends as soon as it cannot hold any more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hypothesis: String,
    /// Seconds for which the clusters are lost; 30 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub duration_seconds: Option<u32>,
    /// Start though the pre-flight doubts that the hypothesis can hold. What would leave users without any cluster is refused all the same.
    #[serde(skip_serializing_if = "is_false")]
    pub force: bool,
    /// Make the pre-flight only.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// End it, and restore.
    #[serde(skip_serializing_if = "is_false")]
    pub stop: bool,
    /// Who runs it and renews its lease; nobody needs to, if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub holder_identity: String,
    /// Seconds after renewTime at which a drill with a holder ends by itself; 10 if unset.
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
    /// The schedule rests.
    #[serde(skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// Drills of the schedule that are kept once they are over; 20 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub history_limit: Option<u32>,
}

impl FailoverDrillSpec {
    /// Milliseconds for which the clusters are lost.
    pub fn duration_ms(&self) -> i64 {
        i64::from(self.duration_seconds.unwrap_or(30)) * 1000
    }

    /// When the lease lapses, Unix milliseconds; never without a holder. `renewed_ms` is when its reader saw `renewTime` turn, by his own
    /// clock: the holder's may be minutes off.
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
    /// As if lost, for the application's answers and its replicas: they are planned elsewhere after evictAfter.
    Schedule,
    /// The agent leaves the hub and the DNS servers see nothing of the cluster, as if cut off; verdicts decide the rest.
    Isolate,
}

/// What a drill came to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailoverDrillStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it is in its course.
    pub phase: DrillPhase,
    /// The rule that decided the phase, in CamelCase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it will be called once all is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<DrillPhase>,
    /// The run of the controller that drives it: another one restores, and never goes on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runner: String,
    /// The clusters that were taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// When the clusters were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub start_time: Option<MicroTime>,
    /// When they were given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub end_time: Option<MicroTime>,
    /// When all was seen to be as before.
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
    /// What users look at, for whoever looks from elsewhere too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look: Option<DrillLook>,
    /// What users saw, by vantage: `hub`, `agent/CLUSTER`, `fedctl`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, DrillUsers>,
    /// What was decided, and why; the last 64 entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<DrillEntry>,
    /// Of a schedule: when it last made a drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_schedule_time: Option<MicroTime>,
    /// The controller's signature of the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<DrillSignature>,
}

/// Where a drill is in its course.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DrillPhase {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// The clusters are lost.
    Running,
    /// The clusters are given back, and not all is seen to be as before yet.
    Restoring,
    /// The hypothesis held.
    Passed,
    /// The hypothesis did not hold.
    Failed,
    /// It was ended before it could tell.
    Aborted,
    /// The pre-flight refused it: nothing was done.
    Refused,
    /// The pre-flight of a dry run found nothing against it.
    Cleared,
}

impl DrillPhase {
    /// Whether nothing comes after it.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running | Self::Restoring)
    }

    /// Whether something is taken, or not given back yet.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Restoring)
    }
}

/// What the pre-flight found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrillFinding {
    /// The rule, in CamelCase.
    pub rule: String,
    /// Whether `force` passes over it.
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
