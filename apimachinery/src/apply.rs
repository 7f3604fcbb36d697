//! Server-side apply (KEP-555): many writers of one object, each owning the fields it set.
//!
//! An object is seen through an [`ObjectType`]: a [`Schema`] says which lists and maps are one value and which have owners
//! item by item; without one, maps are separable and lists atomic ([`ObjectType::deduced`]). [`apply()`] merges a
//! configuration into the live object, refuses what others own, and removes what the manager owned and no longer names.
//! [`update()`] does the book-keeping of every other write. Both keep `metadata.managedFields`.

mod compare;
mod fieldset;
mod last_applied;
mod managed;
mod merge;
mod ownership;
mod schema;
mod typed;

pub use compare::Comparison;
pub use fieldset::{DecodeError, FieldSet, PathElement, path_text};
pub use last_applied::apply_after_kubectl;
pub use managed::{
    MAX_UPDATE_MANAGERS, ManagedEntry, ManagedError, Operation, Owner, managed_fields, remove_managed_fields,
};
pub use ownership::{ApplyError, Conflict, Conflicts, Manager, apply, record_update, update};
pub use schema::{
    Atom, ListType, MapType, ObjectType, Relationship, Scalar, Schema, StructField, TypeRef, Versions,
};
pub use typed::Duplicates;
