//! The zones that this server serves, and their updates. All publishing happens here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use federation_core::probe::Target;
use federation_runtime::clock::{self, Instant};
use federation_runtime::endpoints::Health;
use parking_lot::Mutex;
use proto::v1;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::answer::Secrets;
use crate::client::{ClientMap, Database, Regions, prefixes};
use crate::compile::Snapshot;
use crate::dnssec::Signatures;
use crate::heap;
use crate::hub::{Disk, DiskError, Fence, Offer, Refused};
use crate::lease::Lease;
use crate::metrics::{DnsMetrics, ZoneState};
use crate::publish::Published;
use crate::zone::{Down, SERIAL_LIFE, Zones};

/// Signatures that are due within this time are renewed together, seconds: short against the half day that they count on at least.
const RENEW_TOGETHER: u32 = 60;
/// Readiness waits for this.
const ZONES: &str = "zones";

/// Shared by the hub's client, the disk and the metrics.
#[derive(Clone)]
pub struct State(Arc<Inner>);

/// Guard: while it is held, no update is applied.
pub type UpdatesPaused = tokio::sync::OwnedMutexGuard<()>;

struct Inner {
    published: Arc<Published>,
    metrics: Arc<DnsMetrics>,
    health: Health,
    disk: Option<Disk>,
    fence: Fence,
    // How long the hub may be away before answers are marked stale.
    stale_after: Duration,
    started: Instant,
    current: Mutex<Current>,
    // Held while zones are compiled, so that they are compiled one after the other.
    compiler: Mutex<Compiler>,
    clients: Mutex<Clients>,
    // Held from an update to the disk.
    update_lock: Arc<tokio::sync::Mutex<()>>,
    // The last update could not be written.
    unkept: AtomicBool,
    // Seconds by which this server's clock is ahead of the machine's.
    ahead: AtomicI64,
}

/// State that compiling needs.
#[derive(Default)]
struct Compiler {
    signatures: Signatures,
    // Quarters of days since 1970 of the snapshot: see [`Zones::on`]. It does not go back when the clock does, but goes on, from what is on disk.
    quarter: u32,
}

/// Cookie secrets of this server's own.
#[derive(Clone, Debug)]
pub enum OwnSecrets {
    /// From the operator, to share them with servers outside the federation: used instead of the hub's.
    Given(Secrets),
    /// Random: used until the hub provides some.
    Spare(Secrets),
}

impl Default for OwnSecrets {
    fn default() -> Self {
        Self::Spare(Secrets::default())
    }
}

/// What answers depend on, besides the zones.
#[derive(Default)]
struct Clients {
    secrets: OwnSecrets,
    database: Option<Database>,
    // Of the regions that the map was last made of.
    regions: Arc<Regions>,
    clients: Arc<ClientMap>,
}

impl Clients {
    /// The same snapshot, for these clients.
    fn ready(&mut self, mut snapshot: Snapshot) -> Snapshot {
        let regions = &snapshot.zones.regions;
        if self.regions != *regions {
            self.clients = Arc::new(ClientMap::new(prefixes(regions, self.database.as_ref())));
            self.regions = regions.clone();
        }
        match &self.secrets {
            OwnSecrets::Given(secrets) => snapshot.secrets = secrets.clone(),
            OwnSecrets::Spare(secrets) if snapshot.secrets.0.is_empty() => snapshot.secrets = secrets.clone(),
            OwnSecrets::Spare(_) => {}
        }
        snapshot.with_clients(self.clients.clone())
    }
}

#[derive(Default)]
struct Current {
    served: Option<Arc<Zones>>,
    confirmed: Option<Instant>,
    /// What this server withdrew by its own word.
    down: Down,
    /// When the stream last came up or went down.
    stream_changed: Option<Instant>,
    lease: Lease,
    counts: ZoneState,
}

/// The result of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Every socket answers this epoch.
    Served {
        /// To acknowledge.
        epoch: u64,
    },
    /// It is served except for zones that are held, and must not be acknowledged.
    Partly,
    /// It is not served.
    Refused,
    /// It is not served: all zones must be requested from the hub.
    Resync,
}

impl State {
    /// A state without zones: every query is refused.
    pub fn new(
        metrics: Arc<DnsMetrics>,
        health: Health,
        disk: Option<Disk>,
        fence: Fence,
        stale_after: Duration,
    ) -> Self {
        health.wait_for(ZONES, "no zones yet, neither on disk nor from the hub");
        let published = Published::new(Snapshot::default());
        let (current, compiler, clients) = (Mutex::default(), Mutex::default(), Mutex::default());
        let state = Self(Arc::new(Inner {
            published,
            metrics,
            health,
            disk,
            fence,
            stale_after,
            started: Instant::now(),
            current,
            compiler,
            clients,
            update_lock: Arc::default(),
            unkept: AtomicBool::new(false),
            ahead: AtomicI64::new(0),
        }));
        let watched = Arc::downgrade(&state.0);
        state
            .0
            .metrics
            .observe(move || watched.upgrade().map(|inner| inner.zone_state()).unwrap_or_default());
        state
    }

