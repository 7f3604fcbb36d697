//! Observe, decide, act; and the hub that agents and dns-lb dial.
