//! The authoritative DNS server of the federation.
