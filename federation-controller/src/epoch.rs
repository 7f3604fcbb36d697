//! The one counter for verdicts, placements and zones.
//!
//! Numbers are given out of blocks. The end of a block is written to the ConfigMap `federation-system/epoch` before any number
//! of it is used, so that a hub which was killed never gives a number twice: it starts at the end of the last block.
//!
//! Who was told a number above ours shows that the store was restored from a backup. That is kept beside the numbers until a person has
//! said that what the store says now is what is wanted: until then nothing is taken away because of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;

use federation_core::api::marks::SYSTEM_NAMESPACE;
use federation_runtime::errors::Chain;
use federation_runtime::tasks;

use crate::act::api::Api;

/// Numbers in a block: at thousands of decisions a second, about one write a second.
const BLOCK: u64 = 10_000;
const NAME: &str = "epoch";
const HIGH_WATER: &str = "highWater";
const RESTORED: &str = "restored";
/// How far an epoch that somebody was told may be above what this process began with: thirty years of a thousand decisions a second. Whoever
/// says more did not get it from this federation; believed, or a step at a time, it would use up the numbers for all.
const FURTHEST: u64 = 1 << 40;
/// What must not wait for the API waits for a new block so long: it is written in milliseconds, once in thousands of numbers.
pub(crate) const EPOCH_WAIT: Duration = Duration::from_secs(1);
/// Bounded: another writer of the ConfigMap is a second controller, which is a mistake that should be seen.
const ATTEMPTS: u32 = 5;

/// Why no epoch could be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace of the federation could not be made.
    #[error("create namespace {SYSTEM_NAMESPACE}")]
    Namespace(#[source] kube::Error),
    /// The high-water mark could not be read.
    #[error("read ConfigMap {SYSTEM_NAMESPACE}/{NAME}")]
    Read(#[source] kube::Error),
    /// The high-water mark could not be written.
    #[error("write ConfigMap {SYSTEM_NAMESPACE}/{NAME}")]
    Write(#[source] kube::Error),
    /// It holds something else.
    #[error(
        "ConfigMap {SYSTEM_NAMESPACE}/{NAME}: data.{HIGH_WATER} must be a number, not {0:?}; restore it or set it to a number above every epoch in use"
    )]
    Content(String),
    /// Nobody can have been told this epoch.
    #[error(
        "epoch {told} is {} above where this controller began: no hub of this federation has given it; unjoin that cluster and join it with an empty directory", told.saturating_sub(*.ours)
    )]
    Implausible {
        /// What somebody says.
        told: u64,
        /// What this process began with.
        ours: u64,
    },
    /// The numbers are used up.
    #[error(
        "ConfigMap {SYSTEM_NAMESPACE}/{NAME}: data.{HIGH_WATER} leaves no numbers: set it to a number just above every epoch in use"
    )]
    Exhausted,
    /// Somebody else takes blocks all the time.
    #[error("ConfigMap {SYSTEM_NAMESPACE}/{NAME} is written by another controller: run one controller only")]
    Contended,
}

/// How it was seen that the store was restored from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// Whose agent was told of it.
    pub(crate) cluster: String,
    /// The epoch that it was told.
    pub(crate) told: u64,
    /// The newest that the store knew of.
    pub(crate) ours: u64,
}

impl Restored {
    /// For people.
    pub(crate) fn reason(&self) -> String {
        let Self { cluster, told, ours } = self;
        format!(
            "the store was restored from a backup: {cluster} was told epoch {told} by it, and it knew of {ours}; nothing is taken away until `fedctl unfreeze` says that what it says now is wanted"
        )
    }
}

/// The counter. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Epochs(Arc<Inner>);

struct Inner {
    // Where this process began.
    first: u64,
    next: AtomicU64,
    // One past the last number that may be used.
    end: AtomicU64,
    // One allocation at a time; held across the write, and by nothing else.
    allocating: Mutex<()>,
    // Until a person has confirmed what the store says.
    restored: ArcSwapOption<Restored>,
    // Whether that stands in the store.
    noted: AtomicBool,
    // The newest epoch that was given out before the store was restored; 0 if it was not.
    before: AtomicU64,
    api: Api,
}

