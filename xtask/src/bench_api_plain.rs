//! A connection of the benchmark's client that does no more than it must: HTTP/1.1 over TLS, of which only the ends of answers are looked for.
//!
//! The client shares the machine's two cores with the servers, so whatever it does takes part in each figure. A library that reads every header
//! and hands bodies from task to task took as long for an event as federation-apiserver does to send one.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use federation_runtime::tls;
use memchr::memmem;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::bench_api_client::Target;

/// Bytes that are taken from TLS at a time: one record.
const READ_BYTES: usize = 16 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";
/// The last chunk. JSON is without carriage returns, so nothing else ends like that.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
/// The empty encoding and content type that end an object's envelope, and the end of the event's chunk.
const PROTOBUF_END: &[u8] = b"\x1a\0\"\0\r\n";

pub(crate) struct Plain {
    stream: TlsStream<TcpStream>,
    host: String,
    /// What has come of the present answer.
    heard: Vec<u8>,
}

impl Plain {
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let config = tls::client(Some(&target.identity), &target.ca_pem, &["http/1.1"])?;
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let stream =
            TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, stream).await?;
        Ok(Self { stream, host: target.address.clone(), heard: Vec::with_capacity(READ_BYTES) })
    }

    async fn send(&mut self, method: &str, path: &str, accept: Media, kind: &str, body: &[u8]) -> Result<()> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: bench/1\r\naccept: {}\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.host,
            accept.name(),
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.stream.write_all(&request).await?;
        Ok(self.stream.flush().await?)
    }

    /// Takes what comes next.
    async fn hear(&mut self) -> Result<()> {
        self.heard.reserve(READ_BYTES);
        ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "the server ended the connection");
        Ok(())
    }

    /// Waits for the head of the answer, which must be a success: where its body begins.
    async fn head(&mut self) -> Result<usize> {
        self.heard.clear();
        loop {
            self.hear().await?;
            if let Some(end) = memmem::find(&self.heard, HEAD_END) {
                ensure!(self.heard.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&self.heard));
                return Ok(end + HEAD_END.len());
            }
        }
    }

    /// A request, and its answer to the end.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<()> {
        self.send(method, path, Media::Json, kind, body).await?;
        let start = self.head().await.with_context(|| format!("{method} {path}"))?;
        let length = content_length(self.heard.get(..start).unwrap_or_default())?;
        while !length
            .map_or_else(|| self.heard.ends_with(LAST_CHUNK), |length| self.heard.len() >= start + length)
        {
            self.hear().await?;
        }
        Ok(())
    }

    /// Begins a watch.
    pub(crate) async fn watch(&mut self, path: &str, accept: Media) -> Result<()> {
        self.send("GET", path, accept, "application/json", &[]).await?;
        let start = self.head().await.with_context(|| format!("GET {path}"))?;
        self.heard.drain(..start);
        Ok(())
    }

    /// Waits until events are whole, and says how many.
    pub(crate) async fn events(&mut self, media: Media) -> Result<usize> {
        loop {
            let count = media.ended_events(&self.heard);
            // The end of one may come without its beginning, and a line break without what stands before it.
            let known = self.heard.len().saturating_sub(media.overlap());
            self.heard.drain(..known);
            if count > 0 {
                return Ok(count);
            }
            self.hear().await?;
        }
    }
}

/// In which form events are asked for.
#[derive(Clone, Copy)]
pub(crate) enum Media {
    Json,
    Protobuf,
}

impl Media {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    fn ended_events(self, bytes: &[u8]) -> usize {
        match self {
            // Events end with a line break. So do the lines between chunks, but behind a carriage return.
            Self::Json => memchr::memchr_iter(b'\n', bytes)
                .filter(|at| {
                    at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(|byte| *byte != b'\r')
                })
                .count(),
            Self::Protobuf => memmem::find_iter(bytes, PROTOBUF_END).count(),
        }
    }

    /// Bytes at the end of what has come that may be part of what ends an event.
    fn overlap(self) -> usize {
        match self {
            Self::Json => 1,
            Self::Protobuf => PROTOBUF_END.len() - 1,
        }
    }
}

/// How long the head says that its body is; nothing if it comes in chunks.
fn content_length(head: &[u8]) -> Result<Option<usize>> {
    for line in std::str::from_utf8(head)?.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(Some(value.trim().parse()?));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(None);
        }
    }
    bail!("an answer without an end: {}", String::from_utf8_lossy(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_of_chunks_end_no_events() {
        let ended_events = |bytes: &[u8]| Media::Json.ended_events(bytes);
        assert_eq!(ended_events(b"1a\r\n{\"type\":\"ADDED\"}\n\r\n1a\r\n{}\n"), 2);
        // What was the last byte is the first one now.
        assert_eq!(ended_events(b"}\n\r\n"), 1);
        assert_eq!(ended_events(b"\r\n3\r\n"), 0);
        assert_eq!(ended_events(b"\n\r\n3\r\n"), 0, "it was counted when it came");
    }

    #[test]
    fn protobuf_events_end_with_their_chunk() {
        assert_eq!(Media::Protobuf.ended_events(b"5\r\nk\x1a\0\"\0\r\n5\r\nk\x1a\0\"\0\r\n"), 2);
        assert_eq!(Media::Protobuf.ended_events(b"\r\n5\r\nk\x1a\0\"\0"), 0);
    }

    #[test]
    fn a_body_has_a_length_or_chunks() {
        let of = |head: &[u8]| content_length(head).ok();
        assert_eq!(of(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"), Some(Some(12)));
        assert_eq!(of(b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n"), Some(None));
        assert_eq!(of(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }
}
