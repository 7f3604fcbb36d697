//! Annotations that said how a pod and its containers are confined before there were fields for it.

/// Of a container, before its name: its AppArmor profile.
pub(crate) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Of a container, before its name: its seccomp profile.
pub(crate) const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Of a pod: the seccomp profile of those of its containers that have none of their own.
pub(crate) const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
