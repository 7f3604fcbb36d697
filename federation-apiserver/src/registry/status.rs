//! What else a status update may change.

use super::Kind;

impl Kind {
    /// What a write of the status changes: controllers of built-in kinds leave marks with it, and take their finalizers away. Which kinds
    /// keep what of their metadata is written nowhere but in kube-apiserver's strategies.
    pub(super) fn changed_with_status(&self) -> &'static [&'static str] {
        match self.plural {
            _ if !self.built_in => &["/status"],
            "apiservices"
            | "flowschemas"
            | "prioritylevelconfigurations"
            | "resourceclaims"
            | "servicecidrs"
            | "validatingadmissionpolicies"
            | "volumeattachments" => &["/status"],
            "customresourcedefinitions" => &["/status", "/metadata/finalizers"],
            "deployments" => {
                &["/status", "/metadata/annotations", "/metadata/finalizers", "/metadata/ownerReferences"]
            }
            // Old kubelets would write wrong owners.
            "pods" => &["/status", "/metadata/annotations", "/metadata/finalizers", "/metadata/labels"],
            _ => &[
                "/status",
                "/metadata/annotations",
                "/metadata/finalizers",
                "/metadata/labels",
                "/metadata/ownerReferences",
            ],
        }
    }
}
