//! Tells a release from which commit it is built, if the sources are where they were checked out. It is read, not asked for: whoever builds
//! needs no git. Other builds are not told, or each commit would compile them anew.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let commit = root.filter(|_| release).and_then(|root| commit(root.parent()?));
    println!("cargo::rustc-env=FEDERATION_GIT_COMMIT={}", commit.unwrap_or_default());
}

/// What is checked out at a place.
fn commit(root: &Path) -> Option<String> {
    let place = root.join(".git");
    // In a second working tree it is a file that says where the rest is.
    let own = match fs::read_to_string(&place) {
        Ok(text) => root.join(text.strip_prefix("gitdir:")?.trim()),
        Err(_) => place,
    };
    let head = read(&own.join("HEAD"))?;
    let Some(branch) = head.strip_prefix("ref: ") else { return valid(&head) };
    let shared =
        fs::read_to_string(own.join("commondir")).map_or_else(|_| own.clone(), |to| own.join(to.trim()));
    if let Some(found) = read(&shared.join(branch)) {
        return valid(&found);
    }
    let packed = read(&shared.join("packed-refs"))?;
    let mut pairs = packed.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(_, name)| *name == branch).and_then(|(commit, _)| valid(commit))
}

/// The text of a file, which is looked at again when it changes.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}

fn valid(commit: &str) -> Option<String> {
    (commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| commit.to_owned())
}