    /// Sets the cookie secrets and the country database. To be called before zones are loaded.
    pub fn prepare(&self, secrets: OwnSecrets, database: Option<Database>) {
        let mut clients = self.0.clients.lock();
        clients.secrets = secrets;
        clients.database = database;
    }

    /// The published snapshot that the sockets answer from.
    pub fn published(&self) -> &Arc<Published> {
        &self.0.published
    }

    /// Epoch and incarnation that incremental changes may start from. The epoch is 0 if zones are held, since they differ from the hub's at this
    /// epoch, or if changes cannot be stored.
    pub fn base(&self) -> (u64, String) {
        let (epoch, incarnation) = self.served();
        let behind = self.0.disk.as_ref().is_some_and(Disk::is_behind);
        (if behind || self.0.current.lock().counts.held > 0 { 0 } else { epoch }, incarnation)
    }

    /// The targets that this server probes.
    pub fn targets(&self) -> Arc<Vec<Target>> {
        let current = self.0.current.lock();
        current.served.as_ref().map(|zones| zones.probes.clone()).unwrap_or_default()
    }

    /// Epoch and incarnation of the served zones.
    pub fn served(&self) -> (u64, String) {
        let current = self.0.current.lock();
        current.served.as_ref().map(|zones| (zones.epoch, zones.incarnation.clone())).unwrap_or_default()
    }

    /// Serves what is on disk, if anything is.
    ///
    /// # Errors
    /// When the file is damaged: failing is better than silently starting without answers.
    pub fn load(&self) -> Result<(), DiskError> {
        let Some(disk) = &self.0.disk else { return Ok(()) };
        let Some(update) = disk.load()? else { return Ok(()) };
        let date = disk.date().unwrap_or_default();
        self.0.compiler.lock().quarter = date;
        match Zones::from_update(&update) {
            Ok(zones) => {
                tracing::info!(epoch = zones.epoch, zones = zones.zones.len(), "serving the zones on disk");
                self.0.current.lock().counts.held = u64::from(update.partial);
                drop(update);
                heap::trim();
                self.0.publish(Arc::new(zones));
                // What they were made with, too.
                heap::trim();
                heap::trim_program();
            }
            // Written by a version with other rules: the hub will send it anew, and this version will say what it thinks of it.
            Err(problems) => tracing::error!(%problems, "the zones on disk are not valid here"),
        }
        Ok(())
    }

    /// No updates are applied while the returned guard is held. The disk then has what is served, if [`Self::is_kept`].
    pub async fn pause_updates(&self) -> UpdatesPaused {
        self.0.update_lock.clone().lock_owned().await
    }

    /// Whether the last update was written to the disk.
    pub fn is_kept(&self) -> bool {
        !self.0.unkept.load(Relaxed)
    }

