//! The authoritative DNS server of the federation: answers are compiled when the zone changes, not when a query arrives.
//!
//! ```text
//!  hub ──ZoneUpdate──► hub/ (fence, disk) ──► zone/ (validate) ──► compile/ (encode once) ──► publish (swap)
//!                                                                                               │ one Arc
//!  resolvers ──UDP──► udp/ one socket and thread per core ──► answer/hot ◄──────────────────────┤
//!       ──TCP, TLS, HTTPS, QUIC──► transport/ on tokio ───────────────────► answer/hot, answer/cold ◄────────┘
//! ```
//!
//! - `wire`: names and numbers.
//! - `zone`: what the hub says, validated; a whole update or nothing.
//! - `compile`: each (name, type) in wire form, in a table of all names.
//! - `dnssec`: signatures, made at that time too.
//! - `answer`: one function from a query's octets to the answer's. The hot path neither allocates nor locks; what has not the
//!   usual form goes to the cold path, which uses hickory-proto on the same octets and reads the model instead of the compiled form.
//!   Tests hold the two against each other.
//! - `publish`: the swap; a thread looks once per batch.
//! - `udp`, `transport`: the sockets. The unsafe code is in `udp/mmsg.rs`, but for system calls in `heap.rs`, `descriptors.rs` and `takeover/`.
//! - `transfer`: whole zones for secondaries, and NOTIFY.
//! - `takeover`: sockets from the version before, and to the next one.
//! - `tap`: the log of queries, and dnstap.
//! - `hub`: the stream from the hub, the fence that an older epoch does not pass, and the disk. `state` ties them together.
//! - `metrics`: counters per thread.
//!
//! It runs as [`Options`] → [`Service::bind`] → [`Service::run`]; [`run`] is the two in one.

mod answer;
mod bind;
mod client;
mod compile;
mod descriptors;
mod dnssec;
mod heap;
mod hub;
mod lease;
mod metrics;
mod options;
mod publish;
mod service;
mod state;
mod takeover;
mod tap;
mod transfer;
mod transport;
mod udp;
mod wire;
mod zone;

pub use answer::CookiePolicy;
pub use client::Prefix;
pub use options::Options;
pub use service::{Error, Service, run};
pub use state::State;
pub use tap::TapOptions;
pub use transfer::Notify;
pub use transport::{EncryptedAddresses, EncryptedOptions};
pub use udp::Limit;

/// The inside of this crate, for its own tests and examples and for the simulation. Nobody else may use it.
#[doc(hidden)]
pub mod testing {
    pub mod answer {
        pub use crate::answer::*;
    }
    pub mod client {
        pub use crate::client::*;
    }
    pub mod compile {
        pub use crate::compile::*;
    }
    pub mod dnssec {
        pub use crate::dnssec::*;
    }
    pub mod hub {
        pub use crate::hub::*;
    }
    pub mod metrics {
        pub use crate::metrics::*;
    }
    pub mod publish {
        pub use crate::publish::*;
    }
    pub mod state {
        pub use crate::state::*;
    }
    pub mod takeover {
        pub use crate::takeover::*;
    }
    pub mod tap {
        pub use crate::tap::*;
    }
    pub mod transfer {
        pub use crate::transfer::*;
    }
    pub mod transport {
        pub use crate::transport::*;
    }
    pub mod udp {
        pub use crate::udp::*;
    }
    pub mod wire {
        pub use crate::wire::*;
    }
    pub mod zone {
        pub use crate::zone::*;
    }
}
