//! Rust files that no `mod` names: they lie among the sources of a crate and are never compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Folders of a crate in which every Rust file is to be compiled.
const FOLDERS: &[&str] = &["src", "tests"];

/// The files below `crates`' folders that cannot be reached from `roots`, where compiling begins, by `mod` or `include!`. `sources` are all files
/// by path, with their text.
pub(super) fn find(
    crates: &BTreeSet<PathBuf>,
    roots: &BTreeSet<PathBuf>,
    sources: &BTreeMap<PathBuf, String>,
) -> Vec<PathBuf> {
    let mut reached = BTreeSet::new();
    for root in roots {
        reach(root, root.parent().unwrap_or_else(|| Path::new("")), sources, &mut reached);
    }
    let ours = |path: &Path| {
        crates.iter().any(|folder| {
            let first = path.strip_prefix(folder).ok().and_then(|rest| rest.components().next());
            first.is_some_and(|first| FOLDERS.iter().any(|known| first.as_os_str() == *known))
        })
    };
    sources.keys().filter(|path| ours(path) && !reached.contains(*path)).cloned().collect()
}

/// Notes a file, and those that it names: its modules are in `folder`.
fn reach(file: &Path, folder: &Path, sources: &BTreeMap<PathBuf, String>, reached: &mut BTreeSet<PathBuf>) {
    let Some(text) = sources.get(file) else { return };
    if !reached.insert(file.to_owned()) {
        return;
    }
    let beside = file.parent().unwrap_or_else(|| Path::new(""));
    // Modules written out in the file that a line is within, with the indentation at which each ends.
    let mut within: Vec<(usize, &str)> = Vec::new();
    let mut elsewhere = None;
    for line in text.lines() {
        let rest = line.trim_start();
        let indentation = line.len() - rest.len();
        if rest.starts_with('}') && within.last().is_some_and(|(end, _)| *end == indentation) {
            within.pop();
        }
        for included in quoted(rest, "include!(\"") {
            reach(&plain(&beside.join(included)), beside, sources, reached);
        }
        if let Some(path) = quoted(rest, "#[path = \"").next() {
            elsewhere = Some(path);
        }
        let Some(declared) = module(rest) else { continue };
        if let Some(name) = declared.strip_suffix(" {") {
            within.push((indentation, name));
        } else if let Some(name) = declared.strip_suffix(';') {
            if let Some(path) = elsewhere.take() {
                let path = plain(&beside.join(path));
                reach(&path, path.parent().unwrap_or_else(|| Path::new("")), sources, reached);
                continue;
            }
            let name = name.strip_prefix("r#").unwrap_or(name);
            let outer = within.iter().fold(folder.to_owned(), |folder, (_, name)| folder.join(name));
            let inner = outer.join(name);
            reach(&inner.with_extension("rs"), &inner, sources, reached);
            reach(&inner.join("mod.rs"), &inner, sources, reached);
        }
    }
}

/// What follows `mod` on a line: `name;`, or `name {`.
fn module(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1,
        Some(rest) => rest,
        None => line,
    };
    let declared = line.trim_start().strip_prefix("mod ")?;
    Some(declared.split("//").next().unwrap_or_default().trim_end())
}

/// The texts that stand between `before` and the next quote.
fn quoted<'a>(line: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    line.split(before).skip(1).filter_map(|rest| rest.split('"').next())
}

/// A path without steps up.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for step in path.components() {
        match step {
            Component::CurDir => {}
            Component::ParentDir => _ = plain.pop(),
            step => plain.push(step),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strays(files: &[(&str, &str)]) -> Vec<String> {
        let sources = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        let roots = paths(&["a/src/lib.rs", "a/src/bin/tool.rs", "a/tests/it.rs", "a/build.rs"]);
        let found = find(&paths(&["a"]), &roots, &sources);
        found.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn files_that_a_module_names_are_none() {
        let found = strays(&[
            ("a/src/lib.rs", "mod one;\npub(crate) mod two; // why\n#[cfg(test)]\nmod tests;\n"),
            ("a/src/one.rs", "pub mod inner;\n"),
            ("a/src/one/inner.rs", ""),
            ("a/src/two/mod.rs", "pub(in crate::two) mod below;\nmod r#type;\n"),
            ("a/src/two/below.rs", ""),
            ("a/src/two/type.rs", ""),
            (
                "a/src/tests.rs",
                "mod outer {\n    mod inner {\n        mod deep;\n    }\n    mod shallow;\n}\nmod last;\n",
            ),
            ("a/src/tests/outer/inner/deep.rs", ""),
            ("a/src/tests/outer/shallow.rs", ""),
            ("a/src/tests/last.rs", ""),
            ("a/src/bin/tool.rs", "#[path = \"../odd/place.rs\"]\nmod place;\ninclude!(\"part.rs\");\n"),
            ("a/src/odd/place.rs", "mod next;\n"),
            ("a/src/odd/next.rs", ""),
            ("a/src/bin/part.rs", ""),
            ("a/tests/it.rs", "mod helper;\n"),
            ("a/tests/helper/mod.rs", ""),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn files_that_none_names_are_told() {
        let found = strays(&[
            ("a/src/lib.rs", "// mod spoken;\nmod one;\nuse crate::two;\n"),
            ("a/src/spoken.rs", ""),
            ("a/src/one.rs", "mod inner;\n"),
            ("a/src/inner.rs", ""),
            ("a/src/one/inner.rs", ""),
            ("a/src/two.rs", "mod one;\n"),
            ("a/src/one/copy.rs", ""),
            ("a/tests/it.rs", "mod helper;\n"),
            ("a/tests/it/other.rs", ""),
            ("a/tests/helper.rs", ""),
            ("a/data/sample.rs", ""),
            ("elsewhere/tool.rs", ""),
        ]);
        let expected =
            ["a/src/inner.rs", "a/src/one/copy.rs", "a/src/spoken.rs", "a/src/two.rs", "a/tests/it/other.rs"];
        assert_eq!(found, expected);
    }
}