    /// Applies an update of the hub, if the fence accepts it. Returns when every socket answers from it.
    pub async fn offer(&self, mut update: v1::ZoneUpdate) -> Applied {
        let _updating = self.0.update_lock.lock().await;
        let epoch = update.epoch;
        let otherwise = Lease::of(&mut update);
        let (served, held) = {
            let current = self.0.current.lock();
            (current.served.clone(), current.counts.held > 0)
        };
        let behind = || self.0.disk.as_ref().is_some_and(Disk::wants_whole);
        if update.base > 0 && (held || behind()) {
            return Applied::Resync;
        }
        let whole = update.base == 0;
        // To be kept though it is served already.
        let missed = (whole && !held && otherwise.is_none())
            .then(|| self.0.disk.as_ref().filter(|disk| disk.is_behind()).map(|_| update.clone()))
            .flatten();
        let kept = || self.0.disk.as_ref()?.load().ok().flatten();
        let applied = match block_in_place(|| self.0.fence.judge(served.as_deref(), kept, update)) {
            Offer::Resync => return Applied::Resync,
            Offer::Current => {
                if let Some(update) = missed {
                    self.keep(update).await;
                }
                let mut current = self.0.current.lock();
                current.confirmed = Some(Instant::now());
                if current.counts.held > 0 { Applied::Partly } else { Applied::Served { epoch } }
            }
            Offer::Refuse(refused) => {
                tracing::error!(epoch, %refused, "an update of the hub is refused: the zones served stay as they are");
                let mut current = self.0.current.lock();
                match refused {
                    Refused::Older { .. } => current.counts.refused_older += 1,
                    Refused::Incarnation { .. } => current.counts.refused_foreign += 1,
                    Refused::Invalid(_) => current.counts.refused_invalid += 1,
                }
                return Applied::Refused;
            }
            Offer::Apply { zones, update, held } => {
                for held in &held {
                    tracing::error!(
                        zone = %held.origin, sets = held.sets, epoch,
                        "the update would leave the zone without records: its old version is served on"
                    );
                }
                block_in_place(|| self.0.publish(Arc::new(zones)));
                {
                    let mut current = self.0.current.lock();
                    current.confirmed = Some(Instant::now());
                    current.counts.held = held.len() as u64;
                    current.lease.serve(otherwise.clone());
                }
                // Who starts in the middle of a drill is none of it; what is held is so all the same.
                let update = match otherwise {
                    None => *update,
                    Some((mut whole, _)) => {
                        for held in &held {
                            let origin = held.origin.to_string();
                            let same = |zone: &v1::Zone| zone.origin.eq_ignore_ascii_case(&origin);
                            whole.zones.retain(|zone| !same(zone));
                            whole.zones.extend(update.zones.iter().find(|zone| same(zone)).cloned());
                        }
                        whole
                    }
                };
                // Users come first: the disk is written when the answers have changed already, and a failing disk stops none.
                self.keep(update).await;
                if whole {
                    heap::trim();
                    heap::trim_program();
                }
                if held.is_empty() { Applied::Served { epoch } } else { Applied::Partly }
            }
        };
        self.0.published.settled().await;
        applied
    }

    async fn keep(&self, update: v1::ZoneUpdate) {
        let Some(disk) = self.0.disk.clone() else { return };
        let stored = if disk.is_in_memory() {
            Ok(disk.store(&update))
        } else {
            tokio::task::spawn_blocking(move || disk.store(&update)).await
        };
        self.0.unkept.store(!matches!(stored, Ok(Ok(()))), Relaxed);
        match stored {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the zones are served but not kept"
                );
            }
            Err(error) => tracing::error!(%error, "the zones are served but not kept"),
        }
    }

    /// The stream is up.
    pub fn connected(&self) {
        let mut current = self.0.current.lock();
        current.counts.connected = true;
        current.stream_changed = Some(Instant::now());
        current.lease.connected();
    }

    /// The stream is down.
    pub fn disconnected(&self) {
        let mut current = self.0.current.lock();
        if std::mem::replace(&mut current.counts.connected, false) {
            // While the stream is up, silence means that nothing has changed.
            current.confirmed = current.confirmed.map(|_| Instant::now());
            current.stream_changed = Some(Instant::now());
            current.lease.disconnected(Instant::now());
        }
    }

    /// Whether the hub's stream is up, and for how long it has been so; since the start if it never was.
    pub fn hub(&self) -> (bool, Duration) {
        let current = self.0.current.lock();
        (current.counts.connected, current.stream_changed.unwrap_or(self.0.started).elapsed())
    }

    /// What this server has withdrawn on its own.
    pub fn down(&self) -> Down {
        self.0.current.lock().down.clone()
    }

    /// Withdraws what is down from the answers, replacing earlier withdrawals. No answer becomes empty.
    pub fn withdraw(&self, down: Down) {
        {
            let mut current = self.0.current.lock();
            if current.down == down {
                return;
            }
            current.counts.withdrawn = down.values().map(|clusters| clusters.len() as u64).sum();
            current.down = down;
        }
        let stale = self.0.published.snapshot().stale;
        block_in_place(|| self.0.compile_anew(stale));
    }

    /// Restores what a drill has withdrawn, if the drill's hub is away.
    fn restore_after_drill(&self) {
        let (update, served) = {
            let mut current = self.0.current.lock();
            let Some(update) = current.lease.lapsed(Instant::now()) else { return };
            (update, current.served.clone())
        };
        let epoch = update.epoch;
        if let Offer::Apply { zones, .. } = self.0.fence.judge(served.as_deref(), || None, update) {
            // Unless the hub has come back in this moment, and given something newer.
            if block_in_place(|| self.0.publish_over(served.as_ref(), Arc::new(zones))) {
                tracing::warn!(epoch, "the hub is away in the middle of a drill: what it took is given back");
            }
        }
    }

    /// Updates the stale mark, restores what a lost drill has withdrawn, and renews signatures and serials. To be called periodically.
    pub fn review(&self) {
        self.restore_after_drill();
        let (epoch, stale) = {
            let current = self.0.current.lock();
            let Some(served) = &current.served else { return };
            let stale = !current.counts.connected
                && current.confirmed.is_none_or(|confirmed| confirmed.elapsed() > self.0.stale_after);
            (served.epoch, stale)
        };
        if self.0.published.snapshot().stale != stale {
            tracing::warn!(stale, epoch, "the zones' freshness has changed");
            block_in_place(|| self.0.compile_anew(stale));
        } else if self.0.is_due() {
            block_in_place(|| self.0.compile_anew(stale));
        }
    }

    /// Signs from now on as if the clock were this many seconds ahead of the machine's. For tests of clocks that are wrong, and of later
    /// signatures.
    pub fn set_ahead(&self, seconds: i64) {
        self.0.ahead.store(seconds, Relaxed);
    }
}

