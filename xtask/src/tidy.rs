//! `cargo xtask tidy`: checks the rules of docs/ARCHITECTURE.md that neither the compiler nor clippy checks.

mod strays;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
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
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

/// A library, a program, a test.
#[derive(Deserialize)]
struct Target {
    /// Where compiling it begins.
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for what is linked in.
    kind: Option<String>,
}

/// Checks all rules and lists every violation.
pub(crate) fn run() -> Result<()> {
    let metadata = metadata()?;
    let crates = linked_in(&metadata);
    let mut wrong = imports(&crates);
    let text = fs::read_to_string(ARCHITECTURE).with_context(|| format!("cannot read {ARCHITECTURE}"))?;
    wrong.extend(untrue(&crates, &text));
    wrong.extend(sources(&metadata)?);
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

fn metadata() -> Result<Metadata> {
    let text = output("cargo", &["metadata", "--no-deps", "--format-version", "1"])?;
    Ok(serde_json::from_str(&text)?)
}

/// Crate → what it links in, not counting what its tests need.
fn linked_in(metadata: &Metadata) -> BTreeMap<String, Vec<String>> {
    let linked = |package: &Package| {
        let linked = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
        (package.name.clone(), linked.map(|dependency| dependency.name.clone()).collect())
    };
    metadata.packages.iter().map(linked).collect()
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

fn sources(metadata: &Metadata) -> Result<Vec<String>> {
    // Spelled so that this file does not hold it.
    let ignored = concat!("#[", "ignore");
    let (mut wrong, mut texts) = (Vec::new(), BTreeMap::new());
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
        texts.insert(PathBuf::from(path), text);
    }
    // Cargo tells whole paths, git those from here.
    let here = std::env::current_dir()?;
    let from_here = |path: &Path| path.strip_prefix(&here).unwrap_or(path).to_owned();
    let packages = &metadata.packages;
    let folders = packages.iter().filter_map(|package| package.manifest_path.parent());
    let roots =
        packages.iter().flat_map(|package| &package.targets).map(|target| from_here(&target.src_path));
    let strays = strays::find(&folders.map(from_here).collect(), &roots.collect(), &texts);
    wrong
        .extend(strays.iter().map(|path| format!("{} is never compiled: no `mod` names it", path.display())));
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
