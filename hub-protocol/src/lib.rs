//! Hub and agent sessions as sans-IO machines.