impl Epochs {
    /// Takes the first block.
    ///
    /// # Errors
    /// When the ConfigMap can be neither read nor written.
    pub(crate) async fn start(api: Api) -> Result<Self, Error> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}});
        match api.write("POST", "/api/v1/namespaces", &namespace).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(Error::Namespace(error)),
        }
        let Block { first, end, restored } = allocate(&api, 1, &Note::Keep).await?;
        Ok(Self(Arc::new(Inner {
            first,
            next: AtomicU64::new(first),
            end: AtomicU64::new(end),
            allocating: Mutex::new(()),
            noted: true.into(),
            before: AtomicU64::new(restored.as_ref().map_or(0, |restored| restored.told)),
            restored: ArcSwapOption::new(restored.map(Arc::new)),
            api,
        })))
    }

    /// The newest epoch that was given out.
    pub(crate) fn current(&self) -> u64 {
        self.0.next.load(Ordering::SeqCst) - 1
    }

    /// Why nothing is taken away: the store was restored, and nobody has confirmed yet what it says.
    pub(crate) fn restored(&self) -> Option<String> {
        self.0.restored.load().as_ref().map(|restored| restored.reason())
    }

    /// Whether a decision of this epoch may be older than what members were told: it was made before the store was restored.
    pub(crate) fn is_doubtful(&self, epoch: u64) -> bool {
        epoch <= self.0.before.load(Ordering::SeqCst)
    }

    /// Whether an earlier run gave this epoch.
    pub(crate) fn is_of_before(&self, epoch: u64) -> bool {
        epoch < self.0.first
    }

    /// Whether an epoch that somebody was told shows that the store was restored. One who has not heard of this run was told nothing of
    /// its numbers, however far it has come with them.
    pub(crate) fn is_ahead(&self, told: u64, heard_of_us: bool) -> bool {
        told > self.current() || (!heard_of_us && told >= self.0.first)
    }

    /// A cluster's agent was told an epoch by this very store that it does not know of: nothing is taken away from now on. Whether that is new.
    ///
    /// # Errors
    /// When the epoch is not believed.
    pub(crate) fn suspect(&self, cluster: &str, told: u64) -> Result<bool, Error> {
        let ours = self.current();
        plausible(told, self.0.first)?;
        self.0.before.fetch_max(told, Ordering::SeqCst);
        let found = Arc::new(Restored { cluster: cluster.to_owned(), told, ours });
        let known = self.0.restored.rcu(|known| known.clone().or_else(|| Some(found.clone())));
        if known.is_none() {
            self.0.noted.store(false, Ordering::SeqCst);
        }
        Ok(known.is_none())
    }

    /// Continues above `epoch`, which somebody was told of. What was suspected is durable with it.
    ///
    /// # Errors
    /// When the epoch is not believed, and when the new block cannot be written.
    pub(crate) async fn raise(&self, epoch: u64) -> Result<(), Error> {
        let _allocating = self.0.allocating.lock().await;
        if epoch <= self.current() && self.0.noted.load(Ordering::SeqCst) {
            return Ok(());
        }
        plausible(epoch, self.0.first)?;
        let note = self.0.restored.load_full().map_or(Note::Keep, |restored| Note::Put((*restored).clone()));
        let Block { first, end, .. } = allocate(&self.0.api, epoch.saturating_add(1), &note).await?;
        // Nothing is given out between the two stores: the old block's end is below both.
        self.0.next.fetch_max(first, Ordering::SeqCst);
        self.0.end.store(end, Ordering::SeqCst);
        self.0.noted.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Whether what was suspected does not stand in the store yet.
    pub(crate) fn is_note_due(&self) -> bool {
        !self.0.noted.load(Ordering::SeqCst)
    }

    /// A person says that what the store says now is what is wanted. Durable before anything is taken away.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) async fn confirm(&self) -> Result<(), Error> {
        let _allocating = self.0.allocating.lock().await;
        let Block { first, end, .. } = allocate(&self.0.api, 1, &Note::Drop).await?;
        self.0.next.fetch_max(first, Ordering::SeqCst);
        self.0.end.store(end, Ordering::SeqCst);
        self.0.restored.store(None);
        Ok(())
    }

    /// The next epoch.
    ///
    /// # Errors
    /// When a new block is needed and cannot be written.
    pub(crate) async fn next(&self) -> Result<u64, Error> {
        loop {
            let end = self.0.end.load(Ordering::SeqCst);
            let taken = self
                .0
                .next
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| (next < end).then_some(next + 1));
            if let Ok(epoch) = taken {
                return Ok(epoch);
            }
            let _allocating = self.0.allocating.lock().await;
            if self.0.next.load(Ordering::SeqCst) < self.0.end.load(Ordering::SeqCst) {
                continue;
            }
            let Block { first, end, .. } = allocate(&self.0.api, 1, &Note::Keep).await?;
            self.0.next.fetch_max(first, Ordering::SeqCst);
            self.0.end.store(end, Ordering::SeqCst);
        }
    }
}

