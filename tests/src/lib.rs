//! End-to-end tests: real processes, real Kubernetes, real resolvers.
