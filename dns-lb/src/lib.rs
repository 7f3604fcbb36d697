//! The authoritative DNS server of the federation: answers are compiled when the zone changes, not when a query arrives.
//!
//! ```text
//!  hub ──ZoneUpdate──► hub/ (fence, disk) ──► zone/ (validate) ──► compile/ (encode once) ──► publish (swap)
//!                                                                                               │ one Arc
//!  resolvers ──UDP──► udp/ one socket and thread per core ──► answer/hot ◄──────────────────────┤
//!       ──TCP, TLS, HTTPS, QUIC──► transport/ on tokio ───────────────────► answer/hot, answer/cold ◄────────┘
//! ```
//!
//! - [`wire`]: names and numbers.
//! - [`zone`]: what the hub says, validated; a whole update or nothing.
//! - [`compile`]: each (name, type) in wire form, in a table of all names.
//! - [`dnssec`]: signatures, made at that time too.
//! - [`answer`]: one function from a query's octets to the answer's. The hot path neither allocates nor locks; what has not the
//!   usual form goes to the cold path, which uses hickory-proto on the same octets and reads the model instead of the compiled form.
//!   Tests hold the two against each other.
//! - [`publish`]: the swap; a thread looks once per batch.
//! - [`udp`], [`transport`]: the sockets. The unsafe code is in `udp/mmsg.rs`, but for system calls in `heap.rs`, `descriptors.rs` and `takeover/`.
//! - [`transfer`]: whole zones for secondaries, and NOTIFY.
//! - [`takeover`]: sockets from the version before, and to the next one.
//! - [`tap`]: the log of queries, and dnstap.
//! - [`hub`]: the stream from the hub, the fence that an older epoch does not pass, and the disk. [`state`] ties them together.
//! - [`metrics`]: counters per thread.
//!
//! It runs as [`Options`] → [`Service::bind`] → [`Service::run`]; [`run`] is the two in one.

pub mod answer;
mod bind;
pub mod client;
pub mod compile;
mod descriptors;
pub mod dnssec;
mod heap;
pub mod hub;
mod lease;
pub mod metrics;
mod options;
pub mod publish;
mod service;
pub mod state;
pub mod takeover;
pub mod tap;
pub mod transfer;
pub mod transport;
pub mod udp;
pub mod wire;
pub mod zone;

pub use options::Options;
pub use service::{Error, Service, run};
