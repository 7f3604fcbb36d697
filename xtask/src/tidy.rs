//! `cargo xtask tidy`: checks the rules of docs/ARCHITECTURE.md that neither the compiler nor clippy checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Crates that decide, and therefore do no input or output.
const PURE: &[&str] = &["apimachinery", "federation-core", "hub-protocol", "kube-cel", "kube-schema"];
/// What does input and output, or pulls it in.
const IMPURE: &[&str] = &["axum", "hyper", "kube", "reqwest", "tokio", "tonic"];
/// The parts: they know each other's protocols, never each other.
const PARTS: &[&str] = &["dns-lb", "federation-apiserver", "federation-controller", "member-agent"];
/// Who may know parts: assemblies.
const ASSEMBLIES: &[&str] = &["fedctl", "fuzz", "sandbox", "simulation"];
/// Holds the table of what imports what.
const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";
/// What the table says of a crate that imports no other.
const NOTHING: &str = "nothing of ours";
/// Lines that one source file may have.
const LONGEST: usize = 900;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for what is linked in.
    kind: Option<String>,
}

/// Checks all rules and lists every violation.
pub(crate) fn run() -> Result<()> {
    let crates = linked_in()?;
    let mut wrong = imports(&crates);
    let text = fs::read_to_string(ARCHITECTURE).with_context(|| format!("cannot read {ARCHITECTURE}"))?;
    wrong.extend(untrue(&crates, &text));
    wrong.extend(sources()?);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{} things are not tidy:\n  {}", wrong.len(), wrong.join("\n  "))
}

fn output(program: &str, words: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(words).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Crate → what it links in, not counting what its tests need.
fn linked_in() -> Result<BTreeMap<String, Vec<String>>> {
    let text = output("cargo", &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: Metadata = serde_json::from_str(&text)?;
    let linked = |package: Package| {
        let linked = package.dependencies.into_iter().filter(|dependency| dependency.kind.is_none());
        (package.name, linked.map(|dependency| dependency.name).collect())
    };
    Ok(metadata.packages.into_iter().map(linked).collect())
}

fn imports(crates: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, linked) in crates {
        let name = name.as_str();
        for dependency in linked.iter().map(String::as_str) {
            if PURE.contains(&name) && IMPURE.contains(&dependency) {
                wrong.push(format!("{name} depends on {dependency}: it decides, and must not do I/O"));
            }
            let part = PARTS.contains(&dependency);
            if part && !ASSEMBLIES.contains(&name) {
                wrong.push(format!(
                    "{name} depends on {dependency}: only {} assemble parts",
                    ASSEMBLIES.join(" and ")
                ));
            }
        }
    }
    wrong
}

/// Where the table of imports says other crates of ours than those that are linked in.
fn untrue(crates: &BTreeMap<String, Vec<String>>, text: &str) -> Vec<String> {
    let table: BTreeMap<&str, BTreeSet<&str>> = text.lines().filter_map(row).collect();
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let mut wrong = Vec::new();
    for (name, linked) in crates {
        let ours = linked.iter().filter(|dependency| crates.contains_key(*dependency));
        let ours: BTreeSet<&str> = ours.map(|dependency| short(dependency)).collect();
        match table.get(short(name)) {
            None => wrong.push(format!("{ARCHITECTURE} has no row for {name}")),
            Some(said) if *said != ours => wrong.push(format!(
                "{name} imports [{}], and {ARCHITECTURE} says [{}]",
                list(&ours),
                list(said)
            )),
            Some(_) => {}
        }
    }
    wrong
}

/// The crate that a line of the table is about, and what it says that this imports.
fn row(line: &str) -> Option<(&str, BTreeSet<&str>)> {
    let mut cells = line.split('|').skip(1).map(str::trim);
    let folder = cells.next()?.strip_prefix('`')?.strip_suffix("/`")?;
    let imports = cells.nth(1)?.split(", ").filter(|name| *name != NOTHING);
    Some((short(folder), imports.map(short).collect()))
}

/// A crate's name as the table writes it.
fn short(name: &str) -> &str {
    name.strip_prefix("federation-").unwrap_or(name)
}

fn sources() -> Result<Vec<String>> {
    // Spelled so that this file does not hold it.
    let ignored = concat!("#[", "ignore");
    let mut wrong = Vec::new();
    let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])?;
    for path in listed.lines() {
        // A file that was removed, but is still in the index.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{path} has {lines} lines, more than {LONGEST}: one noun for each file"));
        }
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with(ignored) {
                wrong.push(format!("{path}:{}: tests are run or removed, not ignored", number + 1));
            }
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, dependency: &str) -> usize {
        imports(&BTreeMap::from([(name.to_owned(), vec![dependency.to_owned()])])).len()
    }

    #[test]
    fn what_decides_does_no_io() {
        assert_eq!(check("federation-core", "tokio"), 1);
        assert_eq!(check("federation-core", "serde"), 0);
        assert_eq!(check("member-agent", "tokio"), 0);
    }

    #[test]
    fn parts_do_not_import_parts() {
        assert_eq!(check("member-agent", "dns-lb"), 1);
        assert_eq!(check("federation-runtime", "dns-lb"), 1);
        assert_eq!(check("fedctl", "dns-lb"), 0);
    }

    #[test]
    fn the_table_says_what_is_imported() {
        let crates = |linked: &[&str]| {
            let linked: Vec<String> = linked.iter().map(|name| (*name).to_owned()).collect();
            BTreeMap::from([("apimachinery".to_owned(), Vec::new()), ("federation-core".to_owned(), linked)])
        };
        let table = "| folder | is | imports |\n|---|---|---|\n| `apimachinery/` | meaning | nothing of ours |\n\
                     | `federation-core/` | every decision | apimachinery |\n";
        assert_eq!(untrue(&crates(&["apimachinery", "serde"]), table), [] as [String; 0]);
        assert_eq!(
            untrue(&crates(&["serde"]), table),
            ["federation-core imports [], and docs/ARCHITECTURE.md says [apimachinery]"]
        );
        assert_eq!(untrue(&crates(&["apimachinery"]), "no table").len(), 2);
    }
}
