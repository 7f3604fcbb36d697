//! The report as one self-contained HTML file. The data is embedded, so that the file can be verified.

use std::fmt::Write as _;

use crate::api::{DrillStage, DrillUsers, FailoverDrillStatus};

use super::Report;

/// Size of the plot, in its own units.
const WIDTH: i64 = 960;
const LEFT: i64 = 60;
const BARS: i64 = 160;
const LABELS: i64 = 110;
/// Marks the data.
const OPEN: &str = "<script type=\"application/json\" id=\"report\">";
const CLOSE: &str = "</script>";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c1e21;background:#fff}\
table{border-collapse:collapse;margin:.5rem 0}td,th{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid #ddd;vertical-align:top}\
.ok{color:#1a7f37}.bad{color:#b42318}svg{width:100%;height:auto}h2{margin-top:2rem}code{font-size:.9em}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#15181c}td,th{border-color:#333}.ok{color:#4ac26b}.bad{color:#ff7b72}}";

/// The report that an HTML file made by [`html`] holds.
pub fn embedded(page: &str) -> Option<Report> {
    let (_, rest) = page.split_once(OPEN)?;
    let (data, _) = rest.split_once(CLOSE)?;
    serde_json::from_str(data).ok()
}

/// A page. The same report makes the same page, octet by octet.
pub fn html(report: &Report) -> String {
    let drill = report.object();
    let status = drill.status.clone().unwrap_or_default();
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let mut put = |text: &str| out.push_str(text);
    put("<meta name=\"viewport\" content=\"width=device-width\">");
    put(&format!("<title>Drill {}</title><style>{STYLE}</style></head>\n<body>\n", escaped(drill.name())));
    let class = if status.phase == crate::api::DrillPhase::Passed { "ok" } else { "bad" };
    put(&format!(
        "<h1>Drill {}</h1>\n<p><b class=\"{class}\">{:?}</b>: {}</p>\n<p>{} lost, scope {:?}, for {}; {}</p>\n",
        escaped(drill.name()),
        status.phase,
        escaped(&status.message),
        escaped(&drill.spec.lose.join(", ")),
        drill.spec.scope,
        escaped(&drill.spec.app.key()),
        status.start_time.as_ref().map(|time| format!("{:.3}", time.0)).unwrap_or_default()
    ));
    put(&hypothesis(&status));
    for (vantage, users) in &status.users {
        put(&format!("<h2>Users at {}</h2>\n", escaped(vantage)));
        put(&plot(users, &status.stages));
        put(&figures(users));
    }
    put(&table(
        "Stages",
        &["after", "stage", ""],
        status.stages.iter().map(|stage| {
            let name = format!("{} {}", stage.name, stage.subject);
            vec![format!("{} ms", stage.after_ms), name, stage.message.clone()]
        }),
    ));
    put(&table(
        "Course",
        &["time", "rule", ""],
        status.log.iter().map(|entry| {
            let time = entry.time.as_ref().map(|time| format!("{:.3}", time.0)).unwrap_or_default();
            vec![time, entry.rule.clone(), entry.message.clone()]
        }),
    ));
    put(&trend(report));
    if let Some(signature) = &report.signature {
        put(&format!(
            "<p>Signed by the federation's authority <code>{}</code>; <code>fedctl drill report --verify FILE</code> checks it.</p>\n",
            escaped(&signature.key)
        ));
    }
    // No text of the data can end the element.
    let data = serde_json::to_string(report).unwrap_or_default().replace('<', "\\u003c");
    put(&format!("{OPEN}{data}{CLOSE}\n</body></html>\n"));
    out
}

fn hypothesis(status: &FailoverDrillStatus) -> String {
    table(
        "Hypothesis",
        &["expected", "measured", ""],
        status.hypothesis.iter().map(|term| {
            let held = match term.held {
                Some(true) => "held",
                Some(false) => "did not hold",
                None => "open",
            };
            vec![term.term.clone(), term.measured.clone(), held.to_owned()]
        }),
    )
}

fn figures(users: &DrillUsers) -> String {
    let rows = [
        ("pages", format!("{} asked for, {} failed", users.requests, users.failed)),
        (
            "duration",
            format!(
                "{} ms median, {} ms p95, {} ms p99, {} ms at worst",
                users.p50_ms, users.p95_ms, users.p99_ms, users.max_ms
            ),
        ),
    ];
    let served = users.clusters.iter().map(|(name, pages)| vec![format!("from {name}"), pages.to_string()]);
    let errors = users.errors.iter().map(|(why, count)| vec![why.clone(), format!("{count} times")]);
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]);
    table("", &[], rows.chain(served).chain(errors))
}

