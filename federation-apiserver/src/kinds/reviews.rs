//! authentication.k8s.io/v1 and authorization.k8s.io/v1: questions that are posted and answered, and never stored.

use apimachinery::meta::Scope;

use crate::registry::Kind;

const QUESTION: Kind = Kind { scope: Scope::Cluster, verbs: &["create"], ..Kind::BUILT_IN };
const AUTHENTICATION: Kind = Kind { group: "authentication.k8s.io", ..QUESTION };
const AUTHORIZATION: Kind = Kind { group: "authorization.k8s.io", ..QUESTION };

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        ..AUTHENTICATION
    },
    &Kind { kind: "TokenReview", plural: "tokenreviews", singular: "tokenreview", ..AUTHENTICATION },
    &Kind {
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        scope: Scope::Namespaced,
        ..AUTHORIZATION
    },
    &Kind {
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        ..AUTHORIZATION
    },
    &Kind {
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        ..AUTHORIZATION
    },
    &Kind {
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        ..AUTHORIZATION
    },
];
