//! Who asks, and whether they may.

pub mod authn;
pub mod authz;
pub mod tokens;

/// An authenticated user, or the anonymous one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Groups, `system:authenticated` or `system:unauthenticated` among them.
    pub groups: Vec<String>,
}

/// Members may do everything.
pub const MASTERS: &str = "system:masters";
/// The federation's own controllers.
pub const CONTROLLERS: &str = "federation:controllers";
/// Everybody with a credential.
pub const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

impl User {
    /// A user with a credential.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.push(AUTHENTICATED.to_owned());
        Self { name: name.into(), groups }
    }

    /// `system:anonymous`.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec![UNAUTHENTICATED.to_owned()] }
    }

    /// The administrator, for callers in this process.
    pub fn in_process() -> Self {
        Self::new("federation:in-process", [MASTERS.to_owned()])
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
