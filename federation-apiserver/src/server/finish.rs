//! What becomes of a request whose client goes away.
//!
//! Whoever drops the answer of a read wants it no more. A write is done to its end once it has begun, as in kube-apiserver: parts of it may
//! be stored already, and the audit log tells how it ended.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use http::Response;
use tokio::runtime;

use crate::{
    audit::{Record, Stage},
    http::Body,
};

/// nginx's code for it: HTTP has none, since nobody is there to read it.
const CLIENT_LEFT: u16 = 499;

/// How far a request has come, for whoever has to end it.
#[derive(Default)]
pub(super) struct Progress {
    /// It changes something, and nothing but the store is between it and that.
    writes: AtomicBool,
    /// The audit log's record, once it is known whether there is one.
    pub(super) record: OnceLock<Arc<Record>>,
}

impl Progress {
    /// From here on the request is done to its end, whoever waits for it.
    pub(super) fn begin(&self) {
        self.writes.store(true, Ordering::Relaxed);
    }
}

/// A request on its way to its answer.
pub struct Finishing {
    /// Nothing once it is answered.
    inner: Option<BoxFuture<'static, Response<Body>>>,
    progress: Arc<Progress>,
}

impl Finishing {
    pub(super) fn new(inner: BoxFuture<'static, Response<Body>>, progress: Arc<Progress>) -> Self {
        Self { inner: Some(inner), progress }
    }
}

impl Future for Finishing {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = &mut self.inner else { return Poll::Pending };
        let response = ready!(inner.as_mut().poll(context));
        self.inner = None;
        Poll::Ready(Ok(response))
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if self.progress.writes.load(Ordering::Relaxed)
            && let Ok(runtime) = runtime::Handle::try_current()
        {
            let _detached = runtime.spawn(inner);
            return;
        }
        if let Some(record) = self.progress.record.get() {
            record.ended_with(CLIENT_LEFT, "the client went away before it was answered");
            record.write_detached(Stage::ResponseComplete);
        }
    }
}
