//! The report as text.

use std::fmt::Write as _;

use super::Report;

/// For terminals and mail.
pub fn text(report: &Report) -> String {
    let drill = report.object();
    let status = drill.status.clone().unwrap_or_default();
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("Drill:       {}", drill.name()));
    line(format!(
        "Lost:        {} ({:?}, {})",
        drill.spec.lose.join(", "),
        drill.spec.scope,
        drill.spec.app.key()
    ));
    line(format!("Result:      {:?}: {}", status.phase, status.message));
    if let Some(time) = &status.start_time {
        line(format!("Started:     {:.3}", time.0));
    }
    if let Some(replicas) = &status.replicas {
        line(format!(
            "Replicas:    {} wanted, {} ready before, {} ready in the clusters that are left",
            replicas.wanted, replicas.ready_before, replicas.ready_left
        ));
    }
    for finding in &status.preflight {
        line(format!("Pre-flight:  {}: {}", finding.rule, finding.message));
    }
    if !status.hypothesis.is_empty() {
        line("\nHypothesis".into());
    }
    for term in &status.hypothesis {
        let held = match term.held {
            Some(true) => "held",
            Some(false) => "did not hold",
            None => "open",
        };
        line(format!("  {:<16} {held}: {}", term.term, term.measured));
    }
    if !status.stages.is_empty() {
        line("\nStages, milliseconds after the loss".into());
    }
    for stage in &status.stages {
        let name = format!("{} {}", stage.name, stage.subject);
        line(
            format!("  {:>8}  {:<28} {}", stage.after_ms, name.trim_end(), stage.message)
                .trim_end()
                .to_owned(),
        );
    }
    for (vantage, users) in &status.users {
        line(format!("\nUsers at {vantage}"));
        line(format!("  pages        {} asked for, {} failed", users.requests, users.failed));
        line(format!(
            "  duration     {} ms median, {} ms p95, {} ms p99, {} ms at worst",
            users.p50_ms, users.p95_ms, users.p99_ms, users.max_ms
        ));
        for (cluster, pages) in &users.clusters {
            line(format!("  from         {cluster}: {pages}"));
        }
        for (why, count) in &users.errors {
            line(format!("  {count:>6} times {why}"));
        }
    }
    line("\nCourse".into());
    for entry in &status.log {
        let time = entry.time.as_ref().map(|time| format!("{:.3}", time.0)).unwrap_or_default();
        line(format!("  {time}  {}: {}", entry.rule, entry.message));
    }
    if report.trend.len() > 1 {
        line("\nTrend".into());
    }
    for point in report.trend.iter().filter(|_| report.trend.len() > 1) {
        let ms = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        line(format!(
            "  {}  {:?}: recovered {}, DNS {}, {} of {} pages failed ({})",
            point.start,
            point.phase,
            ms(point.recovered_ms),
            ms(point.dns_ms),
            point.failed,
            point.requests,
            point.name
        ));
    }
    if let Some(signature) = &report.signature {
        line(format!("\nSigned by {} ({})", signature.key, signature.algorithm));
    }
    out
}
