//! Kubernetes API semantics, pure: names, selectors, patches, field ownership, status errors.
