//! Creates the drills of schedules.

use federation_core::api::{FailoverDrill, FailoverDrillSpec};
use federation_core::drill::Calendar;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{DrillContext, Drills};

/// Label on a drill that a schedule made: the schedule's name.
pub(super) const OF: &str = "federation.rs/drill-schedule";
/// Drills of one schedule that are kept, if it does not say.
const HISTORY: u32 = 20;

/// Makes what is due, and forgets what is older than a schedule keeps.
pub(super) async fn look(drills: &Drills, context: &DrillContext, now_ms: i64) {
    let api: Api<FailoverDrill> = Api::all(context.client.clone());
    let objects = drills.objects();
    for schedule in objects.iter().filter(|drill| !drill.spec.schedule.is_empty()) {
        let made = objects.iter().filter(|drill| {
            drill
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(OF))
                .is_some_and(|of| of == schedule.name())
        });
        forget(&api, schedule, made.map(AsRef::as_ref).collect()).await;
        if schedule.spec.suspend || schedule.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let Ok(calendar) = schedule.spec.schedule.parse::<Calendar>() else { continue };
        let status = schedule.status.clone().unwrap_or_default();
        let created =
            schedule.metadata.creation_timestamp.as_ref().map_or(now_ms, |time| time.0.as_millisecond());
        let last_ms = status.last_schedule_time.map_or(created, |time| time.0.as_millisecond());
        let Some(due_ms) = calendar.due_ms(last_ms, now_ms) else { continue };
        let drill = due(schedule, due_ms);
        // The name says the minute: made twice, it is there once.
        match api.create(&PostParams::default(), &drill).await {
            Ok(_) => tracing::info!(schedule = schedule.name(), drill = drill.name(), "a drill is due"),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                tracing::warn!(%error, schedule = schedule.name(), "a drill that is due could not be made");
                continue;
            }
        }
        let at = Timestamp::from_millisecond(due_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let patch = json!({"status": {"lastScheduleTime": format!("{at:.6}")}});
        let params = PatchParams::default();
        if let Err(error) = api.patch_status(schedule.name(), &params, &Patch::Merge(&patch)).await {
            tracing::warn!(%error, schedule = schedule.name(), "a schedule's last time could not be written");
        }
    }
}

fn due(schedule: &FailoverDrill, due_ms: i64) -> FailoverDrill {
    let spec = FailoverDrillSpec {
        schedule: String::new(),
        suspend: false,
        history_limit: None,
        ..schedule.spec.clone()
    };
    let mut drill = FailoverDrill::new(&format!("{}-{}", schedule.name(), due_ms / 60_000), spec);
    drill.metadata.labels = Some([(OF.to_owned(), schedule.name().to_owned())].into());
    drill.metadata.owner_references = Some(vec![OwnerReference {
        api_version: schedule.api_version.clone(),
        kind: "FailoverDrill".into(),
        name: schedule.name().to_owned(),
        uid: schedule.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    drill
}

async fn forget(api: &Api<FailoverDrill>, schedule: &FailoverDrill, mut made: Vec<&FailoverDrill>) {
    made.retain(|drill| drill.status.as_ref().is_some_and(|status| status.phase.is_over()));
    // Names end in the minute.
    made.sort_by_key(|drill| drill.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let keep = schedule.spec.history_limit.unwrap_or(HISTORY) as usize;
    let surplus = made.len().saturating_sub(keep);
    for drill in made.into_iter().take(surplus) {
        if let Err(error) = api.delete(drill.name(), &DeleteParams::default()).await {
            tracing::debug!(%error, drill = drill.name(), "an old drill could not be deleted");
        }
    }
}
