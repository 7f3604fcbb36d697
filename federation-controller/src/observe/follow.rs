//! Takes in what a watch tells, object by object, whatever fails of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use federation_runtime::endpoints::Health;
use federation_runtime::tasks;

use super::watch::{Change, Watch, identity};

/// How failures are counted.
const PART: &str = "watches";

/// Bounds of the pause before a collection is listed anew for an object that could not be taken in. It may fail each time, and a list may be long.
const AFTER_PANIC: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Objects that could not be taken in, and when they are told again.
struct Untaken {
    objects: HashSet<String>,
    again: Option<Instant>,
    pause: Duration,
}

impl Default for Untaken {
    fn default() -> Self {
        Self { objects: HashSet::new(), again: None, pause: AFTER_PANIC.0 }
    }
}

impl Untaken {
    fn failed(&mut self, object: String) {
        self.objects.insert(object);
        if self.again.is_none() {
            self.again = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(AFTER_PANIC.1);
        }
    }

    fn taken(&mut self, object: &str) {
        if self.objects.remove(object) && self.objects.is_empty() {
            *self = Self::default();
        }
    }

    /// Returns when they are to be told again: never if there are none.
    async fn wait(&self) {
        match self.again {
            Some(again) => tokio::time::sleep_until(again).await,
            None => std::future::pending().await,
        }
    }
}

/// Does something when it is dropped, by whatever.
struct AtTheEnd<D: FnMut()>(D);

