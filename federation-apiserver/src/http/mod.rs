//! The HTTP side of the API: bodies, paths, queries, content negotiation. Nothing here knows a kind.

pub(crate) mod body;
pub(crate) mod compress;
pub(crate) mod info;
pub(crate) mod negotiate;
pub(crate) mod query;
pub(crate) mod respond;
pub(crate) mod websocket;

pub use body::Body;
pub(crate) use body::BoxError;