impl Epochs {
    /// Whether somebody can have been told this epoch by a hub of this federation.
    pub(crate) fn is_plausible(&self, told: u64) -> bool {
        plausible(told, self.0.first).is_ok()
    }

    /// The next epoch, for what must not wait for the API: the newest one that there is where no new block is written within `limit`.
    pub(crate) async fn next_within(&self, limit: Duration) -> u64 {
        self.next_above(0, limit).await
    }

    /// The same, above `least`: an epoch that is not above it says that there is none yet.
    pub(crate) async fn next_above(&self, least: u64, limit: Duration) -> u64 {
        let next = async {
            // Not asked where it is so already: another allocation may hang.
            if least > self.current() {
                self.raise(least).await?;
            }
            self.next().await
        };
        let next = tokio::select! {
            biased;
            next = next => next.map_err(|error| Chain(&error).to_string()),
            () = tasks::sleep(limit) => Err("the API does not answer".to_owned()),
        };
        next.unwrap_or_else(|error| {
            tracing::warn!(error, "there is no new epoch: the last one is used");
            self.current()
        })
    }
}

fn plausible(told: u64, ours: u64) -> Result<(), Error> {
    if told.saturating_sub(ours) > FURTHEST { Err(Error::Implausible { told, ours }) } else { Ok(()) }
}

struct Block {
    first: u64,
    end: u64,
    restored: Option<Restored>,
}

/// What becomes of the note that the store was restored.
enum Note {
    Keep,
    Put(Restored),
    Drop,
}

impl Note {
    fn write(&self, data: &mut BTreeMap<String, String>) {
        match self {
            Self::Keep => {}
            Self::Put(restored) => {
                data.insert(RESTORED.into(), json!(restored).to_string());
            }
            Self::Drop => {
                data.remove(RESTORED);
            }
        }
    }
}

