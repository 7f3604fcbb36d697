//! The identity of a caller: the subject of its client certificate, never what the message says.

use tonic::{Request, Status};

use federation_core::membership::Shown;
use federation_runtime::pki::{Peer, Subject};

/// The caller's certificate, if it showed one. The TLS layer has verified it against the federation's CA.
pub(crate) fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let certificates = request.peer_certs().ok_or_else(|| {
        Status::unauthenticated("a client certificate is needed: join the federation first (`fedctl join`)")
    })?;
    let certificate = certificates.first().ok_or_else(|| {
        Status::unauthenticated("a client certificate is needed: join the federation first (`fedctl join`)")
    })?;
    Peer::from_der(certificate)
        .map_err(|error| Status::unauthenticated(format!("client certificate: {error}")))
}

/// What the calling agent shows of its membership. Whether it is a member, [`World::member`](crate::observe::World::member) says.
pub(crate) fn agent(peer: &Peer) -> Result<Shown, Status> {
    let shown = |cluster: &str| Shown {
        cluster: cluster.to_owned(),
        uid: peer.uid.clone(),
        signed_s: peer.agent_signed_at(),
    };
    peer.agent().map(shown).ok_or_else(|| {
        Status::permission_denied(format!("{} is not an agent: its certificate names no cluster", peer.user))
    })
}

/// The subject of the calling DNS server: its voice among the probers.
pub(crate) fn dns(peer: &Peer) -> Result<Subject, Status> {
    if peer.in_group("federation:dns") {
        let groups = vec!["federation:dns".into()];
        return Ok(Subject { user: peer.user.clone(), groups, uid: String::new() });
    }
    Err(Status::permission_denied(format!("{} is not a DNS server of the federation", peer.user)))
}

/// Whether the caller is an operator of the federation.
pub(crate) fn operator(peer: &Peer) -> Result<(), Status> {
    if peer.in_group("system:masters") {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "{} is not of the group system:masters: ask with the administrator's certificate",
        peer.user
    )))
}
