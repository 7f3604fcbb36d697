//! Acting: writes to the federation's API.

pub(crate) mod api;
pub(crate) mod clusters;
pub(crate) mod contingency_log;
pub(crate) mod events;
pub(crate) mod safety;
pub(crate) mod statuses;
pub(crate) mod unfreezes;
pub(crate) mod write;
