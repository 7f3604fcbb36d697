//! Where zones come from: the hub's stream, and the disk while the hub is away.

mod alone;
mod client;
mod connections;
mod disk;
mod fence;
mod meeting;
mod talk;
mod votes;

pub(crate) use alone::alone;
pub use alone::look;
pub use client::{Client, Hub};
pub use disk::{Disk, DiskError, Memory};
pub use fence::{Fence, Held, Offer, Refused};
pub use meeting::Meeting;
pub use talk::Talk;
