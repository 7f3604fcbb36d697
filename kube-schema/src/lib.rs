//! The published Kubernetes schemas as data: OpenAPI documents, merge keys, protobuf transcoding.
//!
//! Nothing here knows a kind by name. Three facts of each built-in kind come from the published sources and are embedded,
//! compressed (NOTICE tells their origin, `cargo xtask codegen` makes them anew):
//!
//! - its OpenAPI definition ([`Schemas`]), from which follow the rules of strategic merge ([`Schemas::merge_rule`]), the checks of
//!   decoding ([`Schemas::validate`]) and the documents that clients ask for ([`openapi`]);
//! - its protobuf message ([`protobuf`]), in both directions.
//!
//! Kinds that are not built in bring a schema of their own: [`structural`] is what Kubernetes makes of that.
//!
//! ```
//! use kube_schema::{Schemas, protobuf};
//! let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
//! let report = Schemas::builtin().validate("", "v1", "ConfigMap", &object).unwrap();
//! assert!(report.unknown.is_empty());
//! let body = protobuf::encode_object(&object).unwrap();
//! assert_eq!(protobuf::decode(&body).unwrap().1, object);
//! ```

mod bounds;
mod canonical;
mod cel;
mod data;
mod duplicates;
mod json;
mod merge;
mod omitted;
pub mod openapi;
mod ownership;
pub mod protobuf;
mod schemas;
pub mod structural;
mod times;
mod validate;
mod zero;

pub use canonical::Empties;
pub use duplicates::{duplicate_fields, strict_faults};
pub use schemas::{MergeRule, Schemas};
pub use times::describe_time_fault;
pub use validate::{Mismatch, Report, decode_base64};
