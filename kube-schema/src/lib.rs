//! The published Kubernetes schemas as data: OpenAPI documents, merge keys, protobuf transcoding.
mod data;
pub mod protobuf;
