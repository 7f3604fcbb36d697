//! `fedctl plans [LOSS]`: what becomes of each loss, computed ahead, who holds it, and what was done by it.

use anyhow::{Result, bail};
use proto::v1;
use serde_json::{Value, json};

use super::answers::{Hub, said, seconds, time};
use super::output::{self, Printed};

/// Options of `fedctl plans`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    hub: Hub,
    /// Shows one loss with every workload: `cluster/NAME`, `zone/REGION/ZONE`, `region/REGION` or `domain/NAME`. If not given, an overview of
    /// all.
    #[arg(default_value = "", hide_default_value = true)]
    loss: String,
    #[command(flatten)]
    output: output::Flag,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let request = v1::PlansRequest {};
    let mut found = options.hub.client().await?.plans(request).await.map_err(said)?.into_inner();
    if !options.loss.is_empty() {
        let names: Vec<String> = found.plans.iter().map(|plan| plan.loss.clone()).collect();
        found.plans.retain(|plan| plan.loss == options.loss);
        if found.plans.is_empty() {
            bail!("there is no plan {:?}: there are {}", options.loss, names.join(", "));
        }
    }
    options.output.print(&Plans { found, one: !options.loss.is_empty() })
}

struct Plans {
    found: v1::PlansResponse,
    /// One loss with every workload, instead of an overview.
    one: bool,
}

impl Printed for Plans {
    fn text(&self) -> String {
        if self.one { self.found.plans.iter().map(whole).collect() } else { overview(&self.found) }
    }

    fn value(&self) -> Result<Value> {
        Ok(as_json(&self.found))
    }

    fn names(&self) -> Option<Vec<String>> {
        Some(self.found.plans.iter().map(|plan| plan.loss.clone()).collect())
    }
}

fn overview(found: &v1::PlansResponse) -> String {
    let council = found.council.clone().unwrap_or_default();
    let voters = council.clusters.len() + council.servers.len();
    let servers: Vec<&str> = council.servers.iter().map(|point| point.instance.as_str()).collect();
    let mut text = format!(
        "epoch {}: without the hub for {}, more than half of {voters} voters agree ({} agents, DNS servers: {})\n\n",
        found.epoch,
        seconds(council.away_ms.into()),
        council.clusters.len(),
        if servers.is_empty() { "none, so nobody acts".to_owned() } else { servers.join(", ") },
    );
    let mut table = output::table(["LOSS", "WORKLOADS", "REPLICAS", "TAKEN BY", "FINDINGS"]);
    for plan in &found.plans {
        let lost: i64 = plan.workloads.iter().map(|workload| workload.lost).sum();
        let missing: i64 = plan.workloads.iter().map(|workload| workload.missing).sum();
        let mut takers: std::collections::BTreeMap<&str, i64> = std::collections::BTreeMap::new();
        for take in plan.workloads.iter().flat_map(|workload| &workload.takes) {
            *takers.entry(&take.cluster).or_default() += take.to - take.from;
        }
        let takers: Vec<String> = takers.iter().map(|(name, more)| format!("{name} +{more}")).collect();
        let mut rules: Vec<&str> = plan.findings.iter().map(|found| found.rule.as_str()).collect();
        rules.dedup();
        table.add_row([
            plan.loss.clone(),
            plan.workloads.len().to_string(),
            if missing > 0 { format!("{lost}, {missing} without a place") } else { lost.to_string() },
            if takers.is_empty() { "-".to_owned() } else { takers.join(", ") },
            if rules.is_empty() { "-".to_owned() } else { rules.join(", ") },
        ]);
    }
    text.push_str(&format!("{table}\n"));
    if !found.holders.is_empty() {
        let mut table = output::table(["AGENT", "HOLDS", "MEETS AT"]);
        for holder in &found.holders {
            let holds = match (holder.epoch, holder.current) {
                (0, _) => "nothing".to_owned(),
                (epoch, true) => format!("epoch {epoch}"),
                (epoch, false) => format!("epoch {epoch}, which is not the newest"),
            };
            let meets = if holder.meets.is_empty() { "nowhere".to_owned() } else { holder.meets.join(", ") };
            table.add_row([holder.cluster.clone(), holds, meets]);
        }
        text.push_str(&format!("\n{table}\n"));
    }
    for act in &found.acts {
        let done: Vec<String> =
            act.workloads.iter().map(|done| format!("{} runs {}", done.workload, done.replicas)).collect();
        text.push_str(&format!(
            "\nACTED: {} at the loss {}, by the plans of epoch {}; heard at {}, {}: {}\n",
            act.cluster,
            act.losses.join(" and "),
            act.epoch,
            time(act.heard_ms),
            if act.adopted { "adopted" } else { "not adopted yet" },
            done.join(", ")
        ));
    }
    text
}

