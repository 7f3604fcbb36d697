//! Watches: the changes of a collection as they happen.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use apimachinery::ApiError;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Call,
    list::{self, Filter},
};
use crate::{
    crd::conversion,
    encode::{self, FrameKind},
    http::{
        Body, body,
        negotiate::Format,
        query::{ListOptions, VersionMatch},
        respond,
    },
    registry::KindRef,
    store::{Event, EventKind, Expired, Storage, Stored, Watch},
};

/// Time between bookmarks, as kube-apiserver's.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A last bookmark comes so long before the time-out.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// A watch lasts no longer, whatever was asked for: the clock does not reach everything that 64 bits can say.
const TIMEOUT_MAX_SECONDS: u64 = 24 * 3600;
/// `--min-request-timeout`: watches that name no time-out last between one and two times as long.
const TIMEOUT_MIN_SECONDS: u64 = 1800;

/// Starts a watch.
pub(super) async fn watch(call: Call) -> Result<Response<Body>, ApiError> {
    let mut options = ListOptions::parse(&call.query)?;
    options.watch = true;
    let filter = Filter::new(&call, &options)?;
    let version = options.resource_version.unwrap_or_default();
    let initial_events = options.send_initial_events;
    let with_state = initial_events.unwrap_or(version == 0);
    let snapshot = if initial_events.is_some() && options.version_match == Some(VersionMatch::NotOlderThan) {
        list::fresh(&call, version).await?
    } else {
        call.shared.storage.snapshot()
    };
    let from = if with_state || version == 0 { snapshot.revision() } else { version };
    // A version that was never written comes from a store that is gone: such a client must list anew, or it would wait
    // in silence until this store has caught up.
    let source = if from > snapshot.revision() {
        Err(Expired { asked: from, oldest: snapshot.revision() })
    } else {
        call.shared.storage.watch(&call.kind.storage(), from)
    };
    let over = options.timeout_seconds.is_some_and(|seconds| seconds < 0);
    let initial: Vec<_> =
        if with_state && !over { filter.range(&call, &snapshot, None).collect() } else { Vec::new() };
    let initial = conversion::seen_all(&call.shared.storage, &call.kind, initial).await?.into();
    let seconds = match options.timeout_seconds {
        None | Some(0) => TIMEOUT_MIN_SECONDS + rand::random_range(0..TIMEOUT_MIN_SECONDS),
        Some(seconds) => u64::try_from(seconds).unwrap_or(0).min(TIMEOUT_MAX_SECONDS),
    };
    let now = Instant::now();
    let end = now + Duration::from_secs(seconds);
    let stream = Box::new(Stream {
        storage: call.shared.storage.clone(),
        kind: call.kind.clone(),
        format: call.format,
        filter,
        initial,
        initial_end: (initial_events == Some(true) && options.bookmarks && !over).then_some(from),
        source: Some(source),
        bookmarks: options.bookmarks,
        next_bookmark: first_bookmark(now, end),
        end,
        first: true,
        timer: Box::pin(sleep_until(end)),
        drained: Box::pin(call.shared.draining.clone().cancelled_owned()),
        _counted: call.shared.metrics.watch_started(),
    });
    let frames = futures::stream::unfold(stream, |mut stream| async {
        let frame = stream.next().await?;
        Some((Bytes::from(frame), stream))
    });
    let mut response = Response::new(body::stream(frames));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(call.format.content_type(true)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    respond::warn(headers, &call.warnings);
    Ok(response)
}

fn first_bookmark(now: Instant, end: Instant) -> Instant {
    let before_end = end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(now).max(now);
    (now + BOOKMARK_EVERY).min(before_end)
}

/// The state of one watch. It holds no lock and no buffer but the initial state. It stays where it is: a thousand watchers would move it
/// a thousand times for each event.
struct Stream {
    storage: Storage,
    kind: KindRef,
    format: Format,
    filter: Filter,
    initial: VecDeque<Arc<Stored>>,
    /// The initial state ends with a bookmark of this revision.
    initial_end: Option<u64>,
    source: Option<Result<Watch, Expired>>,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    /// No frame has been sent yet.
    first: bool,
    /// Both last as long as the watch does: to make them for each event would cost each watcher two locks that all share.
    timer: Pin<Box<Sleep>>,
    drained: Pin<Box<WaitForCancellationFutureOwned>>,
    _counted: crate::metrics::Watching,
}

impl Stream {
    async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(stored) = self.initial.pop_front() {
            return self.frame(FrameKind::Added, &stored).await;
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.bookmark(revision, true));
        }
        loop {
            let watch = match self.source.as_mut()? {
                Ok(watch) => watch,
                Err(expired) => {
                    let expired = *expired;
                    self.source = None;
                    return Some(self.error(expired));
                }
            };
            // A stream of events that the filter drops must hide neither the end nor the bookmarks.
            let timer = if self.bookmarks { self.next_bookmark.min(self.end) } else { self.end };
            let next = if Instant::now() >= timer {
                None
            } else {
                if self.timer.deadline() != timer {
                    self.timer.as_mut().reset(timer);
                }
                tokio::select! {
                    biased;
                    // First, since it is what comes most often. Nobody is kept by it for long: what is taken at a time ends.
                    event = watch.next() => Some(event?),
                    () = &mut self.drained => return None,
                    () = &mut self.timer => None,
                }
            };
            match next {
                Some(Ok(event)) => {
                    if let Some(frame) = self.tell(&event).await {
                        return Some(frame);
                    }
                }
                Some(Err(expired)) => self.source = Some(Err(expired)),
                None => {
                    let now = Instant::now();
                    if now >= self.end {
                        return None;
                    }
                    let revision =
                        self.source.as_ref().and_then(|source| source.as_ref().ok()).map(Watch::progress)?;
                    // After the last one before the end, none is due any more.
                    let next = first_bookmark(now, self.end);
                    self.next_bookmark = if next > now { next } else { self.end + BOOKMARK_EVERY };
                    return Some(self.bookmark(revision, false));
                }
            }
        }
    }

    /// The frame of an event, as seen through the selectors: an object that comes into view is added, one that leaves it is
    /// deleted.
    async fn tell(&mut self, event: &Event) -> Option<Vec<u8>> {
        let seen_now = event.kind != EventKind::Deleted && self.filter.matches(&event.object);
        let seen_before = event.previous.as_ref().is_some_and(|previous| self.filter.matches(previous));
        match (seen_before, seen_now) {
            (false, false) => None,
            (false, true) => self.frame(FrameKind::Added, &event.object).await,
            (true, true) => self.frame(FrameKind::Modified, &event.object).await,
            (true, false) if event.kind == EventKind::Deleted => {
                self.frame(FrameKind::Deleted, &event.object).await
            }
            (true, false) => {
                // The state that the watcher knew, with the revision at which it left.
                let previous =
                    match conversion::seen(&self.storage, &self.kind, event.previous.as_ref()?).await {
                        Ok(previous) => previous,
                        Err(error) => return Some(self.fail(&error)),
                    };
                let mut value = self.kind.from_stored(previous.value().ok()?);
                value["metadata"]["resourceVersion"] = event.revision.to_string().into();
                Some(self.frame_of_value(FrameKind::Deleted, value))
            }
        }
    }

    async fn frame(&mut self, event: FrameKind, stored: &Arc<Stored>) -> Option<Vec<u8>> {
        let stored = match conversion::seen(&self.storage, &self.kind, stored).await {
            Ok(stored) => stored,
            Err(error) => return Some(self.fail(&error)),
        };
        let first = std::mem::replace(&mut self.first, false);
        match encode::frame(&self.kind, self.format, event, &stored, Timestamp::now(), first) {
            Ok(frame) => Some(frame),
            Err(error) => {
                tracing::error!(key = %stored.key, %error, "a stored object cannot be read; ending the watch");
                None
            }
        }
    }

    fn frame_of_value(&mut self, event: FrameKind, value: Value) -> Vec<u8> {
        let first = std::mem::replace(&mut self.first, false);
        encode::frame_of_value(&self.kind, self.format, event, value, Timestamp::now(), first)
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata});
        self.frame_of_value(FrameKind::Bookmark, object)
    }

    /// What cannot be converted ends the watch: what comes after it would make no sense without it.
    fn fail(&mut self, error: &ApiError) -> Vec<u8> {
        self.source = None;
        self.initial.clear();
        self.initial_end = None;
        self.frame_of_value(FrameKind::Error, ApiError::internal(&error.message).to_value())
    }

    fn error(&mut self, expired: Expired) -> Vec<u8> {
        let status = ApiError::too_old_resource_version(expired.asked, expired.oldest).to_value();
        self.frame_of_value(FrameKind::Error, status)
    }
}
