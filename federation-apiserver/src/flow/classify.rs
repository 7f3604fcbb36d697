//! Which FlowSchema a request belongs to, and what its priority level may have.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use apimachinery::rbac::Attributes;
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::{
    rule::{Rule, list},
    seats::{Limits, Queuing},
};
use crate::{
    auth::User,
    cache::{Checked, Collection},
    store::{ResourceKey, Snapshot, Storage},
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// More queues than this are not made, whatever a level asks for.
const QUEUES_MAX: u64 = 10_000;
/// Nor are larger hands dealt: 60 bits deal no more of two queues and up.
const HAND_MAX: u64 = 60;

/// The class of a request.
#[derive(Clone, Debug)]
pub(crate) struct Classification {
    schema: Arc<Schema>,
    flow: u64,
}

impl Classification {
    /// Adds the headers that tell it.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.schema.schema_uid.clone());
        headers.insert(LEVEL_UID, self.schema.level_uid.clone());
    }

    /// The schema's name.
    pub(super) fn schema(&self) -> &str {
        &self.schema.name
    }

    /// The level's name.
    pub(super) fn level(&self) -> &str {
        &self.schema.level
    }

    /// What tells its flow from others of the level.
    pub(super) fn flow(&self) -> u64 {
        self.flow
    }

    /// Whether it is never kept waiting.
    pub(super) fn is_exempt(&self) -> bool {
        self.schema.exempt
    }
}

/// Tells flows apart: the same number for the same texts as long as the process lives.
pub(super) fn flow_of(texts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    hasher.finish()
}

/// One FlowSchema whose level there is.
#[derive(Debug)]
struct Schema {
    precedence: i64,
    name: String,
    rules: Vec<Rule>,
    distinguisher: Distinguisher,
    level: Arc<str>,
    exempt: bool,
    schema_uid: HeaderValue,
    level_uid: HeaderValue,
}

/// What makes flows of a schema's requests.
#[derive(Clone, Copy, Debug)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

/// The schemas of one state of the store.
#[derive(Default)]
struct Table {
    schemas: Vec<Arc<Schema>>,
    levels: Vec<(Arc<str>, Limits)>,
    read: [Collection; 2],
    checked: Checked,
}

/// The schemas as they are now.
#[derive(Default)]
pub(crate) struct Classifier {
    table: ArcSwap<Table>,
    /// The levels have changed since somebody asked.
    changed: AtomicBool,
}

static KEYS: LazyLock<[ResourceKey; 2]> = LazyLock::new(|| {
    ["flowschemas", "prioritylevelconfigurations"].map(|resource| ResourceKey::new(GROUP, resource))
});

impl Classifier {
    /// The class of a request; none if no schema fits.
    pub(crate) fn class(
        &self,
        storage: &Storage,
        user: &User,
        asked: &Attributes<'_>,
    ) -> Option<Classification> {
        self.table(storage).find(user, asked)
    }

    /// Reads the schemas and levels again if they are others by now.
    pub(super) fn renew(&self, storage: &Storage) {
        self.table(storage);
    }

    fn table(&self, storage: &Storage) -> Arc<Table> {
        let snapshot = storage.snapshot();
        let mut table = self.table.load_full();
        if !table.is_of(&snapshot) {
            let next = Arc::new(Table::read(&snapshot));
            let changed = next.levels != table.levels;
            table = next;
            self.table.store(Arc::clone(&table));
            if changed {
                self.changed.store(true, Ordering::Release);
            }
        }
        table
    }

    /// The levels, if they have changed since they were asked for.
    pub(super) fn changed_levels(&self) -> Option<Vec<(Arc<str>, Limits)>> {
        self.changed.swap(false, Ordering::AcqRel).then(|| self.table.load().levels.clone())
    }
}

impl Table {
    fn read(snapshot: &Snapshot) -> Self {
        let [schemas, levels] = &*KEYS;
        let found = snapshot.range(schemas, None, None).filter_map(|stored| {
            let spec = stored.value().ok()?["spec"].take();
            let name = spec["priorityLevelConfiguration"]["name"].as_str()?;
            let level = snapshot.get(&crate::store::Key::new(levels.clone(), "", name))?;
            let exempt = level.value().ok()?["spec"]["type"] == "Exempt";
            let level_name: Arc<str> = name.into();
            let rules = list(&spec, "rules").map(Rule::read).collect();
            Some(Arc::new(Schema {
                precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
                name: stored.key.name.clone(),
                rules,
                distinguisher: match spec["distinguisherMethod"]["type"].as_str() {
                    Some("ByUser") => Distinguisher::User,
                    Some("ByNamespace") => Distinguisher::Namespace,
                    _ => Distinguisher::None,
                },
                level: level_name,
                exempt,
                schema_uid: HeaderValue::from_str(&stored.meta.uid).ok()?,
                level_uid: HeaderValue::from_str(&level.meta.uid).ok()?,
            }))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by(|one, other| (one.precedence, &one.name).cmp(&(other.precedence, &other.name)));
        let limits = snapshot.range(levels, None, None).filter_map(|stored| {
            let spec = stored.value().ok()?["spec"].take();
            Some((Arc::from(stored.key.name.as_str()), limits(&spec)?))
        });
        Self {
            schemas: found,
            levels: limits.collect(),
            read: KEYS.each_ref().map(|key| snapshot.collection(key)),
            checked: Checked::at(snapshot),
        }
    }

    fn is_of(&self, snapshot: &Snapshot) -> bool {
        let same = || KEYS.iter().zip(&self.read).all(|(key, read)| snapshot.collection(key).same(read));
        self.checked.holds(snapshot, same)
    }

    fn find(&self, user: &User, asked: &Attributes<'_>) -> Option<Classification> {
        let schema =
            self.schemas.iter().find(|schema| schema.rules.iter().any(|rule| rule.fits(user, asked)))?;
        let distinguisher = match schema.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => asked.namespace,
        };
        Some(Classification { schema: Arc::clone(schema), flow: flow_of(&[&schema.name, distinguisher]) })
    }
}

/// What a PriorityLevelConfiguration allows; none if everything. Defaults are those of its API.
fn limits(spec: &Value) -> Option<Limits> {
    if spec["type"] == "Exempt" {
        return None;
    }
    let limited = &spec["limited"];
    let number = |value: &Value, default: u64| value.as_u64().unwrap_or(default);
    let response = &limited["limitResponse"];
    let queuing = (response["type"] == "Queue").then(|| {
        let queuing = &response["queuing"];
        Queuing {
            queues: number(&queuing["queues"], 64).clamp(1, QUEUES_MAX) as usize,
            hand: number(&queuing["handSize"], 8).clamp(1, HAND_MAX) as usize,
            length: number(&queuing["queueLengthLimit"], 50) as usize,
        }
    });
    Some(Limits {
        // The API's integers have 32 bits.
        shares: number(&limited["nominalConcurrencyShares"], 30).min(i32::MAX as u64),
        lendable_percent: number(&limited["lendablePercent"], 0).min(100),
        borrowing_percent: limited["borrowingLimitPercent"]
            .as_u64()
            .map(|percent| percent.min(i32::MAX as u64)),
        queuing,
    })
}
