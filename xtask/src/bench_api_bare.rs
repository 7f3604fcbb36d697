//! What is under "write to event": the time that the system alone takes.
//!
//! A program that understands nothing takes as many bytes as a ConfigMap's create has, syncs a page to the disk, and sends as many bytes as the answer
//! and the events have: no TLS, no HTTP, no JSON, no access checks. No server that syncs before it answers can be faster over the same loopback.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bench_api_client::{PATIENCE, Seen, ms};

/// Bytes of a create, of its answer and of its event, as federation-apiserver sends and receives them, TLS included.
const REQUEST_BYTES: usize = 1225;
const ANSWER_BYTES: usize = 1697;
const EVENT_BYTES: usize = 1390;
/// Bytes that are written for a create, and the file that they are written to: it has its blocks already, as the store's has.
const PAGE_BYTES: usize = 4096;
const FILE_PAGES: u64 = 1024;
/// Events after which the server yields its core.
const AT_A_TIME: usize = 32;

/// Milliseconds from the start of a write to its event, of each event of each of so many watchers.
pub(crate) async fn events(directory: &Path, watchers: usize, writes: usize) -> Result<Vec<f64>> {
    let file = File::create(directory.join("bare"))?;
    for page in 0..FILE_PAGES {
        file.write_all_at(&[1; PAGE_BYTES], page * PAGE_BYTES as u64)?;
    }
    file.sync_all()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = std::thread::Builder::new()
        .name("bare-server".into())
        .spawn(move || serve(&listener, &file, watchers))?;
    let seen = Arc::new(Seen::by(watchers));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let seen = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut event = [0; EVENT_BYTES];
            while stream.read_exact(&mut event).await.is_ok() {
                seen.note(Instant::now());
            }
        });
    }
    let mut writer = tokio::net::TcpStream::connect(address).await?;
    writer.set_nodelay(true)?;
    let mut times = Vec::with_capacity(writes * watchers);
    for _ in 0..writes {
        let start = Instant::now();
        writer.write_all(&[1; REQUEST_BYTES]).await?;
        writer.read_exact(&mut [0; ANSWER_BYTES]).await?;
        tokio::time::timeout(PATIENCE, seen.all()).await.context("an event was lost")?;
        times.extend(seen.take().into_iter().map(|at| ms(at.duration_since(start))));
    }
    // The server ends when nobody writes any more.
    drop(writer);
    tokio::task::spawn_blocking(move || server.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the bare server panicked"))??;
    Ok(times)
}

/// Serves watchers, who connect first, and one writer.
fn serve(listener: &TcpListener, file: &File, watchers: usize) -> std::io::Result<()> {
    let accept = || -> std::io::Result<TcpStream> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let watching = (0..watchers).map(|_| accept()).collect::<std::io::Result<Vec<_>>>()?;
    let mut writing = accept()?;
    let mut request = [0; REQUEST_BYTES];
    for number in 0.. {
        if writing.read_exact(&mut request).is_err() {
            break;
        }
        file.write_all_at(&[2; PAGE_BYTES], (number % FILE_PAGES) * PAGE_BYTES as u64)?;
        file.sync_data()?;
        writing.write_all(&[1; ANSWER_BYTES])?;
        for some in watching.chunks(AT_A_TIME) {
            for mut stream in some {
                stream.write_all(&[1; EVENT_BYTES])?;
            }
            std::thread::yield_now();
        }
    }
    Ok(())
}
