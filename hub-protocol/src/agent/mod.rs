//! The agent's side: the desired state with its fences, and the session.

mod backoff;
mod desired;
mod heartbeats;
mod isolation;
mod leases;
mod outbox;
mod refusals;
mod session;
mod survivors;

pub use backoff::Backoff;
pub use desired::{Desired, Entry, State};
pub use session::{Action, Config, Facts, Outcome, Persist, Session, Vitals};
