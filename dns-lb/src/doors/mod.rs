//! The ways in besides UDP: TCP, on tokio.
//!
//! Each door has a [`Gate`] that bounds how many clients are inside, and all of them carry their queries to a [`Desk`], which answers
//! with the same function as the UDP threads.

mod desk;
mod gate;
mod listen;
mod stream;

pub use desk::Desk;
pub use gate::{Gate, Limits, Pass};
pub use listen::{bind, listen};
pub use stream::{Stream, serve};
