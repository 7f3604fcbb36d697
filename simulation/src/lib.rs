//! The whole federation in one thread: the hub with its controller and store, agents with their members, DNS servers, and users.
//!
//! Nothing is played here that decides: the controller is the real one without its doors (`federation_controller::machine`), agents are
//! the real sessions, DNS servers the real state behind the real fence, probers the real machines. Played are the API's store,
//! the members' own controllers and pods, the network, the disks, and time: each machine has clocks of its own, which run too fast or too slow.
//! A seed says what users do, what breaks and when, and how long everything takes; the same seed is the same world, to the last step.
//!
//! ```text
//!  users ─▶ store ══ watches ══▶ controller ══ streams ══▶ agents ─▶ members
//!             ▲ writes ─────────────┘  ╚══ zones ══▶ DNS servers ◀─ users
//! ```
//!
//! At every step (`check`): no copy is removed without a permit, nor unless somebody asked for that; no older epoch is applied, by members
//! or DNS servers; no user gets an empty answer, or is newly sent to a copy that may be gone; what may run in one cluster at a time runs in one. When faults stop,
//! everything agrees within a bounded time.
//!
//! Most worlds are of some kinds of faults at random; others tell a [`Story`] that would take thousands of those to happen.
//!
//! [`Bug`] lists bugs that are planted around the parts, and the check that catches each.

mod agree;
mod anew;
mod bug;
mod check;
mod clock;
mod dice;
mod disk;
mod faults;
mod hearing;
mod hold;
mod hub;
mod jobs;
mod known;
mod member;
mod net;
mod outage;
mod pipe;
mod run;
mod server;
mod site;
mod store;
mod story;
mod talk;
mod users;
mod world;

pub use bug::Bug;
pub use check::Violation;
pub use run::{Case, OnFailure, Outcome, catch, replay, run};
pub use story::Story;
pub use world::{Tally, World};
