//! Container images made from local files: the docker-archive format that `ctr images import` reads, without a registry.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A file of an image.
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a str,
    pub(crate) content: &'a [u8],
}

/// Writes an image with one layer of the given executables.
pub(crate) fn write(archive: &Path, reference: &str, entrypoint: &[&str], files: &[Entry<'_>]) -> Result<()> {
    let mut layer = Tar::default();
    for (folder, mode) in [("bin/", 0o755), ("tmp/", 0o1777), ("etc/", 0o755), ("run/", 0o755)] {
        layer.add(folder, mode, b'5', &[])?;
    }
    layer.add("etc/passwd", 0o644, b'0', b"root:x:0:0:root:/:/bin/sh\n")?;
    for file in files {
        layer.add(file.path.trim_start_matches('/'), 0o755, b'0', file.content)?;
    }
    let layer = layer.finish();
    let layer_digest = hex::encode(Sha256::digest(&layer));
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    }))?;
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let layer_name = format!("{layer_digest}/layer.tar");
    let manifest = serde_json::to_vec(
        &json!([{"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}]),
    )?;
    let mut image = Tar::default();
    image.add(&config_name, 0o644, b'0', &config)?;
    image.add(&layer_name, 0o644, b'0', &layer)?;
    image.add("manifest.json", 0o644, b'0', &manifest)?;
    std::fs::write(archive, image.finish()).with_context(|| format!("cannot write {}", archive.display()))
}

/// The ustar format, POSIX.1-1988: 512-byte headers, contents padded to 512 bytes, two empty blocks at the end.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn add(&mut self, path: &str, mode: u32, kind: u8, content: &[u8]) -> Result<()> {
        anyhow::ensure!(path.len() <= 100, "{path} is too long for a ustar header");
        let mut header = [0u8; 512];
        let mut field = |offset: usize, text: &str| {
            header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        };
        field(0, path);
        field(100, &format!("{mode:07o}\0"));
        field(108, "0000000\0");
        field(116, "0000000\0");
        field(124, &format!("{:011o}\0", content.len()));
        field(136, "00000000000\0");
        // The checksum is made with itself as blanks.
        field(148, "        ");
        field(257, "ustar\0");
        field(263, "00");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