impl Inner {
    /// Compiles what is served once more. What is served is looked up once the lock is held: an update that comes meanwhile is not undone.
    fn compile_anew(&self, stale: bool) {
        let mut compiler = self.compiler.lock();
        let served = self.current.lock().served.clone();
        if let Some(served) = served {
            self.compile(&mut compiler, &served, stale);
        }
    }

    fn compile(&self, compiler: &mut Compiler, zones: &Zones, stale: bool) {
        let Compiler { signatures, quarter } = compiler;
        let seconds = self.seconds();
        signatures.begin(seconds);
        let known = *quarter;
        *quarter = (*quarter).max(seconds / SERIAL_LIFE);
        let before = self.published.snapshot();
        if before.is_ahead(seconds) {
            // Secondaries may have signatures that do not count yet: they are to take others though nothing else has changed.
            *quarter += 1;
        }
        // Before anybody sees it: who has seen a serial takes none that is lower after a restart.
        if *quarter != known
            && let Some(Err(error)) = self.disk.as_ref().map(|disk| disk.keep_date(*quarter))
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what serials are counted from is not kept"
            );
        }
        let down = self.current.lock().down.clone();
        let mut zones = zones.on(*quarter);
        if !down.is_empty() {
            zones = zones.without(&down);
        }
        let snapshot = before.next(Arc::new(zones), stale, &self.metrics.clusters, signatures);
        self.published.publish(self.clients.lock().ready(snapshot));
    }

    fn is_due(&self) -> bool {
        let seconds = self.seconds();
        let snapshot = self.published.snapshot();
        let renewal = snapshot.renewal();
        snapshot.is_ahead(seconds)
            || renewal.is_some_and(|renewal| seconds >= renewal.saturating_add(RENEW_TOGETHER))
            // Whoever is at work there looks at it, too.
            || self.compiler.try_lock().is_some_and(|compiler| compiler.quarter < seconds / SERIAL_LIFE)
    }

    fn publish(&self, zones: Arc<Zones>) {
        let mut compiler = self.compiler.lock();
        self.publish_in(&mut compiler, zones);
    }

    /// Publishes if `judged` is still what is served; whether it was. The hub is asked for everything when it is back.
    fn publish_over(&self, judged: Option<&Arc<Zones>>, zones: Arc<Zones>) -> bool {
        let mut compiler = self.compiler.lock();
        let same = self.current.lock().served.as_ref().map(Arc::as_ptr) == judged.map(Arc::as_ptr);
        if same {
            self.publish_in(&mut compiler, zones);
            // Before the compiler is free: whatever is published next says itself what is held.
            self.current.lock().counts.held = 1;
        }
        same
    }

    fn publish_in(&self, compiler: &mut Compiler, zones: Arc<Zones>) {
        self.compile(compiler, &zones, false);
        let count = zones.zones.len();
        self.current.lock().served = Some(zones);
        if count > 0 {
            self.health.ready(ZONES);
        }
    }

    /// Since 1970; until 2106 (RFC 4034 section 3.1.5 counts on from there in a circle, which zones served now need not).
    fn seconds(&self) -> u32 {
        let seconds = (clock::unix_ms() / 1000).saturating_add(self.ahead.load(Relaxed));
        u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
    }

    fn zone_state(&self) -> ZoneState {
        let current = self.current.lock();
        let (epoch, zones) = current
            .served
            .as_ref()
            .map(|served| (served.epoch, served.zones.len() as u64))
            .unwrap_or_default();
        let age = if current.counts.connected {
            Some(0)
        } else {
            current.confirmed.map(|at| at.elapsed().as_secs())
        };
        ZoneState { epoch, zones, age_seconds: age, ..current.counts }
    }
}

/// Does what may take seconds, as a large zone does whose every signature is made: whoever else waits for this thread, such as the clients of
/// connections, goes on meanwhile with another one, if the runtime has others.
fn block_in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
