//! The two ends of one stream between the hub and a member's agent, as sans-IO machines.
//!
//! Both machines are pure: messages, outcomes and the time (`now`, milliseconds of any monotonic clock) go in; messages, events
//! and actions come out. No sockets, no clock, no randomness but what is passed in, so the tests run thousands
//! of seeded worlds with delays, stalls, broken connections and restarts of either side in seconds.
//!
//! ```text
//!  controller ── set_desired, request_removal ─▶ hub::Session ══ Apply, Remove, Digest ═▶ agent::Session ── Action ─▶ executor
//!  controller ◀────────── hub::Event ─────────── hub::Session ◀═ Applied, Status, … ════ agent::Session ◀─ outcomes ─ executor
//! ```
//!
//! What they promise together:
//!
//! - Nothing is removed because it is absent: an item that the hub does not know is told in [`hub::Event::Strays`], nothing more. Only a
//!   [`Remove`](proto::v1::Remove) with a permit, for the very uid, with an epoch that is not older, removes a copy.
//! - A permit is good for the stream on which it was given, and until the federation freezes: after that the gate is asked again
//!   ([`hub::Event::Lapsed`]). An agent refuses one that it knows to be void, and stops carrying it out.
//! - An older `(epoch, generation)` never overwrites a newer one: [`agent::Desired`] is the fence.
//! - A hub that comes back with another store or an older epoch freezes removals at the agent.
//! - Either side may forget everything that is not on its disk at any time; digests find the difference, and
//!   what is missing is sent again.
//!
//! [`plans`] are what an agent does at each loss when the hub is away, and [`agreement`] is when.
//!
//! [`zones`] is of the other stream, to the dns-lbs: changes of zones in place of whole ones.
//!
//! [`agent::Desired`] is what stands on the agent's disk. The hub keeps its table in memory only: after a restart the
//! controller gives it anew, and until it says [`hub::Session::desired_complete`] nothing is called a stray.

pub mod agent;
pub mod agreement;
mod digest;
pub mod hub;
mod key;
pub mod plans;
mod sight;
pub mod zones;

pub use digest::{Digest, content_hash, item_hash};
pub use key::Key;
pub use sight::Sight;

/// How often an agent sends a heartbeat unless the hub asks otherwise, milliseconds.
pub const HEARTBEAT_MS: u32 = 1000;

/// Largest message of a stream, octets, either way: whoever is sent a larger one ends the stream. Objects of a kube-apiserver are under
/// 1.5 MiB, which is what etcd takes in a request, but a hub of an earlier version bounded none: see [`MANIFEST_LIMIT`]. Lists come in
/// pages: see [`ITEMS`].
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// Largest manifest that an agent is sent, octets: the rest of an Apply, of which the key is nearly all, takes some 1,200 of
/// [`MESSAGE_LIMIT`].
pub const MANIFEST_LIMIT: usize = MESSAGE_LIMIT - (64 << 10);

/// Reason of an `Applied` that the hub's session says itself: the manifest is over [`MANIFEST_LIMIT`], and is not sent.
pub const TOO_LARGE: &str = "TooLarge";

/// Items in one message of a digest's answer. An item takes about 150 octets, and 1,100 at most, by Kubernetes' limits of names: so these are
/// less than 5 MiB of [`MESSAGE_LIMIT`], and heartbeats find their way between them.
pub const ITEMS: usize = 4096;

/// Reason of an `Applied` that the agent's fence refused: it holds a newer `(epoch, generation)`.
pub const FENCED: &str = "Fenced";

/// Why a removal is refused whose permit was given before a freeze.
pub const VOID: &str = "the federation froze after the gate permitted this: the gate is to be asked again";

/// Reason of an Applied whose copy is stopped because the lease on it has lapsed.
pub const LEASE_LAPSED: &str = "LeaseLapsed";
