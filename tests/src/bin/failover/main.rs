//! `cargo xtask bench failover`: what the demo does not show of failovers.
//!
//! `failover dataplane RUNS`: on two real clusters, the way to a site's pods is cut while its API and its agent are well; from there to the
//! verdict, from the verdict to every DNS server's new answer, and from `evictAfter` to the replicas elsewhere. Needs root.
//! `failover many COUNT RUNS`: a sandbox member that holds so many workloads is killed; from `evictAfter` to all of them elsewhere.
//!
//! The last line is JSON.

mod dataplane;
mod many;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["dataplane", runs] => dataplane::run(runs.parse()?),
        ["many", count, runs] => many::run(count.parse()?, runs.parse()?),
        _ => bail!("usage: failover dataplane RUNS | failover many COUNT RUNS"),
    }
}

/// Values by the name of what was measured.
#[derive(Default)]
struct Figures(Vec<(&'static str, Vec<f64>)>);

impl Figures {
    fn add(&mut self, name: &'static str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
    }

    /// A table, and the line for programs.
    fn tell(mut self) -> Result<()> {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        println!("{:<width$}  {:>9}  {:>9}  {:>9}  {:>4}", "", "median", "least", "most", "runs");
        let mut line = BTreeMap::new();
        for (name, values) in &mut self.0 {
            values.sort_by(f64::total_cmp);
            let (Some(least), Some(most)) = (values.first(), values.last()) else { continue };
            let median = values[values.len() / 2];
            println!("{name:<width$}  {median:>9.0}  {least:>9.0}  {most:>9.0}  {:>4}", values.len());
            line.insert(*name, serde_json::json!({"median": median, "most": most, "runs": values.len()}));
        }
        println!("{}", serde_json::to_string(&line)?);
        Ok(())
    }
}

/// Milliseconds from one moment to another; below 0 where the other came first.
fn ms(from: Instant, to: Instant) -> f64 {
    let ahead = to.checked_duration_since(from).map(|time| time.as_secs_f64() * 1000.0);
    ahead.unwrap_or_else(|| -from.duration_since(to).as_secs_f64() * 1000.0)
}

async fn client(kubeconfig: &std::path::Path) -> Result<kube::Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    kube::Client::try_from(config).context("a client of the API")
}
