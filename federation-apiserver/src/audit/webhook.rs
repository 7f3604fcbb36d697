//! The audit webhook: events go in batches to another server (`plugin/pkg/audit/webhook` behind `plugin/pkg/audit/buffered`).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use federation_runtime::endpoints::Metrics;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, error::TrySendError},
    },
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    outbound::{self, KubeconfigError, Server},
    store::Storage,
};

/// A server that takes longer has not taken a batch.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Rounds of a batch, each pause half as long again as the one before (`DefaultRetryBackoffWithInitialDelay`).
const ROUNDS: u32 = 5;
/// Batches that are under way together: a slow server is not flooded, and what waits meanwhile is bounded by the queue.
const CONCURRENT: usize = 8;
/// What is still waiting when the server stops has this long to go out.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Flags for it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Kubeconfig of the audit webhook.
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// blocking: requests wait for the webhook. batch: events are sent in batches, and dropped and counted when the queue is full.
    #[arg(long, value_enum, default_value = "batch")]
    pub audit_webhook_mode: super::Mode,
    /// Maximum number of queued events.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = positive)]
    pub audit_webhook_batch_buffer_size: usize,
    /// Maximum number of events in a batch.
    #[arg(long, value_name = "NUMBER", default_value_t = 400, value_parser = positive)]
    pub audit_webhook_batch_max_size: usize,
    /// Maximum time that a batch waits to become full.
    #[arg(long, value_name = "DURATION", value_parser = apimachinery::go_duration::flag, default_value = "30s")]
    pub audit_webhook_batch_max_wait: Duration,
    /// Pause before a failed batch is sent again; each further pause is 1.5 times as long.
    #[arg(long, value_name = "DURATION", value_parser = apimachinery::go_duration::flag, default_value = "10s")]
    pub audit_webhook_initial_backoff: Duration,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            audit_webhook_config_file: None,
            audit_webhook_mode: super::Mode::Batch,
            audit_webhook_batch_buffer_size: 10_000,
            audit_webhook_batch_max_size: 400,
            audit_webhook_batch_max_wait: Duration::from_secs(30),
            audit_webhook_initial_backoff: Duration::from_secs(10),
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("want a number of at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// The webhook. Ends with [`close`](Self::close).
pub struct Webhook {
    sender: Arc<Sender>,
    mode: super::Mode,
    queue: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What sends batches.
struct Sender {
    server: Server,
    storage: Storage,
    backoff: Duration,
    lost: AtomicU64,
    errors: Counter,
}

impl Webhook {
    /// The webhook that flags name; none if they name none. It must be called on a runtime.
    ///
    /// # Errors
    /// When its kubeconfig cannot be used.
    pub fn from_flags(
        flags: &Flags,
        storage: &Storage,
        metrics: &Metrics,
    ) -> Result<Option<Self>, KubeconfigError> {
        let Some(path) = &flags.audit_webhook_config_file else { return Ok(None) };
        let errors = Counter::default();
        metrics.register(|registry| {
            registry.register(
                "apiserver_audit_error",
                "Audit events that the webhook did not get",
                errors.clone(),
            );
        });
        let sender = Arc::new(Sender {
            server: outbound::from_kubeconfig(path)?,
            storage: storage.clone(),
            backoff: flags.audit_webhook_initial_backoff,
            lost: AtomicU64::new(0),
            errors,
        });
        let (queue, lines) = mpsc::channel(flags.audit_webhook_batch_buffer_size);
        let batches = batches(
            Arc::clone(&sender),
            lines,
            flags.audit_webhook_batch_max_size,
            flags.audit_webhook_batch_max_wait,
        );
        Ok(Some(Self {
            sender,
            mode: flags.audit_webhook_mode,
            queue: Mutex::new(Some(queue)),
            task: Mutex::new(Some(tokio::spawn(batches))),
        }))
    }

    /// Hands an event over: in blocking mode until the server has it.
    pub(super) async fn send(&self, line: &[u8]) {
        match self.mode {
            super::Mode::Blocking => self.sender.deliver(&[line.to_vec()]).await,
            super::Mode::Batch => self.queue(line),
        }
    }

    /// The same from where nothing can wait.
    pub(super) fn send_detached(&self, line: &[u8]) {
        match self.mode {
            super::Mode::Blocking => {
                let (sender, line) = (Arc::clone(&self.sender), line.to_vec());
                tokio::spawn(async move { sender.deliver(&[line]).await });
            }
            super::Mode::Batch => self.queue(line),
        }
    }

    fn queue(&self, line: &[u8]) {
        let queue = self.queue.lock().clone();
        if let Err(why) = put(queue.as_ref(), line) {
            self.sender.lose(1, why);
        }
    }

    /// Events that the server did not get.
    pub fn lost(&self) -> u64 {
        self.sender.lost.load(Ordering::Relaxed)
    }

    /// Sends what waits, and ends.
    pub async fn close(&self) {
        drop(self.queue.lock().take());
        let task = self.task.lock().take();
        if let Some(task) = task
            && timeout(FLUSH_TIMEOUT, task).await.is_err()
        {
            tracing::error!("the audit webhook did not take all events in time");
        }
    }
}

/// Puts an event into the queue, if there still is one; else says why it is lost.
fn put(queue: Option<&mpsc::Sender<Vec<u8>>>, line: &[u8]) -> Result<(), &'static str> {
    let Some(queue) = queue else { return Err("the webhook is closed: the server is stopping") };
    queue.try_send(line.to_vec()).map_err(|error| match error {
        TrySendError::Full(_) => "the queue is full",
        TrySendError::Closed(_) => "nobody takes from the queue",
    })
}

/// Collects events into batches until the queue is closed, and waits for the last one.
async fn batches(sender: Arc<Sender>, mut lines: mpsc::Receiver<Vec<u8>>, size: usize, wait: Duration) {
    let slots = Arc::new(Semaphore::new(CONCURRENT));
    while let Some(first) = lines.recv().await {
        let mut batch = vec![first];
        let full = Instant::now() + wait;
        while batch.len() < size {
            match timeout_at(full, lines.recv()).await {
                Ok(Some(line)) => batch.push(line),
                Ok(None) | Err(_) => break,
            }
        }
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let sender = Arc::clone(&sender);
        tokio::spawn(async move {
            sender.deliver(&batch).await;
            drop(slot);
        });
    }
    let _last = slots.acquire_many(CONCURRENT as u32).await;
}

impl Sender {
    /// Sends events until the server has them, or the rounds are over.
    async fn deliver(&self, lines: &[Vec<u8>]) {
        let body = list(lines);
        let mut pause = self.backoff;
        for round in 1..=ROUNDS {
            let snapshot = self.storage.snapshot();
            let why = match self
                .server
                .post(&snapshot, "timeout=30s", outbound::whole(body.clone()), TIMEOUT)
                .await
            {
                Ok(answer) if answer.status.is_success() => return,
                Ok(answer) => outbound::failure(answer.status, &answer.body),
                Err(why) => why,
            };
            if round == ROUNDS {
                self.lose(lines.len() as u64, &why);
                return;
            }
            tracing::debug!(%why, "an audit batch is sent again");
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(1.5);
        }
    }

    fn lose(&self, count: u64, why: &str) {
        self.errors.inc_by(count);
        let before = self.lost.fetch_add(count, Ordering::Relaxed);
        // Told once in a thousand: the log of the server must not become the next victim.
        if before / 1000 != (before + count) / 1000 || before == 0 {
            tracing::error!(why, lost = before + count, "audit events are being lost");
        }
    }
}

/// An `EventList` of events that are JSON already.
fn list(lines: &[Vec<u8>]) -> Vec<u8> {
    let size: usize = lines.iter().map(Vec::len).sum();
    let mut body = Vec::with_capacity(size + 128);
    body.extend_from_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(line.trim_ascii_end());
    }
    body.extend_from_slice(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_not_queued_says_why() {
        let (queue, lines) = mpsc::channel(1);
        assert_eq!(put(Some(&queue), b"{}"), Ok(()));
        assert_eq!(put(Some(&queue), b"{}"), Err("the queue is full"));
        drop(lines);
        assert_eq!(put(Some(&queue), b"{}"), Err("nobody takes from the queue"));
        assert_eq!(put(None, b"{}"), Err("the webhook is closed: the server is stopping"));
    }
}
