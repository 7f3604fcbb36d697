//! Kubernetes API semantics, pure: names, selectors, patches, field ownership, status errors.
//!
//! Everything here is a function of `serde_json::Value`s: no clock, no randomness, no I/O. Times and random bytes are
//! passed in. The texts of errors are those of kube-apiserver, as clients and scripts match on them.
//!
//! - [`names`], [`meta`]: what objects, labels and annotations may be called.
//! - [`field`], [`status`]: faults of fields, and the `Status` that tells them.
//! - [`labels`], [`fields`]: selectors.
//! - [`patch`]: JSON patch, merge patch, strategic merge patch.
//! - [`apply`](mod@apply): server-side apply and `managedFields`.
//! - [`table`], [`jsonpath`], [`duration`]: what `kubectl get` shows.
//! - [`json`]: what messages call the types of values.
//! - [`order`]: which member of an object comes first.
//! - [`addresses`]: addresses and networks.
//! - [`quantity`]: amounts of resources.
//! - [`go_duration`]: durations such as `1h30m`, in objects and in flags.
//! - [`rfc3339`]: times, as Go reads and writes them.
//! - [`formats`]: formats of texts that schemas and expressions know.

pub mod addresses;
pub mod apply;
pub mod duration;
pub mod field;
pub mod fields;
pub mod formats;
pub mod go_duration;
pub mod json;
pub mod jsonpath;
pub mod labels;
pub mod meta;
pub mod names;
pub mod numbers;
pub mod order;
pub mod patch;
pub mod quantity;
pub mod rbac;
pub mod rfc3339;
pub mod status;
pub mod table;
pub mod yaml;

pub use field::{FieldError, FieldPath, FieldReason};
pub use status::ApiError;