fn whole(plan: &v1::PlanOfLoss) -> String {
    let mut text = format!("{}: {}\n", plan.loss, plan.clusters.join(", "));
    for found in &plan.findings {
        let about: Vec<&str> = [found.cluster.as_str(), found.workload.as_str()]
            .into_iter()
            .filter(|of| !of.is_empty())
            .collect();
        let about = if about.is_empty() { String::new() } else { format!(" {}:", about.join(" ")) };
        text.push_str(&format!("  {}:{about} {}\n", found.rule, found.message));
    }
    for workload in &plan.workloads {
        let takes: Vec<String> = workload
            .takes
            .iter()
            .map(|take| format!("{} {} → {}", take.cluster, take.from, take.to))
            .collect();
        text.push_str(&format!(
            "\n  {}: {} lost; after {}{}: {}\n",
            workload.workload,
            workload.lost,
            seconds(workload.after_ms),
            if workload.exclusive { ", by the hub's word only" } else { "" },
            if takes.is_empty() { "nobody takes anything".to_owned() } else { takes.join(", ") }
        ));
        for reason in &workload.reasons {
            text.push_str(&format!("    {reason}\n"));
        }
    }
    text
}

/// Field names as in the API: camelCase, with units.
fn as_json(found: &v1::PlansResponse) -> Value {
    let council = found.council.clone().unwrap_or_default();
    let servers =
        council.servers.iter().map(|point| json!({"instance": point.instance, "addresses": point.addresses}));
    let plans = found.plans.iter().map(|plan| {
        let workloads = plan.workloads.iter().map(|workload| {
            let takes = workload.takes.iter().map(|take| json!({"cluster": take.cluster, "from": take.from, "to": take.to}));
            json!({
                "workload": workload.workload, "lost": workload.lost, "missing": workload.missing,
                "afterMillis": workload.after_ms, "exclusive": workload.exclusive,
                "takes": takes.collect::<Vec<_>>(), "reasons": workload.reasons,
            })
        });
        let findings = plan.findings.iter().map(|found| {
            json!({"rule": found.rule, "cluster": found.cluster, "workload": found.workload, "message": found.message})
        });
        json!({
            "loss": plan.loss, "clusters": plan.clusters, "workloads": workloads.collect::<Vec<_>>(),
            "findings": findings.collect::<Vec<_>>(),
        })
    });
    let holders = found.holders.iter().map(|holder| {
        json!({"cluster": holder.cluster, "epoch": holder.epoch, "current": holder.current, "meets": holder.meets})
    });
    let acts = found.acts.iter().map(|act| {
        let done =
            act.workloads.iter().map(|done| json!({"workload": done.workload, "replicas": done.replicas}));
        json!({
            "cluster": act.cluster, "epoch": act.epoch, "losses": act.losses, "heard": time(act.heard_ms),
            "adopted": act.adopted, "workloads": done.collect::<Vec<_>>(),
        })
    });
    json!({
        "epoch": found.epoch,
        "council": {"clusters": council.clusters, "servers": servers.collect::<Vec<_>>(), "awayMillis": council.away_ms},
        "plans": plans.collect::<Vec<_>>(),
        "holders": holders.collect::<Vec<_>>(),
        "acts": acts.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> v1::PlansResponse {
        let take = v1::PlannedTake { cluster: "tokyo".into(), from: 2, to: 4 };
        let workload = v1::PlannedWorkload {
            workload: "deployments.apps/default/web".into(),
            lost: 2,
            missing: 0,
            after_ms: 300_000,
            exclusive: false,
            takes: vec![take],
            reasons: vec!["tokyo: Weight: weight 1".into()],
        };
        let finding = v1::PlanFinding {
            rule: "NoRoom".into(),
            cluster: "tokyo".into(),
            workload: String::new(),
            message: "2 pods are asked for and 1 are free".into(),
        };
        v1::PlansResponse {
            epoch: 12,
            council: Some(v1::Council {
                clusters: vec!["taiwan".into(), "tokyo".into()],
                servers: vec![v1::MeetingPoint { instance: "one".into(), addresses: vec![] }],
                away_ms: 10_000,
                uids: Vec::new(),
            }),
            plans: vec![v1::PlanOfLoss {
                loss: "cluster/taiwan".into(),
                clusters: vec!["taiwan".into()],
                workloads: vec![workload],
                findings: vec![finding],
            }],
            holders: vec![v1::PlanHolder {
                cluster: "tokyo".into(),
                epoch: 12,
                current: true,
                meets: vec!["one".into()],
            }],
            acts: vec![v1::PlanAct {
                cluster: "tokyo".into(),
                epoch: 12,
                losses: vec!["cluster/taiwan".into()],
                adopted: true,
                workloads: vec![v1::ActedWorkload {
                    workload: "deployments.apps/default/web".into(),
                    replicas: 4,
                }],
                ..v1::PlanAct::default()
            }],
        }
    }

    #[test]
    fn the_text_says_who_takes_what_who_agrees_and_what_was_done() {
        let text = overview(&found());
        for part in [
            "more than half of 3 voters",
            "cluster/taiwan",
            "tokyo +2",
            "NoRoom",
            "epoch 12",
            "one",
            "ACTED: tokyo",
            "adopted",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        let text = whole(&found().plans[0]);
        for part in ["tokyo 2 → 4", "after 300", "2 pods are asked for", "tokyo: Weight"] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    #[test]
    fn the_json_has_every_take() {
        let json = as_json(&found());
        assert_eq!(json["plans"][0]["workloads"][0]["takes"][0]["to"], 4);
        assert_eq!(json["acts"][0]["adopted"], true);
        assert_eq!(json["council"]["awayMillis"], 10_000);
    }
}
