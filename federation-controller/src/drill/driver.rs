//! The drill loop: observe, step the state machine, write the status, apply the loss.
//!
//! The status of a drill that starts is written before anything is lost, and nothing is lost any more before a status says so. Whoever finds
//! a running drill that he does not know restores it: the loss itself is in this process only, and ends with the run that took it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use federation_core::api::{DrillPhase, DrillScope, DrillSignature, FailoverDrill, FailoverDrillStatus};
use federation_core::drill::report::{document, signed_bytes};
use federation_core::drill::{Facts, Seen, Step, bounded, refusal, step};
use federation_runtime::clock::Instant;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::{pki, tasks};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use web_users::Crowd;

use super::vantage::{AGENT, HUB, USERS};
use super::{DrillContext, Drills, LEASE_MS, Loss, calendar, facts, vantage};
use crate::decide::queue::Priority;

/// Looks while a drill is not over; an acknowledgement of a DNS server is looked at at once.
const LOOK: Duration = Duration::from_millis(100);
/// Looks at schedules.
const LOOK_AT_SCHEDULES: Duration = Duration::from_secs(1);
/// A status that only counts on is written at most this often.
const WRITE: Duration = Duration::from_millis(500);
/// Agents that look are told so again this often.
const TELL_AGENTS: Duration = Duration::from_secs(1);

/// Users look for so long before anything is lost, so that they have the answers in their caches that users have.
const WARM_UP: Duration = Duration::from_secs(2);

/// A drill that this process drives.
struct Course {
    uid: String,
    // What the holder last wrote, and when that was seen here.
    renewed: (Option<MicroTime>, i64),
    status: FailoverDrillStatus,
    written: FailoverDrillStatus,
    written_at: Instant,
    loss: Option<Loss>,
    vantage: Option<Crowd>,
    // The clusters whose agents look, and when they were last told to.
    agents: Vec<String>,
    told_agents: Option<Instant>,
    // Since when users look, before anything is lost.
    warming: Option<Instant>,
    // Epoch and time of the first zones without the clusters.
    decided: Option<(u64, i64)>,
    dns: BTreeMap<String, Option<i64>>,
}

impl Course {
    fn of(drill: &FailoverDrill) -> Self {
        let status = drill.status.clone().unwrap_or_default();
        // A drill that another run left: what it took away is known from its status.
        let loss = status.phase.is_active().then(|| loss(drill, &status));
        Self {
            uid: drill.metadata.uid.clone().unwrap_or_default(),
            renewed: (drill.spec.renew_time.clone(), now_ms()),
            written: status.clone(),
            status,
            written_at: Instant::now(),
            loss,
            vantage: None,
            agents: Vec::new(),
            told_agents: None,
            warming: None,
            decided: None,
            dns: BTreeMap::new(),
        }
    }
}

