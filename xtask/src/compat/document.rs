//! docs/COMPATIBILITY.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::cases::Case;
use super::rules::Rules;

const HEAD: &str = "\
# Compatibility with kube-apiserver

Made by `cargo xtask compat --write`; `cargo xtask test` fails if it is not up to date.

The same requests go to a real kube-apiserver 1.20.2 with etcd, the newest whose sources Debian carries, and to federation-apiserver, which
follows Kubernetes 1.36 (`/version`), with the published schemas of 1.37. Answers are freed of uids, times, resource versions and generated
names, and compared whole: status code, headers that clients look at, bodies, watch streams. What differs stands below, by rule and with its reason. Anything else that differs, and
any rule that nothing needs any more, fails the command.
";

/// The page. Counts of places are left out: they would change with each case.
pub(super) fn text(cases: &[Case], rules: &Rules, used: &[usize]) -> String {
    let mut text = HEAD.to_owned();
    let mut files: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in cases {
        let file = case.name.split('/').next().unwrap_or_default();
        let counts = files.entry(file).or_default();
        counts.0 += 1;
        counts.1 += case.steps.len();
    }
    text.push_str("\n## What is compared\n\n| `xtask/compat/` | cases | requests |\n| --- | ---: | ---: |\n");
    for (file, (cases, requests)) in &files {
        let _infallible = writeln!(text, "| {file} | {cases} | {requests} |");
    }
    text.push_str("\n## What differs\n\n| rule | why |\n| --- | --- |\n");
    for (rule, _) in rules.0.iter().zip(used).filter(|(_, used)| **used > 0) {
        let reason = rule.reason.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        let _infallible = writeln!(text, "| {} | {reason} |", rule.name);
    }
    text
}
