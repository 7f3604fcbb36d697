//! Requests whose client disconnects.
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
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::Response;
use tokio::runtime;

use crate::{
    audit::{AuditContext, Stage},
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
    pub(super) record: OnceLock<Arc<AuditContext>>,
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
        // Taken out while it is polled: one that panics is not to be done to its end.
        let Some(mut inner) = self.inner.take() else { return Poll::Pending };
        let polled = inner.as_mut().poll(context);
        if polled.is_pending() {
            self.inner = Some(inner);
        }
        polled.map(Ok)
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

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::{FutureExt as _, future::poll_fn};

    use super::*;
    use crate::http::body;

    #[tokio::test]
    async fn what_panics_is_not_asked_again() {
        let (progress, polls) = (Arc::new(Progress::default()), Arc::new(AtomicUsize::new(0)));
        progress.begin();
        let counted = Arc::clone(&polls);
        let broken = poll_fn(move |_| -> Poll<Response<Body>> {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("it is broken");
        });
        let finishing = Finishing::new(Box::pin(broken), progress);
        assert!(std::panic::AssertUnwindSafe(finishing).catch_unwind().await.is_err());
        tokio::task::yield_now().await;
        assert_eq!(polls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_write_is_done_to_its_end_and_a_read_is_not() {
        for (writes, expect) in [(true, 1), (false, 0)] {
            let (progress, done) = (Arc::new(Progress::default()), Arc::new(AtomicUsize::new(0)));
            if writes {
                progress.begin();
            }
            let counted = Arc::clone(&done);
            let work = async move {
                tokio::task::yield_now().await;
                counted.fetch_add(1, Ordering::SeqCst);
                Response::new(body::empty())
            };
            let mut finishing = Finishing::new(Box::pin(work), progress);
            assert!((&mut finishing).now_or_never().is_none());
            drop(finishing);
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            assert_eq!(done.load(Ordering::SeqCst), expect);
        }
    }
}
