//! Where zones come from: the hub's stream, and the disk while the hub is away.

mod client;
mod connections;
mod disk;
mod fence;
mod meeting;
mod session;
mod votes;
mod without_hub;

pub use client::{Client, Hub};
pub use disk::{Disk, DiskError, Memory};
pub use fence::{Fence, Held, Offer, Refused};
pub use meeting::Meeting;
pub use session::Session;
pub use without_hub::review_withdrawals;
pub(crate) use without_hub::without_hub;
