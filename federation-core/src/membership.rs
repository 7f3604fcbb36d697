//! Whether an agent's certificate belongs to a present member.
//!
//! A Cluster's name may be used again, its uid is not: a certificate speaks for the Cluster object that it was signed for. So the agent of
//! a cluster that has left does not come back as the next cluster of its name.
//!
//! Certificates of earlier versions name no uid. One of those counts for the Cluster that there is if it was signed after that one was made:
//! then it cannot have been signed for one before it. It gets its uid when it is renewed.

use thiserror::Error;

use crate::api::Cluster;

/// Seconds that the signing may lie before the Cluster's creation: earlier versions signed first, and the API server's clock is another
/// one than the hub's.
const BEFORE_S: i64 = 60;

/// What an agent shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Name of its cluster.
    pub cluster: String,
    /// uid of the Cluster that its certificate was signed for; empty if it names none.
    pub uid: String,
    /// When that was, Unix seconds.
    pub signed_s: i64,
}

/// Why it is not taken for a member.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such Cluster.
    #[error(
        "cluster {0:?} is not a member of this federation (any more): join it anew with `fedctl join {0}`"
    )]
    NotMember(String),
    /// The certificate is not of the Cluster that has the name now.
    #[error(
        "cluster {0:?} is another one than this certificate was signed for, which is not a member of this federation any more: join this one anew, under a name of its own, with an empty data directory"
    )]
    Former(String),
    /// An operator does not want it now.
    #[error("cluster {0:?} is not accepted by the hub: set spec.hubAccepts of Cluster {0} to true")]
    NotAccepted(String),
}

/// The Cluster that `shown` is of, if that is `cluster`, the object of its name.
///
/// # Errors
/// Why it is none of a member.
pub fn check<'a>(shown: &Shown, cluster: Option<&'a Cluster>) -> Result<&'a Cluster, Refusal> {
    let name = || shown.cluster.clone();
    let Some(cluster) = cluster else { return Err(Refusal::NotMember(name())) };
    let metadata = &cluster.metadata;
    let same = if shown.uid.is_empty() {
        let created = metadata.creation_timestamp.as_ref();
        created.is_none_or(|created| shown.signed_s >= created.0.as_second() - BEFORE_S)
    } else {
        metadata.uid.as_ref() == Some(&shown.uid)
    };
    if !same {
        return Err(Refusal::Former(name()));
    }
    if cluster.spec.hub_accepts == Some(false) {
        return Err(Refusal::NotAccepted(name()));
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::ClusterSpec;

    const CREATED_S: i64 = 1_800_000_000;

    fn cluster(uid: &str) -> Cluster {
        let mut cluster = Cluster::new("taiwan", ClusterSpec::default());
        cluster.metadata.uid = Some(uid.into());
        cluster.metadata.creation_timestamp =
            k8s_openapi::jiff::Timestamp::from_second(CREATED_S).ok().map(Time);
        cluster
    }

    fn shown(uid: &str, signed_s: i64) -> Shown {
        Shown { cluster: "taiwan".into(), uid: uid.into(), signed_s }
    }

    fn refusal(shown: &Shown, cluster: Option<&Cluster>) -> Option<Refusal> {
        check(shown, cluster).err()
    }

    #[test]
    fn a_certificate_is_of_one_cluster_and_not_of_the_next_one_of_its_name() {
        let former = shown("a", CREATED_S + 1);
        assert_eq!(refusal(&former, Some(&cluster("a"))), None);
        assert_eq!(refusal(&former, Some(&cluster("b"))), Some(Refusal::Former("taiwan".into())));
        assert_eq!(refusal(&former, None), Some(Refusal::NotMember("taiwan".into())));
    }

    #[test]
    fn a_certificate_without_a_uid_is_of_no_cluster_that_was_made_after_it_was_signed() {
        for (signed_s, is_member) in [
            (CREATED_S + 86_400, true),
            (CREATED_S - 1, true),
            (CREATED_S - BEFORE_S - 1, false),
            (CREATED_S - 86_400, false),
        ] {
            let refused = refusal(&shown("", signed_s), Some(&cluster("a")));
            assert_eq!(refused.is_none(), is_member, "{signed_s}");
        }
    }

    #[test]
    fn a_member_that_is_not_accepted_is_told_so() {
        let mut cluster = cluster("a");
        cluster.spec.hub_accepts = Some(false);
        let refused = refusal(&shown("a", CREATED_S), Some(&cluster));
        assert_eq!(refused, Some(Refusal::NotAccepted("taiwan".into())));
    }
}
