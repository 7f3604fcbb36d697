//! Kubernetes API semantics, pure: names, selectors, patches, field ownership, status errors.

pub mod apply;
pub mod field;
pub mod fields;
pub mod labels;
pub mod meta;
pub mod names;
pub mod patch;
pub mod quantity;
pub mod status;

pub use field::{FieldError, FieldPath, FieldReason};
pub use status::ApiError;