/// Pages over time: from clusters that are left, from lost ones, and failed; with a line for each stage.
fn plot(users: &DrillUsers, stages: &[DrillStage]) -> String {
    let last_stage = stages.iter().map(|stage| stage.after_ms).max().unwrap_or(0);
    let buckets = i64::try_from(users.buckets.len()).unwrap_or(0);
    let span = (buckets * users.bucket_ms).max(last_stage).max(1);
    let x = |after_ms: i64| LEFT + after_ms.clamp(0, span) * (WIDTH - LEFT - 10) / span;
    let sum = |bucket: &crate::api::DrillBucket| bucket.served + bucket.from_lost + bucket.failed;
    let most = users.buckets.iter().map(sum).max().unwrap_or(0).max(1);
    let height = |pages: u64| i64::try_from(pages * BARS as u64 / most).unwrap_or(0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"Pages over time\" font-size=\"11\">\n",
        LABELS + BARS + 50
    );
    let floor = LABELS + BARS;
    for (index, bucket) in users.buckets.iter().enumerate() {
        let begin = i64::try_from(index).unwrap_or(0) * users.bucket_ms;
        let (left, right) = (x(begin), x(begin + users.bucket_ms));
        let mut top = floor;
        for (pages, color) in
            [(bucket.served, "#2da44e"), (bucket.from_lost, "#d4a72c"), (bucket.failed, "#cf222e")]
        {
            // What there is can be seen, however little.
            let tall = height(pages).max(i64::from(pages > 0));
            top -= tall;
            if tall > 0 {
                let wide = (right - left - 1).max(1);
                // Writing to a String cannot fail.
                let _ = writeln!(
                    svg,
                    "<rect x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{tall}\" fill=\"{color}\"/>"
                );
            }
        }
    }
    for (index, stage) in stages.iter().enumerate() {
        let at = x(stage.after_ms);
        let row = 12 + i64::try_from(index % 8).unwrap_or(0) * 12;
        let anchor = if at > WIDTH - 200 { "end" } else { "start" };
        let name = format!("{} {}", stage.name, stage.subject);
        let _ = writeln!(
            svg,
            "<line x1=\"{at}\" x2=\"{at}\" y1=\"{row}\" y2=\"{floor}\" stroke=\"#8250df\" stroke-dasharray=\"2 3\"/>\
             <text x=\"{at}\" y=\"{row}\" text-anchor=\"{anchor}\" fill=\"#8250df\">{} {} ms</text>",
            escaped(name.trim_end()),
            stage.after_ms
        );
    }
    for tick in 0..=5 {
        let ms = span * tick / 5;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"currentColor\">{:.1} s</text>",
            x(ms),
            floor + 16,
            ms as f64 / 1000.0
        );
    }
    let _ = write!(
        svg,
        "<text x=\"4\" y=\"{}\" fill=\"currentColor\">{most} pages</text>\n\
         <text x=\"{LEFT}\" y=\"{}\"><tspan fill=\"#2da44e\">served by the clusters that are left</tspan> \
         <tspan fill=\"#d4a72c\">by lost ones</tspan> <tspan fill=\"#cf222e\">failed</tspan></text>\n</svg>\n",
        LABELS + 10,
        floor + 36
    );
    svg
}

fn trend(report: &Report) -> String {
    if report.trend.len() < 2 {
        return String::new();
    }
    let most = report.trend.iter().filter_map(|point| point.recovered_ms).max().unwrap_or(0).max(1);
    let count = i64::try_from(report.trend.len()).unwrap_or(1);
    let points: Vec<String> = report
        .trend
        .iter()
        .enumerate()
        .filter_map(|(index, point)| {
            let x = LEFT + i64::try_from(index).unwrap_or(0) * (WIDTH - LEFT - 10) / (count - 1).max(1);
            Some(format!("{x},{}", 90 - point.recovered_ms? * 80 / most))
        })
        .collect();
    let svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} 100\" role=\"img\" aria-label=\"Recovery over past drills\" font-size=\"11\">\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#8250df\" stroke-width=\"2\"/>\
         <text x=\"4\" y=\"14\" fill=\"currentColor\">{most} ms</text><text x=\"4\" y=\"94\" fill=\"currentColor\">0 ms</text></svg>\n",
        points.join(" ")
    );
    let ms = |ms: Option<i64>| ms.map_or_else(String::new, |ms| format!("{ms} ms"));
    let rows = report.trend.iter().map(|point| {
        vec![
            point.start.clone(),
            point.name.clone(),
            format!("{:?}", point.phase),
            ms(point.recovered_ms),
            ms(point.dns_ms),
            format!("{} of {}", point.failed, point.requests),
        ]
    });
    let rows = table("", &["start", "drill", "result", "recovered", "DNS", "failed"], rows);
    format!("<h2>Trend</h2>\n{svg}{rows}")
}

/// Nothing without rows.
fn table(title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let row = |tag: &str, cells: &[String]| {
        let mut row = String::from("<tr>");
        for cell in cells {
            row.push_str(&format!("<{tag}>{}</{tag}>", escaped(cell)));
        }
        row + "</tr>\n"
    };
    let mut body = String::new();
    for cells in rows {
        body.push_str(&row("td", &cells));
    }
    if body.is_empty() {
        return String::new();
    }
    let title = if title.is_empty() { String::new() } else { format!("<h2>{title}</h2>\n") };
    let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
    let head = if heads.is_empty() { String::new() } else { row("th", &heads) };
    format!("{title}<table>\n{head}{body}</table>\n")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}
