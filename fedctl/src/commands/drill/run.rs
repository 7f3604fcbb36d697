//! `fedctl drill run`: holds the lease of a drill and shows its progress.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use apimachinery::go_duration;
use federation_core::api::{
    DrillApp, DrillPhase, DrillScope, DrillStage, FailoverDrill, FailoverDrillSpec, FailoverDrillStatus,
};
use federation_core::drill;
use federation_runtime::shutdown::Shutdown;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use web_users::Crowd;

use crate::commands::output::word;
use crate::connect::Connection;

/// Polling interval.
const LOOK: Duration = Duration::from_millis(200);
/// Seconds of the lease: a hub that is not told anything for this long ends the drill.
const LEASE_SECONDS: u32 = 10;
/// Between two renewals: two may be lost.
const RENEW: Duration = Duration::from_secs(3);
/// Between two lines about the users.
const TELL_USERS: Duration = Duration::from_secs(2);
/// Users for each DNS server, who look from here.
const USERS: usize = 2;
/// Between two words about what they see.
const TELL: Duration = Duration::from_millis(500);
/// Name of this vantage.
const VANTAGE: &str = "fedctl";
/// The API may be unreachable for this long before this command gives up; the drill then ends by its lease.
const AWAY: Duration = Duration::from_secs(30);

/// Options of `fedctl drill run`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// Clusters to lose, separated by commas.
    #[arg(long, required = true, value_delimiter = ',', value_name = "CLUSTER")]
    lose: Vec<String>,
    /// The Service whose users and replicas are measured.
    #[arg(long, value_name = "NAME")]
    app: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// traffic: DNS answers leave the clusters out; schedule: replicas move, too; isolate: the clusters' agents behave as if cut off.
    #[arg(long, value_enum, default_value = "traffic")]
    scope: Scope,
    /// What must hold, such as 'rto<10s,errors<0.1%,ready>=80%'; also p50, p95 and p99 of page load times.
    #[arg(long, default_value = "")]
    hypothesis: String,
    /// How long the clusters are lost, as 30s, 5m or 1h30m.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = seconds)]
    duration: u32,
    /// Only makes the pre-flight checks.
    #[arg(long)]
    dry_run: bool,
    /// Starts although the pre-flight checks doubt that the hypothesis can hold.
    #[arg(long)]
    force: bool,
    /// Name of the drill; made from clusters, application and time if not given.
    #[arg(long, value_name = "ID")]
    name: Option<String>,
    /// Runs the drill on a cron schedule in UTC instead of now, such as '0 4 * * 1'.
    #[arg(long, value_name = "CRON", conflicts_with = "dry_run")]
    schedule: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Scope {
    Traffic,
    Schedule,
    Isolate,
}

impl Options {
    fn drill(&self, now: Timestamp) -> FailoverDrill {
        let made = || {
            let what = format!("{}-{}", self.lose.join("-"), self.app);
            if self.schedule.is_some() { what } else { format!("{what}-{}", now.as_second()) }
        };
        let name = self.name.clone().unwrap_or_else(made);
        let mut spec = FailoverDrillSpec {
            lose: self.lose.clone(),
            app: DrillApp { namespace: self.namespace.clone(), name: self.app.clone() },
            scope: match self.scope {
                Scope::Traffic => DrillScope::Traffic,
                Scope::Schedule => DrillScope::Schedule,
                Scope::Isolate => DrillScope::Isolate,
            },
            hypothesis: self.hypothesis.clone(),
            duration_seconds: Some(self.duration),
            dry_run: self.dry_run,
            force: self.force,
            ..FailoverDrillSpec::default()
        };
        match &self.schedule {
            Some(schedule) => spec.schedule.clone_from(schedule),
            None => {
                spec.holder_identity = format!("fedctl {}", std::process::id());
                spec.lease_duration_seconds = Some(LEASE_SECONDS);
                spec.renew_time = Some(MicroTime(now));
            }
        }
        FailoverDrill::new(&name, spec)
    }
}

pub(super) async fn run(options: Options, shutdown: Shutdown) -> Result<()> {
    let drill = options.drill(Timestamp::now());
    // Said here too, because a fault is seen sooner than an API is reached.
    if let Some((field, message)) = drill::problems(&drill.spec).into_iter().next() {
        bail!("{field}: {message}");
    }
    let api: Api<FailoverDrill> = Api::all(options.connection.client().await?);
    let made = api.create(&PostParams::default(), &drill).await.context("making the drill")?;
    if options.schedule.is_some() {
        println!("failoverdrill/{} runs on schedule: {}", made.name(), made.spec.schedule);
        return Ok(());
    }
    eprintln!("failoverdrill/{}: Ctrl-C ends it and restores", made.name());
    let status = follow(&api, made.name(), shutdown).await?;
    println!("failoverdrill/{} {}: {}", made.name(), word(&status.phase), status.message);
    match status.phase {
        DrillPhase::Passed | DrillPhase::Cleared => Ok(()),
        DrillPhase::Refused => bail!("it was refused: {}", status.message),
        DrillPhase::Aborted => bail!("it ended without a result: {}", status.message),
        _ => bail!("the hypothesis did not hold: {}", status.message),
    }
}

