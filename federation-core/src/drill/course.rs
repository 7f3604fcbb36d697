//! The course of a drill, step by step.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

use crate::api::{DrillEntry, DrillPhase, FailoverDrillSpec, FailoverDrillStatus};

use super::stages::{self, names};
use super::{Facts, judge, preflight, refusal};

/// Milliseconds in which everything must be seen to be as before.
pub const RESTORE_MAX_MS: i64 = 120_000;
/// Entries of the log that are kept.
const LOG_MAX: usize = 64;

/// One look at the world.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Unix milliseconds.
    pub now_ms: i64,
    /// When the driver last saw `spec.renewTime` turn, or first saw the drill, Unix milliseconds by his own clock.
    pub renewed_ms: i64,
    /// The object's metadata.generation.
    pub generation: Option<i64>,
    /// The object is being deleted.
    pub deleted: bool,
    /// Who drives: another one in the status means that the drill is an orphan.
    pub runner: &'a str,
    /// What the pre-flight asks for.
    pub facts: &'a Facts,
    /// By lost cluster: when decisions began to see it as lost (Unix milliseconds), and how they say so.
    pub detected: &'a BTreeMap<String, (i64, String)>,
    /// When zones without the lost clusters were published, Unix milliseconds.
    pub decided_ms: Option<i64>,
    /// By DNS server: when it was seen to answer by such zones, Unix milliseconds.
    pub dns: &'a BTreeMap<String, Option<i64>>,
    /// Everything is seen to be as it was before; asked while nothing is lost.
    pub restored: bool,
}

/// What comes of a look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// To be written.
    pub status: FailoverDrillStatus,
    /// Clusters that are to be lost now, and until the next step. When a drill starts, the status must be written before they are.
    pub lost: Vec<String>,
}

/// Goes on from `status`. Pure; call it at least each second while a drill is not over, and with the same inputs as often as you like.
pub fn step(spec: &FailoverDrillSpec, status: &FailoverDrillStatus, seen: &Seen<'_>) -> Step {
    let mut course = Course { spec, status: status.clone(), seen };
    course.status.observed_generation = seen.generation.or(status.observed_generation);
    match status.phase {
        DrillPhase::Pending => course.pending(),
        DrillPhase::Running => course.running(),
        DrillPhase::Restoring => course.restoring(),
        _ => {}
    }
    let lost =
        if course.status.phase == DrillPhase::Running { course.status.lost.clone() } else { Vec::new() };
    Step { status: course.status, lost }
}

struct Course<'a> {
    spec: &'a FailoverDrillSpec,
    status: FailoverDrillStatus,
    seen: &'a Seen<'a>,
}

