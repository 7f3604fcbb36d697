//! What the story came to.

use std::fmt;
use std::time::{Duration, Instant};

use super::users::Fetch;

/// One chapter, as the users saw it.
#[derive(Clone, Debug)]
pub(crate) struct Chapter {
    pub(crate) title: &'static str,
    pub(crate) requests: usize,
    pub(crate) failures: usize,
    pub(crate) taiwan: usize,
    pub(crate) tokyo: usize,
    pub(crate) slowest: Duration,
}

impl Chapter {
    /// From the fetches of one stretch of time.
    pub(crate) fn of(title: &'static str, fetches: &[Fetch]) -> Self {
        let from =
            |cluster: &str| fetches.iter().filter(|fetch| fetch.outcome.as_deref() == Ok(cluster)).count();
        Self {
            title,
            requests: fetches.len(),
            failures: fetches.iter().filter(|fetch| fetch.outcome.is_err()).count(),
            taiwan: from("taiwan"),
            tokyo: from("tokyo"),
            slowest: fetches.iter().map(|fetch| fetch.took).max().unwrap_or_default(),
        }
    }
}

/// Measured times of one failover. Each is from the moment of the failure, or of the drain's start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    pub(crate) detect: Option<Duration>,
    pub(crate) dns: Option<Duration>,
    /// The other cluster's API server has taken what it is to run now.
    pub(crate) applied: Option<Duration>,
    pub(crate) replicas: Option<Duration>,
    pub(crate) users: Option<Duration>,
}

/// The last failure after `start`: when users were well again.
pub(crate) fn last_failure(fetches: &[Fetch], start: Instant) -> Option<Duration> {
    fetches
        .iter()
        .filter(|fetch| fetch.outcome.is_err())
        .map(|fetch| fetch.at + fetch.took)
        .max()
        .and_then(|at| at.checked_duration_since(start))
}

/// The whole story.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) drain: Times,
    pub(crate) kill: Times,
    /// What did not hold; empty: the story held.
    pub(crate) broken: Vec<String>,
    pub(crate) total: Duration,
}

impl Report {
    /// How the demo ends.
    ///
    /// # Errors
    /// When something did not hold.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.broken.is_empty(), "{} of the story's promises did not hold", self.broken.len());
        Ok(())
    }

    /// The figures for programs: seconds, `null` where there is none.
    pub(crate) fn figures(&self) -> serde_json::Value {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let times = |times: &Times| {
            serde_json::json!({
                "verdict_s": seconds(times.detect), "dns_s": seconds(times.dns),
                "applied_s": seconds(times.applied), "replicas_s": seconds(times.replicas), "users_s": seconds(times.users),
            })
        };
        let chapters: serde_json::Map<String, serde_json::Value> = self
            .chapters
            .iter()
            .map(|chapter| {
                let figures = serde_json::json!({"requests": chapter.requests, "failures": chapter.failures});
                (chapter.title.to_owned(), figures)
            })
            .collect();
        serde_json::json!({
            "drain": times(&self.drain), "kill": times(&self.kill), "chapters": chapters,
            "total_s": self.total.as_secs_f64(), "broken": self.broken,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header([
            "CHAPTER",
            "REQUESTS",
            "FAILURES",
            "FROM TAIWAN",
            "FROM TOKYO",
            "SLOWEST",
        ]);
        for chapter in &self.chapters {
            table.add_row([
                chapter.title.to_owned(),
                chapter.requests.to_string(),
                chapter.failures.to_string(),
                chapter.taiwan.to_string(),
                chapter.tokyo.to_string(),
                format!("{} ms", chapter.slowest.as_millis()),
            ]);
        }
        writeln!(f, "{table}\n")?;
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header([
            "TIME TO",
            "VERDICT",
            "CHANGED DNS ANSWER",
            "READY REPLICAS",
            "LAST FAILED REQUEST",
        ]);
        for (title, times) in [("planned drain", &self.drain), ("taiwan killed", &self.kill)] {
            table.add_row([
                title.to_owned(),
                seconds(times.detect),
                seconds(times.dns),
                seconds(times.replicas),
                seconds(times.users),
            ]);
        }
        writeln!(f, "{table}\n")?;
        for broken in &self.broken {
            writeln!(f, "BROKEN: {broken}")?;
        }
        let verdict = if self.broken.is_empty() { "The story held" } else { "The story did not hold" };
        write!(f, "{verdict}, in {:.1} s.", self.total.as_secs_f64())
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{:.2} s", time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_did_not_hold_is_an_error() {
        let mut report = Report::default();
        assert!(report.verdict().is_ok());
        report.broken.push("users still failed".into());
        assert!(report.verdict().is_err());
    }
}
