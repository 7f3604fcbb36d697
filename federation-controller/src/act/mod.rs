//! What is done about it: writes to the federation's API.

pub(crate) mod write;
