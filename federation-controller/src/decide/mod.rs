//! What should be: inputs for the pure functions of `federation-core`, object by object.

pub(crate) mod queue;
