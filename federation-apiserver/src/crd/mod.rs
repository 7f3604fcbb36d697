//! CustomResourceDefinitions: kinds that come and go while the server runs.
//!
//! ```text
//! POST a definition → validate, default → stored → status: names accepted, established → stored → the answer, which shows the first state
//!        next request → registry::Catalog reads the definitions that changed → Definition → a Kind for each served version
//!                     → discovery, OpenAPI, Table and verbs, as for the kinds of the table
//! DELETE            → marked, with a finalizer → housekeeping removes the instances, then the definition
//! ```
//!
//! - [`definition`]: reads the stored object as the kinds that it adds;
//! - [`conversion`]: converts objects between versions by a webhook;
//! - [`custom`]: what such a kind adds to the steps of a request: pruning, defaults, validation, columns, scale paths;
//! - [`finalizers`]: what the writers of such objects are warned of;
//! - [`kinds`], [`validate`], [`structural_schema`]: the kind CustomResourceDefinition itself;
//! - [`status`]: which names are accepted, and the conditions that show it.
//!
//! A definition is established before its creation is answered, not some time later: clients need not wait. Should the server end between the
//! two writes, housekeeping does the second one after the restart.

pub(crate) mod conversion;
pub(crate) mod custom;
mod definition;
mod finalizers;
mod intern;
mod kinds;
pub(crate) mod status;
mod structural_schema;
mod validate;

pub(crate) use custom::{Custom, Part};
pub(crate) use definition::{Definition, version_precedence};
pub(crate) use kinds::KINDS;
pub(crate) use status::TakenNames;

/// The API group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
/// Their resource.
pub(crate) const PLURAL: &str = "customresourcedefinitions";
/// The finalizer that holds a deleted definition until its instances are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whether a kind is that of definitions.
pub(crate) fn is_definition(kind: &crate::registry::Kind) -> bool {
    kind.group == GROUP && kind.plural == PLURAL
}
