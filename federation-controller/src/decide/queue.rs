//! The work queue: keys, each at most once in it and at most once in work, the urgent ones first.
//!
//! Level-triggered, as client-go's: a key says *look at this object*, never what changed. A key that is added while it is in
//! work comes back when that work is done.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::clock::Instant;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::delay_queue::DelayQueue;

/// How urgent a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// Something that others wait for: Namespaces, failover, deletions.
    Urgent,
    /// A user's change.
    Normal,
    /// Everything looked at again after a start or a change of the clusters.
    Background,
}

const LEVELS: usize = 3;

/// What panicked when it was looked at is looked at again after this: it may panic each time, and the others are to be worked on meanwhile.
const AFTER_PANIC: Duration = Duration::from_secs(1);

struct State<K> {
    waiting: [VecDeque<K>; LEVELS],
    // Where a key is; absent: nowhere.
    places: HashMap<K, Place>,
    depth: usize,
    delayed: DelayQueue<K>,
    // Whether a task waits for the next moment.
    timed: bool,
}

#[derive(Clone, Copy)]
enum Place {
    Waiting(Priority),
    Working,
    // In work, and wanted again.
    WorkingAgain(Priority),
}

/// The queue. Cheap to clone. Its length is bounded by the number of objects, since no key is in it twice, and none waits for two moments.
pub(crate) struct Queue<K> {
    state: Arc<Mutex<State<K>>>,
    arrived: Arc<Notify>,
    sooner: Arc<Notify>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), arrived: self.arrived.clone(), sooner: self.sooner.clone() }
    }
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                waiting: Default::default(),
                places: HashMap::new(),
                depth: 0,
                delayed: DelayQueue::default(),
                timed: false,
            })),
            arrived: Arc::default(),
            sooner: Arc::default(),
        }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Queue<K> {
    /// Adds a key, or raises it.
    pub(crate) fn add(&self, key: K, priority: Priority) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        match state.places.get_mut(&key) {
            None => {
                state.places.insert(key.clone(), Place::Waiting(priority));
            }
            // A raised key stays in its old line too; `take` skips it there.
            Some(Place::Waiting(now)) if priority < *now => *now = priority,
            Some(Place::Waiting(_)) => return,
            Some(place @ Place::Working) => {
                *place = Place::WorkingAgain(priority);
                return;
            }
            Some(Place::WorkingAgain(now)) => {
                *now = priority.min(*now);
                return;
            }
        }
        state.waiting[priority as usize].push_back(key);
        state.depth += 1;
        drop(guard);
        self.arrived.notify_one();
    }

    /// Adds a key after a while. However often that is said, it is added once, when the earliest of those moments has come: what it wants
    /// after that is found when it is looked at.
    pub(crate) fn add_after(&self, key: K, priority: Priority, after: Duration) {
        let (first, start) = {
            let mut state = self.state.lock();
            let first = state.delayed.note(key, Instant::now() + after, priority);
            (first, !std::mem::replace(&mut state.timed, true))
        };
        if start {
            let queue = self.clone();
            tasks::spawn(async move {
                // What is due is taken out first, so that nothing panics twice.
                while let Err(panicked) = tasks::caught("queue", queue.clone().keep_time()).await {
                    tracing::error!(%panicked, "what waits for its moment is kept on");
                }
            });
        } else if first {
            self.sooner.notify_one();
        }
    }

    /// Adds what waits for its moment, until nothing does.
    async fn keep_time(self) {
        loop {
            let now = Instant::now();
            let wait = {
                let mut state = self.state.lock();
                match (state.delayed.due(now), state.delayed.next()) {
                    (Some((key, priority)), _) => Err((key, priority)),
                    (None, Some(next)) => Ok(next.saturating_duration_since(now)),
                    (None, None) => {
                        state.timed = false;
                        return;
                    }
                }
            };
            match wait {
                Err((key, priority)) => self.add(key, priority),
                Ok(wait) => tokio::select! {
                    biased;
                    () = self.sooner.notified() => {}
                    () = tasks::sleep(wait) => {}
                },
            }
        }
    }

    /// Waits for a key and takes it into work. Every key taken must be given to [`Queue::done`].
    pub(crate) async fn take(&self) -> K {
        loop {
            if let Some(key) = self.try_take() {
                // Wakes the next worker: permits of `Notify` do not add up.
                if self.depth() > 0 {
                    self.arrived.notify_one();
                }
                return key;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes a key into work if one waits.
    pub(crate) fn try_take(&self) -> Option<K> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for level in 0..LEVELS {
            while let Some(key) = state.waiting[level].pop_front() {
                state.depth -= 1;
                let Some(place) = state.places.get_mut(&key) else { continue };
                if matches!(*place, Place::Waiting(priority) if priority as usize == level) {
                    *place = Place::Working;
                    return Some(key);
                }
            }
        }
        None
    }

    /// Ends the work on a key.
    pub(crate) fn done(&self, key: &K) {
        let again = {
            let mut state = self.state.lock();
            match state.places.remove(key) {
                Some(Place::WorkingAgain(priority)) => Some(priority),
                _ => None,
            }
        };
        if let Some(priority) = again {
            self.add(key.clone(), priority);
        }
    }

    /// Works on one key after the other until `shutdown`. A panic is that key's, which comes again; nobody else's.
    pub(crate) async fn work<F: Future<Output = ()>>(
        &self,
        part: &'static str,
        shutdown: &Shutdown,
        mut look: impl FnMut(K) -> F,
    ) where
        K: Display,
    {
        loop {
            let key = tokio::select! {
                biased;
                () = shutdown.wait() => return,
                key = self.take() => key,
            };
            if let Err(panicked) = tasks::caught(part, look(key.clone())).await {
                tracing::error!(part, %key, %panicked, "an object could not be looked at: again soon");
                self.add_after(key.clone(), Priority::Background, AFTER_PANIC);
            }
            self.done(&key);
        }
    }

    /// Keys that wait or are in work.
    pub(crate) fn keys(&self) -> Vec<K> {
        self.state.lock().places.keys().cloned().collect()
    }

    /// How many keys wait.
    pub(crate) fn depth(&self) -> usize {
        self.state.lock().depth
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_however_often_it_is_added() {
        let queue = Queue::default();
        queue.add(1, Priority::Normal);
        queue.add(1, Priority::Normal);
        assert_eq!(queue.depth(), 1);
        assert_eq!(queue.take().await, 1);
        assert_eq!(queue.try_take(), None);
    }

    #[tokio::test]
    async fn a_key_added_while_in_work_comes_back_when_the_work_is_done() {
        let queue = Queue::default();
        queue.add(1, Priority::Normal);
        let key = queue.take().await;
        queue.add(1, Priority::Normal);
        assert_eq!(queue.try_take(), None, "never twice in work at once");
        queue.done(&key);
        assert_eq!(queue.take().await, 1);
        queue.done(&1);
        assert_eq!(queue.try_take(), None);
    }

    #[tokio::test]
    async fn the_urgent_goes_first_and_a_raised_key_goes_once() {
        let queue = Queue::default();
        queue.add(1, Priority::Background);
        queue.add(2, Priority::Normal);
        queue.add(1, Priority::Urgent);
        assert_eq!(queue.take().await, 1);
        assert_eq!(queue.take().await, 2);
        assert_eq!(queue.try_take(), None);
    }

    #[tokio::test]
    async fn a_panic_is_one_keys_and_that_key_comes_again() {
        let (queue, shutdown) = (Queue::default(), Shutdown::new());
        queue.add("bad", Priority::Urgent);
        queue.add("good", Priority::Normal);
        let looks = Mutex::new(Vec::new());
        let look = |key| {
            looks.lock().push(key);
            let looked = looks.lock().len();
            let shutdown = shutdown.clone();
            async move {
                tokio::task::yield_now().await;
                assert!(looked > 1, "the first look fails");
                if looked == 3 {
                    shutdown.start();
                }
            }
        };
        queue.work("looks", &shutdown, look).await;
        assert_eq!(*looks.lock(), ["bad", "good", "bad"]);
        assert!(queue.keys().is_empty(), "nothing is in work any more");
    }

    #[tokio::test]
    async fn a_key_that_is_to_be_looked_at_later_comes_once_and_at_the_earliest_of_its_moments() {
        let queue = Queue::default();
        for wait in [3_600_000, 30, 3_600_000, 20, 60_000] {
            queue.add_after(1, Priority::Background, Duration::from_millis(wait));
        }
        assert_eq!(queue.take().await, 1);
        queue.done(&1);
        let state = queue.state.lock();
        assert!(state.delayed.next().is_none() && state.depth == 0, "no other moment is left");
    }
}
