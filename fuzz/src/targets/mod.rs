//! What is fuzzed.

mod api;
mod cel;
mod configurations;
mod identities;
mod objects;
mod sessions;
mod texts;
mod zones;

use crate::dice::Dice;

/// Makes one input of the dice, and says what was wrong with what came of it.
pub(crate) type Case = Box<dyn FnMut(&mut Dice) -> Result<(), String>>;

/// One reader.
pub(crate) struct Target {
    /// For `--only`.
    pub(crate) name: &'static str,
    /// What it reads.
    pub(crate) what: &'static str,
    /// Makes what is kept from one input to the next.
    pub(crate) make: fn() -> Case,
}

/// All of them. Those that take longest to set up come first.
pub(crate) const ALL: &[Target] = &[
    Target { name: "api", what: "requests to the API server, and the events of watches", make: api::api },
    Target { name: "apply", what: "server-side apply, and sets of fields", make: objects::apply },
    Target { name: "strategic", what: "strategic merge patches", make: objects::strategic },
    Target { name: "protobuf", what: "protobuf of built-in kinds, in and out", make: objects::protobuf },
    Target { name: "validation", what: "objects against the published schemas", make: objects::validation },
    Target {
        name: "definitions",
        what: "structural schemas of custom kinds, with rules",
        make: objects::definitions,
    },
    Target { name: "patches", what: "JSON patches and merge patches", make: objects::patches },
    Target { name: "cel", what: "the Common Expression Language", make: cel::cel },
    Target { name: "labels", what: "label selectors", make: texts::labels },
    Target { name: "fields", what: "field selectors", make: texts::fields },
    Target { name: "quantities", what: "amounts of resources", make: texts::quantities },
    Target { name: "durations", what: "Go's durations", make: texts::durations },
    Target { name: "jsonpath", what: "paths of columns", make: texts::jsonpath },
    Target { name: "yaml", what: "YAML", make: texts::yaml },
    Target {
        name: "kubeconfigs",
        what: "kubeconfigs of servers that are asked",
        make: configurations::kubeconfigs,
    },
    Target {
        name: "issuers",
        what: "OpenID Connect: configurations, keys, ID tokens and their claims",
        make: configurations::issuers,
    },
    Target { name: "enrollment", what: "how clusters join", make: identities::enrollment },
    Target { name: "tokens", what: "JSON web tokens", make: identities::tokens },
    Target {
        name: "certificates",
        what: "certificates and requests for them",
        make: identities::certificates,
    },
    Target { name: "sessions", what: "gRPC messages of hub and agents", make: sessions::sessions },
    Target { name: "zones", what: "gRPC messages with zones, and zone files", make: zones::zones },
];

/// Compares what must be the same.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, one: &T, other: &T) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("{what}:\n  {one:?}\n  {other:?}")) }
}
