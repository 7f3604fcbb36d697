//! The patch formats of `PATCH`, apart from server-side apply.

mod go;
pub mod json;
pub mod merge;
pub mod strategic;

pub(crate) use go::as_source;
pub use go::printed;

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is not of the format that its media type names: 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch is well formed and does not fit the object (a failed test, a missing path): 422.
    #[error("{0}")]
    Failed(String),
    /// The patch is not what it should be in a way for which kube-apiserver has no code: 500.
    #[error("{0}")]
    Unexpected(String),
    /// The patch has more operations than allowed: 413.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {got}")]
    TooManyOperations {
        /// Operations in the patch.
        got: usize,
        /// Operations allowed.
        max: usize,
    },
}
