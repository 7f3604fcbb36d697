//! Calls from this server to others: webhooks.
//!
//! A [`Server`] is one of them, with its authority, our credentials for it and a few kept connections; [`Place`] says how it is
//! found. Nothing follows redirects, and what is read of an answer is bounded.

mod client;
mod place;

pub(crate) use client::{Credentials, Server};
pub(crate) use place::Place;