/// Writes the end of a new block that starts at `least` or above, and the note with it.
async fn allocate(api: &Api, least: u64, note: &Note) -> Result<Block, Error> {
    let collection = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps");
    let path = format!("{collection}/{NAME}");
    let after = |first: u64| first.checked_add(BLOCK).ok_or(Error::Exhausted);
    for _ in 0..ATTEMPTS {
        let (first, restored, written) = match api.read(&path).await.map_err(Error::Read)? {
            None => {
                let mut data = BTreeMap::from([(HIGH_WATER.to_owned(), after(least)?.to_string())]);
                note.write(&mut data);
                let map = json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": NAME, "namespace": SYSTEM_NAMESPACE},
                    "data": data,
                });
                (least, None, api.write("POST", &collection, &map).await)
            }
            Some(found) => {
                let parsed = serde_json::from_value(found).map_err(kube::Error::SerdeError);
                let mut map: ConfigMap = parsed.map_err(Error::Read)?;
                let text =
                    map.data.as_ref().and_then(|data| data.get(HIGH_WATER)).cloned().unwrap_or_default();
                let first = text.parse::<u64>().map_err(|_| Error::Content(text))?.max(least);
                let data = map.data.get_or_insert_default();
                data.insert(HIGH_WATER.into(), after(first)?.to_string());
                // What a person made unreadable, a person has looked at.
                let restored = data.get(RESTORED).and_then(|text| serde_json::from_str(text).ok());
                note.write(data);
                // The resourceVersion that was read is the precondition.
                (first, restored, api.write("PUT", &path, &json!(map)).await)
            }
        };
        match written {
            Ok(_) => return Ok(Block { first, end: after(first)?, restored }),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(Error::Write(error)),
        }
    }
    Err(Error::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_nobody_can_have_been_told_is_not_believed() {
        for (told, ours, believed) in [
            (7, 9, true),
            (9, 7, true),
            (FURTHEST + 7, 7, true),
            (FURTHEST + 8, 7, false),
            (u64::MAX - 1, 7, false),
        ] {
            assert_eq!(plausible(told, ours).is_ok(), believed, "{told} above {ours}");
        }
    }

    /// One ConfigMap, and nothing else; and after so many writes no answer any more.
    struct Store(parking_lot::Mutex<Option<serde_json::Value>>, std::sync::atomic::AtomicU32);

    fn store(writes: u32) -> Api {
        Api::Direct(Arc::new(Store(parking_lot::Mutex::default(), writes.into())))
    }

    impl crate::act::api::Direct for Store {
        fn answer(&self, request: http::Request<Vec<u8>>) -> Option<Result<serde_json::Value, kube::Error>> {
            let mut kept = self.0.lock();
            if request.method() == http::Method::GET {
                let missing = kube::core::Status { code: 404, ..Default::default() };
                return Some(kept.clone().ok_or_else(|| kube::Error::Api(Box::new(missing))));
            }
            let body: serde_json::Value = serde_json::from_slice(request.body()).expect("JSON");
            if request.uri().path().contains("configmaps") {
                let may = |left: u32| left.checked_sub(1);
                self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, may).ok()?;
                *kept = Some(body.clone());
            }
            Some(Ok(body))
        }

        fn delays(&self) -> (Duration, Duration) {
            Default::default()
        }
    }

    #[tokio::test]
    async fn steps_that_are_believed_one_by_one_lead_no_further_than_one_may() {
        let epochs = Epochs::start(store(u32::MAX)).await.expect("a store");
        epochs.raise(FURTHEST).await.expect("one step is believed");
        assert!(epochs.current() >= FURTHEST);
        let next = epochs.current() + FURTHEST;
        assert!(matches!(epochs.raise(next).await, Err(Error::Implausible { .. })));
        epochs.next().await.expect("there are numbers left");
    }

    #[tokio::test]
    async fn what_must_not_wait_goes_on_with_the_newest_epoch_where_the_api_hangs() {
        let epochs = Epochs::start(store(1)).await.expect("a store");
        let limit = Duration::from_millis(20);
        for _ in 0..BLOCK {
            epochs.next().await.expect("of the first block");
        }
        let newest = epochs.current();
        assert_eq!(epochs.next_within(limit).await, newest);
        let epochs = Epochs::start(store(1)).await.expect("a store");
        assert_eq!(epochs.next_within(limit).await, epochs.current());
    }

    #[tokio::test]
    async fn the_next_epoch_is_above_what_it_must_be_above_as_soon_as_the_api_answers() {
        let (limit, far) = (Duration::from_millis(20), 5 * BLOCK);
        let hangs = Epochs::start(store(1)).await.expect("a store");
        assert!(hangs.next_above(far, limit).await < far);
        let answers = Epochs::start(store(2)).await.expect("a store");
        assert_eq!(answers.next_above(far, limit).await, far + 1);
        assert_eq!(answers.next_above(far + 1, limit).await, far + 2, "the block has room for it");
    }
}
