//! Events from the federation on their way into the member: a bounded queue, and a few requests at once.

use std::time::Duration;

use federation_runtime::tasks;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::link::beside::PART;
use crate::member::{Failure, Member, Reason};
use crate::metrics::Metrics;

/// Events that wait to be posted: some 2 MiB. A member that takes none for so long has no use for more.
const WAITING: usize = 1024;
/// Events being posted at once.
const AT_ONCE: usize = 8;
/// How often an Event is tried, a second apart.
const TRIES: usize = 3;

/// The queue. What runs behind it ends with the tasks that it was started among.
pub(crate) struct Posts {
    queue: mpsc::Sender<(String, Value)>,
    metrics: Metrics,
}

impl Posts {
    pub(crate) fn start(member: Member, metrics: Metrics, tasks: &mut JoinSet<()>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tasks.spawn(run(member, waiting));
        Self { queue, metrics }
    }

    /// Posts an Event to that collection when there is room for it. What finds no place in the queue is dropped and counted: Events are told
    /// as far as possible, and the session must not wait for them.
    pub(crate) fn add(&self, path: String, event: Value) {
        if self.queue.try_send((path, event)).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

async fn run(member: Member, mut waiting: mpsc::Receiver<(String, Value)>) {
    // Dropped with this task, they end with it.
    let mut posts = JoinSet::new();
    while let Some((path, event)) = waiting.recv().await {
        while posts.try_join_next().is_some() {}
        if posts.len() >= AT_ONCE {
            posts.join_next().await;
        }
        let post = post(member.clone(), path, event);
        posts.spawn(async move {
            if let Err(panicked) = tasks::caught(PART, post).await {
                tracing::error!(%panicked, "an Event from the federation was not posted");
            }
        });
    }
}

/// Posts an Event once: an Event of that name that is there already is this one.
async fn post(member: Member, path: String, event: Value) {
    for _ in 0..TRIES {
        match member.create(path.clone(), &event).await {
            Ok(_) | Err(Failure::Transient { reason: Reason::Conflict, .. }) => return,
            Err(Failure::Transient { .. }) => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(failure) => {
                tracing::warn!(?failure, "an Event from the federation was refused by the member");
                return;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;

    /// A member that answers a request when it is allowed to, and says how many have come.
    fn member(allowed: Arc<Semaphore>, asked: Arc<AtomicUsize>) -> Member {
        let answer = move |_: http::Request<Body>| {
            let (allowed, asked) = (allowed.clone(), asked.clone());
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                allowed.acquire().await.unwrap().forget();
                let body =
                    json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "e"}}).to_string();
                Ok::<_, tower::BoxError>(http::Response::new(Body::from(body.into_bytes())))
            }
        };
        Member::new(Client::new(tower::service_fn(answer), "default"))
    }

    async fn until(condition: impl Fn() -> bool) {
        let met = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), met).await.unwrap();
    }

    #[tokio::test]
    async fn a_burst_of_events_waits_in_a_queue_that_ends_and_what_finds_no_place_is_counted() {
        let (allowed, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (metrics, mut tasks) = (Metrics::default(), JoinSet::new());
        let posts = Posts::start(member(allowed.clone(), asked.clone()), metrics.clone(), &mut tasks);
        let path = || "/api/v1/namespaces/shop/events".to_owned();
        for _ in 0..AT_ONCE {
            posts.add(path(), json!({}));
        }
        until(|| asked.load(Ordering::SeqCst) == AT_ONCE).await;
        // One more is taken out of the queue, and waits for one of those.
        for _ in 0..2 * WAITING {
            posts.add(path(), json!({}));
        }
        let dropped = usize::try_from(metrics.events_dropped.get()).unwrap();
        assert!((WAITING - 1..=WAITING).contains(&dropped), "{dropped}");
        assert_eq!(tasks.len(), 1, "however many there are");
        allowed.add_permits(4 * WAITING);
        until(|| asked.load(Ordering::SeqCst) == AT_ONCE + 2 * WAITING - dropped).await;
    }

    #[tokio::test]
    async fn what_is_being_posted_ends_with_the_tasks_of_the_session() {
        let (allowed, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let posts = Posts::start(member(allowed.clone(), asked.clone()), Metrics::default(), &mut tasks);
        posts.add("/api/v1/namespaces/shop/events".into(), json!({}));
        until(|| asked.load(Ordering::SeqCst) == 1).await;
        drop(tasks);
        // Nobody holds the member's side any more.
        until(|| Arc::strong_count(&asked) == 1).await;
    }

    #[tokio::test]
    async fn an_event_whose_posting_panics_is_counted_and_the_next_ones_are_posted() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let answer = move |_: http::Request<Body>| {
            let asked = counted.clone();
            async move {
                assert!(asked.fetch_add(1, Ordering::SeqCst) > 0, "posting fails");
                Ok::<_, tower::BoxError>(http::Response::new(Body::from(b"{}".to_vec())))
            }
        };
        let mut tasks = JoinSet::new();
        let member = Member::new(Client::new(tower::service_fn(answer), "default"));
        let posts = Posts::start(member, Metrics::default(), &mut tasks);
        for _ in 0..2 {
            posts.add("/api/v1/namespaces/shop/events".into(), json!({}));
        }
        until(|| asked.load(Ordering::SeqCst) == 2).await;
        let line = format!("federation_task_failures_total{{task=\"{PART}\"}} 1");
        assert!(federation_runtime::endpoints::Metrics::new().encode().lines().any(|found| found == line));
    }
}
