//! Watches: the changes of a collection as they happen.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use apimachinery::ApiError;
use bytes::Bytes;
use futures::{
    future::BoxFuture,
    task::{ArcWake, AtomicWaker, waker_ref},
};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Call, fairness,
    list::{self, Filter},
    watch_socket,
};
use crate::{
    crd::conversion,
    encode::{self, FrameKind},
    http::{
        Body,
        negotiate::{self, Format},
        query::{ListOptions, VersionMatch},
        respond, websocket,
    },
    registry::KindRef,
    server::Shared,
    store::{Event, EventKind, Expired, Stored, Watch},
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
pub(super) async fn watch(mut call: Call) -> Result<Response<Body>, ApiError> {
    let mut options = ListOptions::parse(&call.query)?;
    options.watch = true;
    let filter = Filter::new(&call, &options)?;
    let version = options.watch_version()?.unwrap_or_default();
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
    let mut initial: VecDeque<_> =
        conversion::seen_all(&call.shared.storage, &call.kind, initial).await?.into();
    if filter.by_seen {
        initial.retain(|seen| filter.shows(seen));
    }
    let seconds = match options.timeout_seconds {
        None | Some(0) => TIMEOUT_MIN_SECONDS + rand::random_range(0..TIMEOUT_MIN_SECONDS),
        Some(seconds) => u64::try_from(seconds).unwrap_or(0).min(TIMEOUT_MAX_SECONDS),
    };
    let now = Instant::now();
    let end = now + Duration::from_secs(seconds);
    let upgrade = call.upgrade.take().filter(|_| websocket::is_asked(&call.headers));
    let stream = Box::new(Stream {
        shared: Arc::clone(&call.shared),
        kind: call.kind.clone(),
        converts: conversion::is_asked(&call.kind),
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
        alarm: Arc::default(),
        counted: call.shared.metrics.watch_started(&call.kind, &call.path),
    });
    if let Some(upgrade) = upgrade {
        return Ok(watch_socket::tell(upgrade, &call, Frames::Told(stream)));
    }
    let mut response = Response::new(Frames::Told(stream).boxed_unsync());
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

/// The body of the answer, a frame for each event. Polled by hand: what one watcher does for an event, thousands do.
enum Frames {
    Told(Box<Stream>),
    /// A webhook is being asked for the object in the watcher's version.
    Converted(BoxFuture<'static, (Box<Stream>, Told)>),
    Ended,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let frame = loop {
            match this {
                Self::Ended => return Poll::Ready(None),
                Self::Converted(work) => {
                    let (stream, told) = ready!(work.as_mut().poll(context));
                    *this = Self::Told(stream);
                    match told {
                        Told::Frame(frame) => break Some(frame),
                        Told::Nothing => {}
                        Told::End => break None,
                    }
                }
                Self::Told(stream) => match ready!(stream.poll_next(context)) {
                    None => break None,
                    Some(Next::Frame(frame)) => break Some(frame.into()),
                    Some(Next::Added(stored)) if !stream.converts => {
                        break stream.own_frame(FrameKind::Added, &stored);
                    }
                    Some(Next::Added(stored)) => this.convert(FrameKind::Added, stored, None),
                    // Before anybody is asked, namespace, name and labels leave out what they can.
                    Some(Next::Event(event)) if stream.filter.by_seen => {
                        if stream.view(&event, |_| true).is_some() {
                            this.look(event);
                        }
                    }
                    Some(Next::Event(event)) => match stream.view(&event, |_| true) {
                        // The selectors leave it out.
                        None => {}
                        Some(view) if !stream.converts => break stream.tell(&view),
                        Some(view) => this.convert(view.event, Arc::clone(view.stored), view.left),
                    },
                },
            }
        };
        if frame.is_none() {
            *this = Self::Ended;
        }
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }
}

impl Frames {
    /// Asks for an object in the watcher's version.
    fn convert(&mut self, event: FrameKind, stored: Arc<Stored>, left: Option<u64>) {
        if let Self::Told(stream) = std::mem::replace(self, Self::Ended) {
            *self = Self::Converted(Box::pin(stream.convert(event, stored, left)));
        }
    }

    /// Asks for an event's objects in the watcher's version, whose fields tell whether the watcher sees them.
    fn look(&mut self, event: Arc<Event>) {
        if let Self::Told(stream) = std::mem::replace(self, Self::Ended) {
            *self = Self::Converted(Box::pin(stream.look(event)));
        }
    }
}

/// What comes of asking a webhook.
enum Told {
    Frame(Bytes),
    /// The selectors leave the event out.
    Nothing,
    End,
}

impl From<Option<Bytes>> for Told {
    fn from(frame: Option<Bytes>) -> Self {
        frame.map_or(Self::End, Self::Frame)
    }
}

/// What a watch has to tell.
enum Next {
    /// An object of the initial state.
    Added(Arc<Stored>),
    Event(Arc<Event>),
    Frame(Vec<u8>),
}

/// An event as a watcher sees it.
struct View<'a> {
    event: FrameKind,
    stored: &'a Arc<Stored>,
    /// The revision at which the object left the watcher's view.
    left: Option<u64>,
}

/// The state of one watch. It holds no lock and no buffer but the initial state. It stays where it is: a thousand watchers would move it
/// a thousand times for each event.
struct Stream {
    shared: Arc<Shared>,
    kind: KindRef,
    /// Objects are shown in a version that a webhook makes.
    converts: bool,
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
    /// Both last as long as the watch does, and are asked only when they have woken the alarm: to make them for each event, or to ask them,
    /// takes locks that all watchers share, and one who holds such a lock while another process takes his core holds up all.
    timer: Pin<Box<Sleep>>,
    drained: Pin<Box<WaitForCancellationFutureOwned>>,
    alarm: Arc<Alarm>,
    counted: crate::metrics::WatchGuard,
}

/// Wakes a watch's task, and remembers that it did.
#[derive(Default)]
struct Alarm {
    /// Those who wake it have been asked since it was woken.
    is_asked: AtomicBool,
    task: AtomicWaker,
}

impl ArcWake for Alarm {
    fn wake_by_ref(this: &Arc<Self>) {
        this.is_asked.store(false, Ordering::SeqCst);
        this.task.wake();
    }
}

impl Stream {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Next>> {
        if let Some(stored) = self.initial.pop_front() {
            return Poll::Ready(Some(Next::Added(stored)));
        }
        if let Some(revision) = self.initial_end.take() {
            return Poll::Ready(Some(Next::Frame(self.bookmark(revision, true))));
        }
        loop {
            let watch = match &mut self.source {
                None => return Poll::Ready(None),
                Some(Err(expired)) => {
                    let expired = *expired;
                    self.source = None;
                    return Poll::Ready(Some(Next::Frame(self.error(expired))));
                }
                Some(Ok(watch)) => watch,
            };
            // A stream of events that the filter drops must hide neither the end nor the bookmarks.
            let due = if self.bookmarks { self.next_bookmark.min(self.end) } else { self.end };
            let now = Instant::now();
            if now >= due {
                if now >= self.end {
                    return Poll::Ready(None);
                }
                let revision = watch.progress();
                // After the last one before the end, none is due any more.
                let next = first_bookmark(now, self.end);
                self.next_bookmark = if next > now { next } else { self.end + BOOKMARK_EVERY };
                return Poll::Ready(Some(Next::Frame(self.bookmark(revision, false))));
            }
            // First, since it is what comes most often. Nobody is kept by it for long: what is taken at a time ends.
            match watch.poll_next(context) {
                Poll::Ready(Some(Ok(event))) => return Poll::Ready(Some(Next::Event(event))),
                Poll::Ready(Some(Err(expired))) => self.source = Some(Err(expired)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    if ready!(self.poll_end(context, due)) {
                        return Poll::Ready(None);
                    }
                }
            }
        }
    }

    /// Waits for the time at which something is due, or the server's end: whether it is the latter.
    fn poll_end(&mut self, context: &Context<'_>, due: Instant) -> Poll<bool> {
        self.alarm.task.register(context.waker());
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        } else if self.alarm.is_asked.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        // Before they are asked: what wakes the alarm from here on has them asked again.
        self.alarm.is_asked.store(true, Ordering::SeqCst);
        let waker = waker_ref(&self.alarm);
        let mut context = Context::from_waker(&waker);
        if self.drained.as_mut().poll(&mut context).is_ready() {
            return Poll::Ready(true);
        }
        self.timer.as_mut().poll(&mut context).map(|()| false)
    }

    /// An event as seen through the selectors: an object that comes into view is added, one that leaves it is deleted.
    /// `shows` has the last word on each of the two states.
    fn view<'a>(&self, event: &'a Event, shows: impl Fn(&Arc<Stored>) -> bool) -> Option<View<'a>> {
        let sees = |stored: &Arc<Stored>| self.filter.matches(stored) && shows(stored);
        let seen_now = event.kind != EventKind::Deleted && sees(&event.object);
        let previous = event.previous.as_ref().filter(|previous| sees(previous));
        let of = |event, stored| View { event, stored, left: None };
        match (previous, seen_now) {
            (None, false) => None,
            (None, true) => Some(of(FrameKind::Added, &event.object)),
            (Some(_), true) => Some(of(FrameKind::Modified, &event.object)),
            (Some(_), false) if event.kind == EventKind::Deleted => {
                Some(of(FrameKind::Deleted, &event.object))
            }
            // The state that the watcher knew, with the revision at which it left.
            (Some(previous), false) => {
                Some(View { left: Some(event.revision), ..of(FrameKind::Deleted, previous) })
            }
        }
    }

    fn tell(&mut self, view: &View<'_>) -> Option<Bytes> {
        let Some(left) = view.left else { return self.frame(view.event, view.stored) };
        let mut value = self.kind.to_served(view.stored.value().ok()?);
        value["metadata"]["resourceVersion"] = left.to_string().into();
        Some(self.frame_of_value(view.event, value).into())
    }

    /// The same where a webhook makes what the watcher sees.
    async fn convert(
        mut self: Box<Self>,
        event: FrameKind,
        stored: Arc<Stored>,
        left: Option<u64>,
    ) -> (Box<Self>, Told) {
        let frame = match conversion::seen(&self.shared.storage, &self.kind, &stored).await {
            Ok(stored) => self.tell(&View { event, stored: &stored, left }),
            Err(error) => Some(self.fail(&error).into()),
        };
        (self, frame.into())
    }

    /// The same where the selectors ask for what a webhook makes.
    async fn look(mut self: Box<Self>, event: Arc<Event>) -> (Box<Self>, Told) {
        let states: Vec<_> = event.previous.iter().chain([&event.object]).cloned().collect();
        let seen = match conversion::seen_all(&self.shared.storage, &self.kind, states).await {
            Ok(seen) => seen,
            Err(error) => {
                let frame = self.fail(&error);
                return (self, Told::Frame(frame.into()));
            }
        };
        let of = |stored: &Arc<Stored>| seen.iter().find(|seen| seen.revision == stored.revision);
        let view = self.view(&event, |stored| of(stored).is_some_and(|seen| self.filter.shows(seen)));
        let Some(view) = view else { return (self, Told::Nothing) };
        let shown = of(view.stored).unwrap_or(view.stored);
        let (event, left) = (view.event, view.left);
        let frame = self.tell(&View { event, stored: shown, left });
        (self, frame.into())
    }

    /// The frame of an event, which others may get, too.
    fn frame(&mut self, event: FrameKind, stored: &Stored) -> Option<Bytes> {
        if self.format.view == negotiate::View::Table {
            return self.own_frame(event, stored);
        }
        let frame = self.shared.frames.frame(&self.kind, self.format, event, stored);
        self.sent(stored, frame)
    }

    /// The frame of an object of the initial state: others begin elsewhere.
    fn own_frame(&mut self, event: FrameKind, stored: &Stored) -> Option<Bytes> {
        let first = std::mem::replace(&mut self.first, false);
        let frame = encode::frame(&self.kind, self.format, event, stored, Timestamp::now(), first);
        self.sent(stored, frame.map(Into::into))
    }

    fn sent(&self, stored: &Stored, frame: Result<Bytes, ApiError>) -> Option<Bytes> {
        self.counted.event_sent();
        fairness::event_sent();
        frame
            .inspect_err(|error| {
                tracing::error!(key = %stored.key, %error, "a stored object cannot be read; ending the watch");
            })
            .ok()
    }

    fn frame_of_value(&mut self, event: FrameKind, value: Value) -> Vec<u8> {
        self.counted.event_sent();
        fairness::event_sent();
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
