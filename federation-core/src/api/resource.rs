//! What makes a struct a Kubernetes kind.

/// The API group of the federation's own kinds.
pub const GROUP: &str = "federation.rs";
/// The one version served.
pub const VERSION: &str = "v1alpha1";
/// `GROUP/VERSION`.
pub const API_VERSION: &str = "federation.rs/v1alpha1";

/// Declares a kind: the struct with `metadata`, `spec` and `status`, and the k8s-openapi traits from which kube's
/// `Resource` follows.
macro_rules! kind {
    ($(#[$doc:meta])* $kind:ident, $plural:literal, $scope:ty, $spec:ty, $status:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $kind {
            /// Always `federation.rs/v1alpha1`.
            #[serde(default = "crate::api::resource::api_version")]
            pub api_version: String,
            /// The kind's name.
            #[serde(default)]
            pub kind: String,
            /// Standard object metadata.
            #[serde(default)]
            pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            /// What is wanted.
            #[serde(default)]
            pub spec: $spec,
            /// What was last observed.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub status: Option<$status>,
        }

        impl $kind {
            /// Builds an object with a name and a spec.
            pub fn new(name: &str, spec: $spec) -> Self {
                Self {
                    api_version: crate::api::API_VERSION.into(),
                    kind: stringify!($kind).into(),
                    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                        name: Some(name.into()),
                        ..Default::default()
                    },
                    spec,
                    status: None,
                }
            }

            /// The object's name; empty if it has none yet.
            pub fn name(&self) -> &str {
                self.metadata.name.as_deref().unwrap_or_default()
            }
        }

        impl k8s_openapi::Resource for $kind {
            const API_VERSION: &'static str = crate::api::API_VERSION;
            const GROUP: &'static str = crate::api::GROUP;
            const KIND: &'static str = stringify!($kind);
            const VERSION: &'static str = crate::api::VERSION;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = $scope;
        }

        impl k8s_openapi::Metadata for $kind {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use kind;

pub(crate) fn api_version() -> String {
    API_VERSION.into()
}
