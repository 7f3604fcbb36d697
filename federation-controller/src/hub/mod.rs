//! The gRPC server that agents and DNS servers dial.

pub(crate) mod enrollment;
pub(crate) mod identity;
pub(crate) mod zones;