impl Drills {
    /// Drives until `shutdown`.
    pub(crate) async fn run(self, context: Arc<DrillContext>, shutdown: Shutdown) {
        // A run before this one panicked. Its drills are restored where they are found, and one may have been deleted since.
        if let Some(loss) = self.0.loss.swap(None) {
            tracing::warn!(
                drill = loss.drill,
                clusters = loss.clusters.join(","),
                "given back, after a failure"
            );
            turn(&context);
        }
        let runner = uuid::Uuid::new_v4().to_string();
        let mut courses: BTreeMap<String, Course> = BTreeMap::new();
        let mut served = context.zones.changes();
        let mut looked: Option<Instant> = None;
        while !context.world.is_synced() {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        loop {
            let busy = self.look(&context, &runner, &mut courses).await;
            if looked.is_none_or(|at| at.elapsed() >= LOOK_AT_SCHEDULES) {
                looked = Some(Instant::now());
                calendar::look(&self, &context, now_ms()).await;
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.0.changed.notified() => {}
                changed = served.changed(), if busy => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(if busy { LOOK } else { LOOK_AT_SCHEDULES }) => {}
            }
        }
    }

    /// One look at every drill that is not over. Says whether there is one.
    async fn look(
        &self,
        context: &DrillContext,
        runner: &str,
        courses: &mut BTreeMap<String, Course>,
    ) -> bool {
        let mut objects: Vec<Arc<FailoverDrill>> =
            self.objects().into_iter().filter(|drill| drill.spec.schedule.is_empty()).collect();
        // The oldest first, so that of two that wait the one that came first starts.
        objects.sort_by_key(|drill| {
            (drill.metadata.creation_timestamp.as_ref().map(|time| time.0), drill.name().to_owned())
        });
        courses.retain(|name, course| {
            let there = objects.iter().any(|drill| {
                drill.name() == name && drill.metadata.uid.as_deref() == Some(course.uid.as_str())
            });
            if !there && course.loss.is_some() {
                // Deleted in the middle: nobody is left to be told, and everything is given back.
                tracing::warn!(drill = name, "a drill was deleted while it ran");
                self.give_back(context, name);
            }
            there
        });
        for drill in &objects {
            courses.entry(drill.name().to_owned()).or_insert_with(|| Course::of(drill));
        }
        let mut busy = false;
        for drill in &objects {
            let other = courses
                .iter()
                .find(|(name, course)| *name != drill.name() && course.status.phase.is_active())
                .map(|(name, _)| name.clone());
            let Some(course) = courses.get_mut(drill.name()) else { continue };
            // What a drill came to is written until it stands, however often that fails.
            if !course.status.phase.is_over() || course.status != course.written {
                let step = async {
                    self.go_on(context, runner, drill, course, facts::facts(context, drill, other)).await;
                };
                if let Err(panicked) = tasks::caught("drills", step).await {
                    self.break_off(context, drill.name(), &panicked, courses);
                    continue;
                }
            }
            busy |= !course.status.phase.is_over() || course.status != course.written;
        }
        busy
    }

    /// A look at a drill panicked: it takes nothing any more, and the others go on. The next look finds it as one that another run left.
    fn break_off(
        &self,
        context: &DrillContext,
        drill: &str,
        why: &tasks::Panicked,
        courses: &mut BTreeMap<String, Course>,
    ) {
        tracing::error!(drill, %why, "a look at a drill failed");
        courses.remove(drill);
        self.give_back(context, drill);
    }

    async fn go_on(
        &self,
        context: &DrillContext,
        runner: &str,
        drill: &FailoverDrill,
        course: &mut Course,
        facts: Facts,
    ) {
        if course.status.phase == DrillPhase::Pending && is_warming_up(context, drill, course, &facts) {
            tell_agents(context, drill, course);
            if course.status != course.written && write(context, drill, &course.status).await {
                course.written.clone_from(&course.status);
            }
            return;
        }
        if course.status.phase == DrillPhase::Running {
            tell_agents(context, drill, course);
        }
        self.gather(context, drill, course);
        let (detected, restored) = match &course.loss {
            Some(loss) => {
                let ended = course.status.end_time.as_ref().map(|time| time.0.as_millisecond());
                let restored = ended.is_some_and(|ended| facts::restored(context, loss, ended));
                (facts::detected(context, loss), restored)
            }
            None => (BTreeMap::new(), false),
        };
        let now_ms = now_ms();
        if course.renewed.0 != drill.spec.renew_time {
            course.renewed = (drill.spec.renew_time.clone(), now_ms);
        }
        let Step { mut status, lost } = step(
            &drill.spec,
            &course.status,
            &Seen {
                now_ms,
                renewed_ms: course.renewed.1,
                generation: drill.metadata.generation,
                deleted: drill.metadata.deletion_timestamp.is_some(),
                runner,
                facts: &facts,
                detected: &detected,
                decided_ms: course.decided.map(|(_, at_ms)| at_ms),
                dns: &course.dns,
                restored,
            },
        );
        let before = course.status.phase;
        let turned = status.phase != before;
        if turned {
            tracing::info!(drill = drill.name(), phase = ?status.phase, reason = status.message, "a drill goes on");
        }
        if status.phase.is_over() {
            course.vantage = None;
        }
        // Given back before it is written, taken after.
        if before == DrillPhase::Running && lost.is_empty() {
            course.vantage = None;
            self.give_back(context, drill.name());
        }
        if status.phase.is_over() {
            status.signature = signature(context, drill, &status);
        }
        let starts = before == DrillPhase::Pending && status.phase == DrillPhase::Running;
        if (turned || course.written_at.elapsed() >= WRITE) && status != course.written {
            let written = write(context, drill, &status).await;
            if !written && starts {
                // It has not started: the next look tries again.
                return;
            }
            if written {
                course.written.clone_from(&status);
            }
            course.written_at = Instant::now();
        }
        course.status = status;
        if starts {
            let loss = loss(drill, &course.status);
            if let Some(vantage) = &course.vantage {
                vantage.begin(&loss.clusters);
            }
            course.loss = Some(loss.clone());
            course.told_agents = None;
            tell_agents(context, drill, course);
            self.take(context, loss);
        }
        self.keep_away(context);
    }

    /// An agent that is cut off and comes all the same, because it was started anew, is sent away again.
    fn keep_away(&self, context: &DrillContext) {
        let Some(loss) = self.loss().filter(|loss| loss.scope == DrillScope::Isolate) else { return };
        for cluster in loss.clusters.iter().filter(|cluster| context.sessions.is_connected(cluster)) {
            context.sessions.isolate(cluster, &loss.drill, LEASE_MS);
        }
    }

    fn take(&self, context: &DrillContext, loss: Loss) {
        tracing::warn!(drill = loss.drill, clusters = loss.clusters.join(","), scope = ?loss.scope, "as if lost");
        self.0.loss.store(Some(Arc::new(loss)));
        turn(context);
    }

    /// Gives back what this drill took: another one may run by now.
    fn give_back(&self, context: &DrillContext, drill: &str) {
        let taken = self.0.loss.load_full();
        if let Some(loss) = taken.filter(|loss| loss.drill == drill) {
            self.0.loss.store(None);
            tracing::info!(drill = loss.drill, clusters = loss.clusters.join(","), "given back");
        }
        turn(context);
    }
}

/// Everything is decided anew: answers first.
fn turn(context: &DrillContext) {
    context.traffic.poke();
    for key in context.world.keys() {
        context.queue.add(key, Priority::Normal);
    }
}

/// Whether a drill that will start waits for its users to have come. One that will not is told so at once.
fn is_warming_up(context: &DrillContext, drill: &FailoverDrill, course: &mut Course, facts: &Facts) -> bool {
    let spec = &drill.spec;
    if spec.stop || spec.dry_run || refusal(spec, facts).is_some() {
        return false;
    }
    if course.warming.is_none() {
        course.warming = Some(Instant::now());
        let look = vantage::look(context, spec);
        course.vantage = look.as_ref().and_then(|look| Crowd::start(look, USERS));
        course.agents = if look.is_some() { vantage::agents(context, &spec.lose) } else { Vec::new() };
        course.status.look = look;
    }
    course.vantage.is_some() && course.warming.is_some_and(|since| since.elapsed() < WARM_UP)
}

/// Agents that look are told what they are to look at.
fn tell_agents(context: &DrillContext, drill: &FailoverDrill, course: &mut Course) {
    let Some(look) = &course.status.look else { return };
    if course.told_agents.is_some_and(|at| at.elapsed() < TELL_AGENTS) {
        return;
    }
    course.told_agents = Some(Instant::now());
    let lost = course.loss.as_ref().map(|loss| loss.clusters.as_slice());
    for cluster in &course.agents {
        context.sessions.look(cluster, vantage::order(drill.name(), look, lost));
    }
}

impl Drills {
    /// What is newly seen of a running drill.
    fn gather(&self, context: &DrillContext, drill: &FailoverDrill, course: &mut Course) {
        // What other vantages wrote.
        let told = drill.status.as_ref().map(|status| status.users.clone()).unwrap_or_default();
        for (vantage, users) in told.into_iter().filter(|(vantage, _)| !is_ours(vantage)) {
            course.status.users.insert(vantage, bounded(users));
        }
        for (cluster, users) in self.seen(drill.name(), &course.agents) {
            course.status.users.insert(format!("{AGENT}{cluster}"), users);
        }
        if let Some(vantage) = course.vantage.as_ref().filter(|_| course.status.phase == DrillPhase::Running)
        {
            course.status.users.insert(HUB.to_owned(), vantage.figures());
        }
        let Some(loss) = course.loss.as_ref().filter(|_| course.status.phase == DrillPhase::Running) else {
            return;
        };
        if course.decided.is_none() {
            course.decided = facts::decided(context, loss);
        }
        let servers = context.zones.status().servers;
        for server in servers.into_iter().filter(|server| server.connected) {
            let changed = course.dns.entry(server.instance).or_default();
            if changed.is_none() && course.decided.is_some_and(|(epoch, _)| server.epoch >= epoch) {
                *changed = Some(now_ms());
            }
        }
    }
}

/// Whether what this vantage saw comes to this driver, which writes it.
fn is_ours(vantage: &str) -> bool {
    vantage == HUB || vantage.starts_with(AGENT)
}

fn loss(drill: &FailoverDrill, status: &FailoverDrillStatus) -> Loss {
    Loss {
        drill: drill.name().to_owned(),
        scope: drill.spec.scope,
        clusters: status.lost.clone(),
        namespace: drill.spec.app.namespace().to_owned(),
        app: drill.spec.app.name.clone(),
        since_ms: status.start_time.as_ref().map_or(0, |time| time.0.as_millisecond()),
    }
}

/// The authority's word for a drill that is over. A drill without it is worth as much as whoever could write its status.
fn signature(
    context: &DrillContext,
    drill: &FailoverDrill,
    status: &FailoverDrillStatus,
) -> Option<DrillSignature> {
    let over = FailoverDrill { status: Some(status.clone()), ..drill.clone() };
    let signed = context.authority.sign(&signed_bytes(&document(&over)));
    match signed.and_then(|value| Ok((value, context.authority.pin()?))) {
        Ok((value, pin)) => Some(DrillSignature {
            algorithm: pki::ALGORITHM.into(),
            key: pin.to_string(),
            value: base64::engine::general_purpose::STANDARD.encode(value),
        }),
        Err(error) => {
            tracing::warn!(%error, drill = drill.name(), "the report of a drill could not be signed");
            None
        }
    }
}

/// Other vantages write their own figures into the status: theirs are left alone.
async fn write(context: &DrillContext, drill: &FailoverDrill, status: &FailoverDrillStatus) -> bool {
    let mut own = status.clone();
    own.users.retain(|vantage, _| is_ours(vantage));
    let api: Api<FailoverDrill> = Api::all(context.client.clone());
    let patch = json!({"metadata": {"uid": drill.metadata.uid}, "status": own});
    match api.patch_status(drill.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, drill = drill.name(), "the status of a drill could not be written");
            false
        }
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use federation_runtime::pki::Authority;
    use kube::Client;
    use kube::client::Body;

