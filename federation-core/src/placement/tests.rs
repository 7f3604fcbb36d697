//! Behaviour of placement.