impl<D: FnMut()> Drop for AtTheEnd<D> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Watch {
    /// Has `take` take in what is told, until the shutdown. If it panics at an object, that object is told again after a pause, and the others
    /// go on. If the reader panics, the view has holes until everything was told anew: what `take` does of a [`Change::Broken`], it does at the
    /// call.
    pub(crate) fn follow<F: Future<Output = ()> + Send>(
        self,
        readiness: Health,
        take: impl Fn(Change) -> F + Send + Sync + 'static,
    ) {
        let shutdown = self.shutdown.clone();
        let (watch, take) = (Arc::new(Mutex::new(self)), Arc::new(take));
        let start = move || {
            let (watch, take) = (watch.clone(), take.clone());
            async move {
                let mut watch = watch.lock().await;
                watch.begin();
                // At once, and not when it is started anew: meanwhile nothing may be removed.
                let _broken = AtTheEnd(|| drop(take(Change::Broken)));
                let mut untaken = Untaken::default();
                loop {
                    let change = tokio::select! {
                        biased;
                        () = untaken.wait() => {
                            untaken.again = None;
                            watch.begin();
                            continue;
                        }
                        change = watch.next() => change,
                    };
                    let Some(change) = change else { return };
                    let object = match &change {
                        Change::Present(object) | Change::Gone(object) => identity(object),
                        _ => {
                            take(change).await;
                            continue;
                        }
                    };
                    match tasks::caught(PART, async { take(change).await }).await {
                        Ok(()) => untaken.taken(&object),
                        Err(panicked) => {
                            tracing::error!(path = watch.path, object, %panicked, "an object could not be taken in: again soon");
                            watch.keep_known();
                            take(Change::Untaken(object.clone())).await;
                            untaken.failed(object);
                        }
                    }
                }
            }
        };
        tokio::spawn(tasks::supervise(PART, readiness, shutdown, start));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use federation_runtime::shutdown::Shutdown;

    use super::*;
    use crate::observe::watch::tests::{CLUSTERS, UID, api, list_of};

    const UNTAKEN: &str = r#"Untaken("/japan")"#;

    /// A watch that is followed by one who panics at an object so many times. What it was told, in short.
    fn followed(
        lists: Vec<Value>,
        bad: (&'static str, usize),
    ) -> (mpsc::UnboundedReceiver<String>, Health, Shutdown) {
        let (told, heard) = mpsc::unbounded_channel();
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let watch = Watch::new(api(lists), CLUSTERS.into(), 1, shutdown.clone());
        let left = AtomicUsize::new(bad.1);
        watch.follow(health.clone(), move |change| {
            let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
            let word = match change {
                Change::Present(object) => format!("+{}", name(&object)),
                Change::Gone(object) => format!("-{}", name(&object)),
                other => format!("{other:?}"),
            };
            let fails =
                word == bad.0 && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
            told.send(word).unwrap();
            async move { assert!(!fails, "a change that cannot be taken in") }
        });
        (heard, health, shutdown)
    }

    /// An API that answers each list with the next one. Its first watch fails; the others say nothing.
    fn breaking(lists: Vec<Value>) -> Client {
        let (lists, watches) = (parking_lot::Mutex::new(lists.into_iter()), AtomicUsize::new(0));
        let state = Arc::new((lists, watches));
        let answer = move |request: http::Request<Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let state = state.clone();
            async move {
                let text = if !is_watch {
                    state.0.lock().next().unwrap().to_string()
                } else if state.1.fetch_add(1, Relaxed) == 0 {
                    let status =
                        json!({"kind": "Status", "status": "Failure", "code": 500, "message": "it fails"});
                    json!({"type": "ERROR", "object": status}).to_string() + "\n"
                } else {
                    std::future::pending().await
                };
                Ok::<_, tower::BoxError>(http::Response::new(Body::from(text.into_bytes())))
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    async fn next(heard: &mut mpsc::UnboundedReceiver<String>, count: usize) -> Vec<String> {
        let mut words = Vec::new();
        while words.len() < count {
            let word = heard.recv().await.unwrap();
            if word != "Alive" {
                words.push(word);
            }
        }
        words
    }

    fn clusters(names: &[&str]) -> Value {
        let clusters: Vec<Value> =
            names.iter().map(|name| json!({"metadata": {"name": name, "uid": UID}})).collect();
        list_of(clusters.into())
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_panics_stops_no_other_and_is_told_again_until_it_is_taken_in() {
        let all = || clusters(&["japan", "taiwan"]);
        let (mut heard, health, shutdown) = followed(vec![all(), all(), all()], ("+japan", 2));
        let fails = ["+japan", UNTAKEN, "+taiwan", "Synced"];
        assert_eq!(next(&mut heard, 4).await, fails);
        assert!(health.is_ready(), "the others are watched on");
        assert_eq!(next(&mut heard, 4).await, fails);
        assert_eq!(next(&mut heard, 3).await, ["+japan", "+taiwan", "Synced"]);
        shutdown.start();
        while heard.recv().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn objects_that_could_not_be_taken_in_are_told_of_again_when_the_view_has_broken_since() {
        let (told, mut heard) = mpsc::unbounded_channel();
        let shutdown = Shutdown::new();
        let lists = vec![clusters(&["japan"]), clusters(&["japan"])];
        let watch = Watch::new(breaking(lists), CLUSTERS.into(), 1, shutdown.clone());
        watch.follow(Health::new(), move |change| {
            let fails = matches!(change, Change::Present(_));
            if !fails {
                told.send(format!("{change:?}")).unwrap();
            }
            async move { assert!(!fails, "a change that cannot be taken in") }
        });
        let words = [UNTAKEN, "Synced", "Broken", UNTAKEN, "Synced"];
        assert_eq!(next(&mut heard, 5).await, words);
        shutdown.start();
        while heard.recv().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn that_an_object_is_gone_is_told_again_until_it_is_taken_in() {
        let lists = vec![clusters(&["japan", "taiwan"]), clusters(&["japan"]), clusters(&["japan"])];
        let (told, mut heard) = mpsc::unbounded_channel();
        let shutdown = Shutdown::new();
        let watch = Watch::new(api(lists), CLUSTERS.into(), 1, shutdown.clone());
        let gone = AtomicUsize::new(0);
        watch.follow(Health::new(), move |change| {
            // The first list is told again for japan, and the second for taiwan's end.
            let fails = match &change {
                Change::Present(object) if object["metadata"]["name"] == "japan" => gone.load(Relaxed) == 0,
                Change::Gone(_) => gone.load(Relaxed) == 1,
                _ => false,
            };
            match &change {
                Change::Gone(_) => told.send(format!("-{fails}")).unwrap(),
                Change::Synced => {
                    gone.fetch_add(1, Relaxed);
                }
                _ => {}
            }
            async move { assert!(!fails, "a change that cannot be taken in") }
        });
        assert_eq!(next(&mut heard, 2).await, ["-true", "-false"]);
        shutdown.start();
        while heard.recv().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_panic_at_more_than_an_object_the_view_is_broken_until_all_was_told_anew() {
        let all = || clusters(&["taiwan"]);
        let (mut heard, health, shutdown) = followed(vec![all(), all()], ("Synced", 1));
        let words = ["+taiwan", "Synced", "Broken", "+taiwan", "Synced"];
        assert_eq!(next(&mut heard, 5).await, words);
        while !health.is_ready() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        shutdown.start();
        while heard.recv().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn that_the_view_is_broken_is_told_when_it_breaks_and_not_when_it_is_read_again() {
        let (told, mut heard) = mpsc::unbounded_channel();
        let shutdown = Shutdown::new();
        let watch = Watch::new(api(vec![clusters(&["taiwan"])]), CLUSTERS.into(), 1, shutdown.clone());
        watch.follow(Health::new(), move |change| {
            let fails = matches!(change, Change::Synced);
            told.send(format!("{change:?}")).unwrap();
            // Nothing is started anew after this.
            if fails {
                shutdown.start();
            }
            async move { assert!(!fails, "a change that cannot be taken in") }
        });
        let mut words = Vec::new();
        while let Some(word) = heard.recv().await {
            words.push(word);
        }
        assert_eq!(words.last().map(String::as_str), Some("Broken"));
    }
}
