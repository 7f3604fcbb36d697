//! Who a certificate speaks for: the Kubernetes convention of user in CN and groups in O.

/// DNS name that the hub's certificate carries, wherever the hub listens.
pub const HUB_NAME: &str = "federation-hub";

/// DNS name that the certificates of DNS servers carry, wherever they listen.
pub const DNS_NAME: &str = "federation-dns";
/// CN of dns-lbs; one with a name of its own has it behind this and a colon.
const DNS: &str = "federation:dns-lb";

/// In front of a Cluster's uid in the URI name of an agent's certificate (RFC 9562, section 4).
pub(super) const UID: &str = "urn:uuid:";

/// A user name and its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// CN.
    pub user: String,
    /// O, repeated.
    pub groups: Vec<String>,
    /// uid of the Cluster that an agent speaks for, a URI in the subject's alternative names. Empty for everybody else.
    pub uid: String,
}

impl Subject {
    fn new(user: impl Into<String>, group: &str) -> Self {
        Self { user: user.into(), groups: vec![group.into()], uid: String::new() }
    }

    /// The administrator.
    pub fn admin() -> Self {
        Self::new("admin", "system:masters")
    }

    /// federation-controller, as a client of the API and as the hub.
    pub fn controller() -> Self {
        Self::new("federation:controller", "federation:controllers")
    }

    /// Every dns-lb that has no name of its own: they have one vote together.
    pub fn dns() -> Self {
        Self::new(DNS, "federation:dns")
    }

    /// A dns-lb with a vote of its own.
    pub fn dns_named(name: &str) -> Self {
        Self::new(format!("{DNS}:{name}"), "federation:dns")
    }

    /// Names that every certificate of this subject is valid for.
    pub(super) fn names(&self) -> Vec<String> {
        let rest = self.user.strip_prefix(DNS);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
            vec![DNS_NAME.to_owned()]
        } else {
            Vec::new()
        }
    }

    /// The API server's own serving identity.
    pub fn apiserver() -> Self {
        Self::new("federation-apiserver", "federation:servers")
    }

    /// The API server where it speaks for its users to the servers of group versions behind it.
    pub fn front_proxy() -> Self {
        Self { user: "front-proxy-client".into(), groups: Vec::new(), uid: String::new() }
    }

    /// The agent of a member cluster. Names are used again, uids are not: `uid` is the Cluster object's, so that who left does not come back
    /// as the next one of its name.
    pub fn agent(cluster: &str, uid: &str) -> Self {
        Self { uid: uid.into(), ..Self::new(format!("federation:agent:{cluster}"), "federation:agents") }
    }
}