    use super::*;
    use crate::machine::Machine;
    use crate::testing::{machine, until};

    /// What drills of this controller look at; the API never answers.
    fn context(machine: &Machine) -> DrillContext {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::load_or_create(directory.path()).expect("an authority");
        let silent =
            |_: http::Request<Body>| std::future::pending::<Result<http::Response<Body>, tower::BoxError>>();
        DrillContext {
            client: Client::new(tower::service_fn(silent), "default"),
            world: machine.world.clone(),
            cluster_state: machine.cluster_state.clone(),
            sessions: machine.sessions.clone(),
            traffic: machine.traffic.clone(),
            zones: machine.zones.clone(),
            queue: machine.queue.clone(),
            defaults: machine.defaults,
            authority: Arc::new(authority),
            zone: "fed.example.test".into(),
        }
    }

    fn drill(name: &str) -> FailoverDrill {
        let object = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "FailoverDrill",
            "metadata": {"name": name, "uid": name}, "spec": {"app": {"namespace": "shop", "name": "web"}, "lose": ["tokyo"]}});
        serde_json::from_value(object).expect("a drill")
    }

    fn taken(drill: &FailoverDrill) -> Arc<Loss> {
        let status = FailoverDrillStatus { lost: vec!["tokyo".into()], ..FailoverDrillStatus::default() };
        Arc::new(loss(drill, &status))
    }

    #[tokio::test]
    async fn what_a_run_took_that_failed_is_given_back_also_if_its_drill_is_gone() {
        let machine = machine().await;
        machine.drills.0.loss.store(Some(taken(&drill("deleted"))));
        let (context, shutdown) = (Arc::new(context(&machine)), Shutdown::new());
        let run = tokio::spawn(machine.drills.clone().run(context, shutdown.clone()));
        until(|| machine.drills.loss().is_none()).await;
        shutdown.start();
        run.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_drill_whose_look_fails_takes_nothing_any_more_and_is_found_as_another_runs() {
        let machine = machine().await;
        let (context, drills) = (context(&machine), &machine.drills);
        drills.0.loss.store(Some(taken(&drill("fails"))));
        let mut courses: BTreeMap<String, Course> =
            ["fails", "goes-on"].map(|name| (name.to_owned(), Course::of(&drill(name)))).into();
        let why = tasks::caught_here("a-drill", || assert!(courses.is_empty(), "a look fails"));
        drills.break_off(&context, "fails", &why.expect_err("it panics"), &mut courses);
        let left: Vec<&str> = courses.keys().map(String::as_str).collect();
        assert_eq!((drills.loss(), left), (None, vec!["goes-on"]));
    }
}