/// Renews the lease and reports progress until the drill is over.
async fn follow(api: &Api<FailoverDrill>, name: &str, shutdown: Shutdown) -> Result<FailoverDrillStatus> {
    let mut told = Told::default();
    let mut here = Here::default();
    let mut stopping = false;
    let mut renewed = Instant::now();
    let mut heard = Instant::now();
    loop {
        if shutdown.started() && !stopping {
            eprintln!("stopping: everything is being restored");
            let patch = json!({"spec": {"stop": true}});
            stopping = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.is_ok();
        }
        if renewed.elapsed() >= RENEW && !stopping {
            let patch = json!({"spec": {"renewTime": MicroTime(Timestamp::now())}});
            // A lease that cannot be renewed lapses, and that is what it is for.
            if api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.is_ok() {
                renewed = Instant::now();
            }
        }
        match api.get_opt(name).await {
            Ok(Some(drill)) => {
                heard = Instant::now();
                here.look(api, &drill).await;
                let status = drill.status.unwrap_or_default();
                told.tell(&status);
                if status.phase.is_over() {
                    return Ok(status);
                }
            }
            Ok(None) => bail!("the drill was deleted: the hub restores everything"),
            Err(error) if heard.elapsed() > AWAY => {
                return Err(error)
                    .context("the federation's API is unreachable; the drill ends by its lease");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = shutdown.wait(), if !stopping => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Users who look from where this command runs.
#[derive(Default)]
struct Here {
    crowd: Option<Crowd>,
    begun: bool,
    told: Option<Instant>,
}

impl Here {
    /// Starts them when it is known what to look at, and tells what they see while the drill runs. What could not be told is told the next
    /// time.
    async fn look(&mut self, api: &Api<FailoverDrill>, drill: &FailoverDrill) {
        let Some(status) = &drill.status else { return };
        match status.phase {
            DrillPhase::Pending => {
                if self.crowd.is_none() {
                    self.crowd = status.look.as_ref().and_then(|look| Crowd::start(look, USERS));
                }
                return;
            }
            DrillPhase::Running => {}
            _ => {
                self.crowd = None;
                return;
            }
        }
        let Some(crowd) = &self.crowd else { return };
        if !self.begun {
            self.begun = true;
            crowd.begin(&status.lost);
            if !crowd.is_fit() {
                eprintln!("  this machine is not served: users are measured by the hub and by agents only");
            }
        }
        if !crowd.is_fit() || self.told.is_some_and(|at| at.elapsed() < TELL) {
            return;
        }
        self.told = Some(Instant::now());
        // As it was read: once it is over, the figures are signed, and nobody adds to them.
        let version = drill.metadata.resource_version.as_deref();
        let patch = json!({
            "metadata": {"resourceVersion": version},
            "status": {"users": {VANTAGE: crowd.figures()}},
        });
        let told = api.patch_status(drill.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        if told.is_err() {
            self.told = None;
        }
    }
}

/// What was said already.
#[derive(Default)]
struct Told {
    findings: bool,
    log: usize,
    stages: Vec<DrillStage>,
    users: Option<Instant>,
}

impl Told {
    fn tell(&mut self, status: &FailoverDrillStatus) {
        if !self.findings && !status.preflight.is_empty() {
            self.findings = true;
            for finding in &status.preflight {
                eprintln!("  pre-flight: {}: {}", finding.rule, finding.message);
            }
        }
        for entry in status.log.iter().skip(self.log) {
            eprintln!("  {}: {}", entry.rule, entry.message);
        }
        self.log = self.log.max(status.log.len());
        for stage in &status.stages {
            // Recovery may move: the summary tells the last of it.
            let known = |told: &DrillStage| told.name == stage.name && told.subject == stage.subject;
            if self.stages.iter().any(known) {
                continue;
            }
            self.stages.push(stage.clone());
            let subject = if stage.subject.is_empty() { "" } else { " " };
            eprintln!(
                "  {:>6} ms  {}{subject}{}  {}",
                stage.after_ms, stage.name, stage.subject, stage.message
            );
        }
        if status.phase == DrillPhase::Running && self.users.is_none_or(|at| at.elapsed() >= TELL_USERS) {
            self.users = Some(Instant::now());
            for (vantage, users) in &status.users {
                eprintln!(
                    "  users at {vantage}: {} pages, {} failed, {} ms median, {} ms at worst",
                    users.requests, users.failed, users.p50_ms, users.max_ms
                );
            }
            for term in &status.hypothesis {
                eprintln!("  {}: {}", term.term, term.measured);
            }
        }
    }
}

/// Reads a duration of whole seconds that is not zero.
fn seconds(text: &str) -> Result<u32, String> {
    match go_duration::whole_seconds(text)? {
        0 => Err(format!("{text:?}: it must be longer than nothing")),
        seconds => Ok(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("30"), Ok(30));
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("1h"), Ok(3600));
        for wrong in ["", "0s", "1s500ms", "m", "99999999999m"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
