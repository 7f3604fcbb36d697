//! Whether the survivors have capacity for what they take over.

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::{Finding, Loss, Takeover, is_mass_failure, rules};

/// What a member has free, as far as its agent said; `None` where it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    /// Thousandths of a processor.
    pub cpu_millis: Option<i64>,
    /// Bytes.
    pub memory_bytes: Option<i64>,
    /// Pods.
    pub pods: Option<i64>,
}

/// What one pod requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Thousandths of a processor.
    pub cpu_millis: i64,
    /// Bytes.
    pub memory_bytes: i64,
}

impl Needs {
    /// Of a workload's pod template: its containers together, or the largest of those that run before them.
    pub fn of(object: &Value) -> Self {
        let of = |list: &str, name: &str| -> Vec<i64> {
            let containers = object.pointer(&format!("/spec/template/spec/{list}")).and_then(Value::as_array);
            let request = |container: &Value| {
                let text = container.pointer(&format!("/resources/requests/{name}"))?;
                let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
                let quantity = text.parse::<Quantity>().ok()?;
                Some(if name == "cpu" { quantity.millis() } else { quantity.units() })
            };
            containers.into_iter().flatten().filter_map(request).collect()
        };
        let together = |name: &str| {
            let running = of("containers", name).into_iter().fold(0_i64, i64::saturating_add);
            of("initContainers", name).into_iter().fold(running, i64::max)
        };
        Self { cpu_millis: together("cpu"), memory_bytes: together("memory") }
    }
}

/// One workload of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// `resource namespace/name`, for people.
    pub workload: &'a str,
    /// Of one pod.
    pub needs: Needs,
    /// What becomes of it.
    pub takeover: &'a Takeover,
}

/// What speaks against a plan, worst first: too much is lost at once, replicas without a place, survivors without room. `clusters` is the
/// number of members.
pub fn unfit(
    loss: &Loss,
    clusters: usize,
    wishes: &[Wish<'_>],
    free: &BTreeMap<String, Free>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |rule: &'static str, cluster: &str, workload: &str, message: String| {
        found.push(Finding { rule, cluster: cluster.into(), workload: workload.into(), message });
    };
    if is_mass_failure(loss.clusters.len(), clusters) {
        let message = format!("{} of {clusters} clusters at once: nobody acts on it", loss.clusters.len());
        say(rules::TOO_MANY, "", "", message);
    }
    let mut asked: BTreeMap<&str, (i64, Needs)> = BTreeMap::new();
    for wish in wishes {
        let Takeover { takes, missing, exclusive, .. } = wish.takeover;
        if *missing > 0 {
            let message = format!("{missing} of {} lost replicas find no cluster", wish.takeover.lost);
            say(rules::NO_PLACE, "", wish.workload, message);
        }
        if *exclusive {
            let message = "it may run in one cluster at a time, and starts elsewhere only by the hub's word";
            say(rules::EXCLUSIVE, "", wish.workload, message.into());
        }
        for (cluster, take) in takes {
            let more = take.to - take.from;
            let (pods, needs) = asked.entry(cluster).or_default();
            *pods = pods.saturating_add(more);
            needs.cpu_millis = needs.cpu_millis.saturating_add(wish.needs.cpu_millis.saturating_mul(more));
            needs.memory_bytes =
                needs.memory_bytes.saturating_add(wish.needs.memory_bytes.saturating_mul(more));
        }
    }
    for (cluster, (pods, needs)) in asked {
        let Some(free) = free.get(cluster) else { continue };
        let mut short = Vec::new();
        let mut compare = |what: &str, asked: i64, free: Option<i64>| {
            if let Some(free) = free.filter(|free| *free < asked) {
                short.push(format!("{asked} {what} are asked for and {} are free", free.max(0)));
            }
        };
        compare("pods", pods, free.pods);
        compare("thousandths of a processor", needs.cpu_millis, free.cpu_millis);
        compare("bytes of memory", needs.memory_bytes, free.memory_bytes);
        if !short.is_empty() {
            say(rules::NO_ROOM, cluster, "", short.join("; "));
        }
    }
    found
}
