//! Member clusters without Kubernetes, for the demo and for fast tests.
