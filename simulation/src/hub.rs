//! The controller: the real one, started, fed by watches, and killed anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use federation_controller::machine::{Machine, Setup, Word};
use federation_controller::{Api, Keeping};
use federation_prober::Probing;
use federation_runtime::tasks;
use futures::FutureExt as _;
use hub_protocol::hub::Config;
use parking_lot::Mutex;
use serde_json::Value;

use crate::bug::Bug;
use crate::check::Violation;
use crate::clock::Clock;
use crate::dice::Dice;
use crate::pipe::Pipe;
use crate::site::{Around, probe};
use crate::store::{Change, Shared};

/// The federation's DNS zone.
pub(crate) const ZONE: &str = "fed.example.test";
/// Kinds of templates in this world.
const PLURALS: [&str; 3] = ["configmaps", "services", "deployments"];

/// Workers where the API is slow: they overtake each other.
const WORKERS: usize = 3;

/// One watch: what it has told, and what is on its way.
#[derive(Default)]
struct Watch {
    words: Pipe<Word>,
    // As the controller was, or will be, told.
    known: BTreeMap<String, Arc<Value>>,
}

struct Process {
    machine: Machine,
    watches: BTreeMap<String, Watch>,
    started: bool,
    probing: Probing,
    probe_at: u64,
}

/// The controller's machine.
pub(crate) struct Hub {
    pub(crate) store: Shared,
    pub(crate) clock: Clock,
    pub(crate) starts_at: u64,
    // Its disk.
    answers: Arc<Mutex<Vec<u8>>>,
    process: Option<Process>,
}

impl Hub {
    pub(crate) fn new(store: Shared, dice: &mut Dice) -> Self {
        let clock = Clock::new(dice);
        Self { store, clock, starts_at: 0, answers: Arc::default(), process: None }
    }

    /// The machine, if agents and DNS servers find it.
    pub(crate) fn machine(&self) -> Option<&Machine> {
        self.process.as_ref().filter(|process| process.started).map(|process| &process.machine)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The process is killed, wherever it was.
    pub(crate) fn kill(&mut self, now: u64, down_ms: u64) {
        tasks::clear();
        self.process = None;
        self.store.0.lock().killed = false;
        self.starts_at = now + down_ms;
    }

    fn start(&mut self, around: &mut Around<'_>) {
        self.clock.enter(around.now);
        tasks::clear();
        let probing = Probing::still(around.dice.roll());
        let setup = Setup::unwatched(
            Api::Direct(Arc::new(self.store.clone())),
            Config { incarnation: "store".into(), ..Config::default() },
            ZONE,
            Keeping::Memory(self.answers.clone()),
            probing.clone(),
        );
        // Nobody waits for it, so that nothing of it may take its time.
        let slow = self.store.0.lock().slow.take();
        let made = Machine::new(setup).now_or_never();
        self.store.0.lock().slow = slow;
        let Some(Ok(machine)) = made else {
            self.kill(around.now, around.dice.between(100, 1_000));
            return;
        };
        around.checks.note(around.now, || format!("hub: the controller starts at epoch {}", machine.epoch()));
        let collections = machine.declare(&PLURALS);
        let mut watches: BTreeMap<String, Watch> =
            collections.into_iter().map(|path| (path, Watch::default())).collect();
        // Whatever changed before is in the lists.
        self.store.0.lock().changes.clear();
        for (collection, watch) in &mut watches {
            list(collection, watch, &self.store, around);
        }
        self.process = Some(Process { machine, watches, started: false, probing, probe_at: 0 });
    }

    /// A watch breaks, and lists again.
    pub(crate) fn break_watch(&mut self, around: &mut Around<'_>) {
        let Some(process) = &mut self.process else { return };
        let number = around.dice.index(process.watches.len());
        let Some((collection, watch)) = process.watches.iter_mut().nth(number) else { return };
        watch.words.take();
        watch.words.send(around.now, Word::Broken);
        list(collection, watch, &self.store, around);
    }

    /// Watches tell, probes are made, and whatever was said until now is worked on.
    pub(crate) fn step(&mut self, reach: impl Fn(&str) -> bool, around: &mut Around<'_>) {
        let now = around.now;
        if self.process.is_none() {
            if now < self.starts_at {
                return;
            }
            self.start(around);
        }
        self.clock.enter(now);
        let Some(process) = &mut self.process else { return };
        let changes = std::mem::take(&mut self.store.0.lock().changes);
        for change in changes {
            let deaf = around.bug == Bug::DeafWatch
                && change.present
                && change.collection.ends_with("configmaps")
                && around.dice.chance(300);
            if let Some(watch) = process.watches.get_mut(&change.collection).filter(|_| !deaf) {
                watch.tell(now + around.dice.between(1, 60), change);
            }
        }
        for (collection, watch) in &mut process.watches {
            while let Some(word) = watch.words.receive(now, true) {
                process.machine.observe(collection, word);
            }
        }
        if !process.started && process.machine.is_synced() {
            process.started = true;
            let workers = self.store.0.lock().slow.as_ref().map_or(1, |_| WORKERS);
            process.machine.start(workers);
        }
        if now >= process.probe_at {
            process.probe_at = probe(&process.probing, now, reach);
        }
    }

    /// Lets the controller's tasks go on. False: it was killed in the middle of a write.
    pub(crate) fn turn(&mut self, now: u64) -> Result<bool, Violation> {
        if self.process.is_some() {
            self.clock.enter(now);
            if !tasks::turn() {
                return Err(Violation("the controller's tasks wake each other without end".into()));
            }
        }
        Ok(!self.store.0.lock().killed)
    }
}

impl Watch {
    fn tell(&mut self, at: u64, change: Change) {
        let path = path(&change.object);
        if change.present {
            self.known.insert(path, change.object.clone());
            self.words.send(at, Word::Present(Value::clone(&change.object)));
        } else {
            self.known.remove(&path);
            self.words.send(at, Word::Gone(Arc::unwrap_or_clone(change.object)));
        }
    }
}

fn path(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

/// Reads a collection anew: what is there, and what is not any more.
fn list(collection: &str, watch: &mut Watch, store: &Shared, around: &mut Around<'_>) {
    let at = around.now + around.dice.between(1, 400);
    let mut there = BTreeMap::new();
    for (at_path, object) in &store.0.lock().data.objects {
        if crate::store::collection_of(at_path) == collection {
            there.insert(path(object), object.clone());
        }
    }
    for (_, gone) in
        std::mem::take(&mut watch.known).into_iter().filter(|(path, _)| !there.contains_key(path))
    {
        watch.words.send(at, Word::Gone(Arc::unwrap_or_clone(gone)));
    }
    for object in there.values() {
        watch.words.send(at, Word::Present(Value::clone(object)));
    }
    watch.words.send(at, Word::Synced);
    watch.known = there;
}
