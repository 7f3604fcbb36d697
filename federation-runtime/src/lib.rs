//! What every part needs to run: PKI, TLS, logging, metrics, health endpoints, shutdown.
