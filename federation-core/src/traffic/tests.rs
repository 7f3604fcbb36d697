//! Behaviour of traffic.
