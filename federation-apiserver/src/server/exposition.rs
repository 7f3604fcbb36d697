//! `/metrics` in the form that is asked for: OpenMetrics, or the older text of Prometheus, which kube-apiserver's clients read.

use federation_runtime::endpoints::METRICS_MEDIA_TYPE;
use http::HeaderMap;

use crate::http::negotiate::accept;

/// Prometheus' text, version 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media type, and the metrics, which come as OpenMetrics.
pub(super) fn encode(headers: &HeaderMap, metrics: String) -> (&'static str, String) {
    if accept(headers).iter().any(|range| range.kind == "application/openmetrics-text") {
        (METRICS_MEDIA_TYPE, metrics)
    } else {
        (TEXT, text(&metrics))
    }
}

/// The older form: counters are described by their whole name, units and the end by nothing.
fn text(metrics: &str) -> String {
    let counter = |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    let counters: std::collections::HashSet<String> = metrics.lines().filter_map(counter).collect();
    let mut text = String::with_capacity(metrics.len());
    for line in metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|head| {
            let (name, rest) = line.strip_prefix(head)?.split_once(' ')?;
            counters.contains(name).then(|| format!("{head}{name}_total {rest}"))
        });
        text.push_str(described.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_their_whole_name() {
        let metrics = "# HELP a As.\n# TYPE a counter\na_total{x=\"y\"} 3\n# HELP b_seconds Bs.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 1\n# EOF\n";
        let expect = "# HELP a_total As.\n# TYPE a_total counter\na_total{x=\"y\"} 3\n# HELP b_seconds Bs.\n# TYPE b_seconds gauge\nb_seconds 1\n";
        assert_eq!(text(metrics), expect);
    }
}
