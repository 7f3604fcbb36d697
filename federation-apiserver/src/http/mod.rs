//! The HTTP side of the API: bodies, paths, queries, content negotiation. Nothing here knows a kind.

pub mod body;
pub mod info;
pub mod negotiate;
pub mod query;
pub mod respond;
pub mod websocket;

pub use body::{Body, BoxError};
