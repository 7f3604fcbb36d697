//! Sockets that another process has bound: those of the version before this one, or of systemd.
//!
//! ```text
//!  old                                      new
//!   │ listens at --takeover PATH             │
//!   │◄──────────────────── connects ─────────│
//!   │ applies no more updates                │
//!   │─── sockets (SCM_RIGHTS), then E ──────►│ reads the zones on disk, answers on the same sockets
//!   │◄───────────────────── R ───────────────│
//!   │─── D ─────────────────────────────────►│ listens at PATH
//!   │ answers what it has taken, and ends    │
//! ```
//!
//! Both answer for a moment, from the same zones and the same queues: no queue is ever without a reader, and none is closed with something
//! in it. If the new one ends before it says R, the old one goes on as if nothing had been.

mod environment;
mod inherited;
mod predecessor;
mod successor;

pub use environment::of_environment;
pub use inherited::Inherited;
pub use predecessor::Predecessor;
pub use successor::SuccessorListener;

/// A socket follows.
const SOCKET: u8 = b'F';
/// Those were all.
const END: u8 = b'E';
/// The new one answers.
const READY: u8 = b'R';
/// The old one takes nothing more.
const DONE: u8 = b'D';
