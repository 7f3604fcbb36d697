//! Time limits for requests to a Kubernetes API, so that an API server that hangs does not block its clients for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use kube::Client;
use kube::client::Body;
use tokio::time::{Instant, Sleep};
use tower::BoxError;

/// For a write, which an API server takes in milliseconds.
const WRITE: Duration = Duration::from_secs(10);
/// For a read, which may be a list of everything. Until the head of the answer, and from one part of the body to the next: all of it may take
/// longer.
const READ: Duration = Duration::from_secs(60);

/// An API server has not answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer to {method} {path} within {} s", limit.as_secs())]
pub struct Elapsed {
    method: Method,
    path: String,
    limit: Duration,
}

/// An API server has stopped in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("an answer stopped for {} s", .0.as_secs())]
struct Stopped(Duration);

/// A client whose requests fail where `client` would wait for ever: after 10 seconds for writes, a minute for reads. Watches have no
/// deadline, since to be silent is their business; their server ends them.
pub fn with_deadlines(client: Client) -> Client {
    bounded(client, limit)
}

fn bounded(client: Client, limit: fn(&Request<Body>) -> Option<Duration>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, limit) = (client.clone(), limit(&request));
        async move {
            let Some(limit) = limit else {
                let answer = client.send(request).await?;
                return Ok::<Response<Timed>, BoxError>(answer.map(|body| Timed { body, limit: None }));
            };
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            match tokio::time::timeout(limit, client.send(request)).await {
                Ok(answer) => {
                    let wait = Box::pin(tokio::time::sleep(limit));
                    Ok(answer?.map(|body| Timed { body, limit: Some((limit, wait)) }))
                }
                Err(_) => Err(Elapsed { method, path, limit }.into()),
            }
        }
    });
    Client::new(service, namespace)
}

fn limit(request: &Request<Body>) -> Option<Duration> {
    let watches = |query: &str| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
    match *request.method() {
        Method::GET if request.uri().query().is_some_and(watches) => None,
        Method::GET | Method::HEAD => Some(READ),
        _ => Some(WRITE),
    }
}

/// A body whose parts come in time.
struct Timed {
    body: Body,
    limit: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match (Pin::new(&mut this.body).poll_frame(context), &mut this.limit) {
            (Poll::Ready(frame), limit) => {
                if let Some((limit, wait)) = limit {
                    wait.as_mut().reset(Instant::now() + *limit);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            (Poll::Pending, Some((limit, wait))) => {
                wait.as_mut().poll(context).map(|()| Some(Err(Stopped(*limit).into())))
            }
            (Poll::Pending, None) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, uri: &str) -> Option<Duration> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().unwrap_or_default();
        limit(&request)
    }

    #[test]
    fn everything_but_a_watch_has_a_deadline() {
        assert_eq!(of(Method::GET, "/api/v1/secrets?limit=500&watch=true"), None);
        assert_eq!(of(Method::GET, "/api/v1/secrets?labelSelector=watch"), Some(READ));
        assert_eq!(of(Method::PATCH, "/api/v1/namespaces/a/secrets/b?fieldManager=f"), Some(WRITE));
    }

    #[tokio::test]
    async fn a_server_that_hangs_fails_a_request() -> Result<(), BoxError> {
        let silent =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
        let client = bounded(Client::new(silent, "demo"), |_| Some(Duration::from_millis(1)));
        assert_eq!(client.default_namespace(), "demo");
        let request = Request::delete("/api/v1/namespaces/a/secrets/b").body(Vec::new())?;
        let Err(kube::Error::Service(error)) = client.request_text(request).await else {
            return Err("it was answered".into());
        };
        assert_eq!(error.to_string(), "no answer to DELETE /api/v1/namespaces/a/secrets/b within 0 s");
        Ok(())
    }

    /// Begins, and never goes on.
    struct Halting(bool);

    impl HttpBody for Halting {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{\"items\": [")))))
        }
    }

    #[tokio::test]
    async fn a_server_that_stops_in_the_middle_of_a_list_fails_the_read() -> Result<(), BoxError> {
        let halting =
            tower::service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Halting(false))) });
        let client = bounded(Client::new(halting, "demo"), |_| Some(Duration::from_millis(1)));
        let request = Request::get("/api/v1/secrets").body(Vec::new())?;
        let answer = tokio::time::timeout(Duration::from_secs(10), client.request_text(request)).await?;
        assert!(answer.is_err(), "{answer:?}");
        Ok(())
    }
}