impl Course<'_> {
    fn pending(&mut self) {
        if self.spec.stop || self.seen.deleted {
            self.enter(DrillPhase::Aborted, "Stopped", "it was stopped before it started".into());
            return;
        }
        if self.lease_lapsed() {
            let message = format!("{} is not there any more", self.spec.holder_identity);
            self.enter(DrillPhase::Aborted, "LeaseLapsed", message);
            return;
        }
        self.status.preflight = preflight(self.spec, self.seen.facts);
        if let Some(finding) = refusal(self.spec, self.seen.facts) {
            let hint = if finding.forcible { "; force passes over that" } else { "" };
            self.enter(DrillPhase::Refused, &finding.rule, format!("{}{hint}", finding.message));
        } else if self.spec.dry_run {
            self.enter(DrillPhase::Cleared, "DryRun", "nothing speaks against it".into());
        } else {
            self.status.runner = self.seen.runner.to_owned();
            self.status.lost.clone_from(&self.spec.lose);
            self.status.start_time = Some(time(self.seen.now_ms));
            stages::replicas(&mut self.status, self.seen.facts);
            let passed_over = self.status.preflight.len();
            let forced = if passed_over > 0 {
                format!(", though the pre-flight found {passed_over} things against it")
            } else {
                String::new()
            };
            let message = format!(
                "{} lost for {} s, scope {:?}{forced}",
                self.status.lost.join(", "),
                self.spec.duration_ms() / 1000,
                self.spec.scope
            );
            self.enter(DrillPhase::Running, "Started", message);
        }
    }

    fn running(&mut self) {
        let start_ms = self.start_ms();
        let elapsed_ms = self.seen.now_ms.saturating_sub(start_ms);
        if self.status.runner != self.seen.runner {
            // What was measured in between is not known: nothing is added.
            self.end(DrillPhase::Aborted, "HubRestarted", "the hub that ran it is gone".into());
            return;
        }
        stages::measure(self.spec, &mut self.status, start_ms, self.seen);
        let time_is_up = elapsed_ms >= self.spec.duration_ms();
        self.status.hypothesis = judge(self.spec, &self.status, elapsed_ms, time_is_up);
        if self.spec.stop || self.seen.deleted {
            self.end(DrillPhase::Aborted, "Stopped", "it was stopped".into());
        } else if self.lease_lapsed() {
            let message = format!("{} did not renew its lease", self.spec.holder_identity);
            self.end(DrillPhase::Aborted, "LeaseLapsed", message);
        } else if elapsed_ms < 0 {
            self.end(
                DrillPhase::Aborted,
                "ClockWentBack",
                "the clock went back: nothing can be measured".into(),
            );
        } else if let Some(reason) = &self.seen.facts.frozen {
            self.end(DrillPhase::Aborted, "Frozen", format!("nothing moves now: {reason}"));
        } else if let Some(cluster) = self.really_lost() {
            let message = format!("{cluster} is not Healthy, and nobody rehearses that");
            self.end(DrillPhase::Aborted, "AnotherClusterLost", message);
        } else if let Some(term) = self.status.hypothesis.iter().find(|term| term.held == Some(false)) {
            let (rule, when) = if time_is_up {
                ("HypothesisFailed", "")
            } else {
                ("HypothesisBroken", "it cannot hold any more: ")
            };
            let message = format!("{when}{} was expected, measured: {}", term.term, term.measured);
            self.end(DrillPhase::Failed, rule, message);
        } else if time_is_up {
            let message = if self.status.hypothesis.is_empty() {
                "its time was up; nothing was expected".into()
            } else {
                "its time was up, and every term held".into()
            };
            self.end(DrillPhase::Passed, "HypothesisHeld", message);
        }
    }

    fn restoring(&mut self) {
        let end_ms = self.status.end_time.as_ref().map_or(self.seen.now_ms, |time| time.0.as_millisecond());
        let took_ms = self.seen.now_ms.saturating_sub(end_ms);
        let outcome = self.status.outcome.unwrap_or(DrillPhase::Aborted);
        // The outcome's own reason stays: it is what people ask for.
        let (reason, message) = (self.status.reason.clone(), self.status.message.clone());
        if self.seen.restored {
            let after_ms = self.seen.now_ms.saturating_sub(self.start_ms()).max(0);
            let all = "all is seen to be as before";
            stages::note(&mut self.status, names::RESTORED, "", after_ms, all);
            self.log("Restored", format!("{all}, {} ms after the end", took_ms.max(0)));
            self.close(outcome, reason, message);
        } else if !(0..RESTORE_MAX_MS).contains(&took_ms) {
            let late = format!("not all was seen to be as before within {} s", RESTORE_MAX_MS / 1000);
            self.log("NotRestored", late.clone());
            if outcome == DrillPhase::Passed {
                self.close(DrillPhase::Failed, "NotRestored".into(), late);
            } else {
                self.close(outcome, reason, format!("{message}; {late}"));
            }
        }
    }

    fn start_ms(&self) -> i64 {
        self.status.start_time.as_ref().map_or(self.seen.now_ms, |time| time.0.as_millisecond())
    }

    fn lease_lapsed(&self) -> bool {
        self.spec.lapses_ms(self.seen.renewed_ms).is_some_and(|at_ms| at_ms <= self.seen.now_ms)
    }

    /// A cluster that is left and was lost in earnest.
    fn really_lost(&self) -> Option<&String> {
        let left = |name: &&String| !self.status.lost.contains(name);
        let bad = self.seen.facts.clusters.iter().filter(|(_, cluster)| !cluster.healthy);
        bad.map(|(name, _)| name).find(left)
    }

    /// Gives back.
    fn end(&mut self, outcome: DrillPhase, reason: &str, message: String) {
        self.status.outcome = Some(outcome);
        self.status.end_time = Some(time(self.seen.now_ms));
        self.enter(DrillPhase::Restoring, reason, message);
    }

    fn close(&mut self, phase: DrillPhase, reason: String, message: String) {
        self.status.completion_time = Some(time(self.seen.now_ms));
        (self.status.phase, self.status.reason, self.status.message) = (phase, reason, message);
    }

    fn enter(&mut self, phase: DrillPhase, reason: &str, message: String) {
        self.log(reason, message.clone());
        if phase.is_over() {
            self.status.completion_time = Some(time(self.seen.now_ms));
        }
        (self.status.phase, self.status.reason, self.status.message) = (phase, reason.into(), message);
    }

    fn log(&mut self, rule: &str, message: String) {
        let entry = DrillEntry { time: Some(time(self.seen.now_ms)), rule: rule.into(), message };
        self.status.log.push(entry);
        let surplus = self.status.log.len().saturating_sub(LOG_MAX);
        self.status.log.drain(..surplus);
    }
}

/// What cannot be said as a time is the epoch: it is compared, never shown.
pub(super) fn time(ms: i64) -> MicroTime {
    MicroTime(Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH))
}
