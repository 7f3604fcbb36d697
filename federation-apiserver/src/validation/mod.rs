//! Defaults and rules that several kinds share.

pub(crate) mod pod;
