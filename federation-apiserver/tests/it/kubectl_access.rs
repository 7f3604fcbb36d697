//! What kubectl says about users and permissions, with roles and bindings deciding.

use crate::kubectl::Session;

#[test]
fn users_roles_and_tokens_are_managed_as_on_a_real_cluster() {
    let Some(session) = Session::start_with(&["--authorization-mode", "RBAC"]) else { return };
    session.ok("auth whoami", &["Username", "admin", "[system:masters system:authenticated]"]);
    session.ok("auth can-i create deployments", &["yes"]);
    session.ok("get clusterroles", &["NAME", "CREATED AT", "cluster-admin", "system:discovery"]);
    session.ok("create namespace shop", &[]);
    session.ok("create serviceaccount robot -n shop", &["serviceaccount/robot created"]);
    session.fails("auth can-i list secrets -n shop --as=system:serviceaccount:shop:robot", "", &["no"]);
    session.ok(
        "create role reader -n shop --verb=get,list --resource=configmaps,deployments.apps/scale",
        &["role.rbac.authorization.k8s.io/reader created"],
    );
    session.ok(
        "create rolebinding reader -n shop --role=reader --serviceaccount=shop:robot",
        &["rolebinding.rbac.authorization.k8s.io/reader created"],
    );
    session.ok(
        "create clusterrole nodes --verb=get --resource=nodes",
        &["clusterrole.rbac.authorization.k8s.io/nodes created"],
    );
    session.ok("create clusterrolebinding nodes --clusterrole=nodes --user=ann", &["created"]);
    session.ok("get rolebindings -n shop -o wide", &["ROLE", "Role/reader", "SERVICEACCOUNTS", "shop/robot"]);
    session.ok("auth can-i list configmaps -n shop --as=system:serviceaccount:shop:robot", &["yes"]);
    session.ok(
        "auth can-i --list -n shop --as=system:serviceaccount:shop:robot",
        &["Resources", "configmaps", "[get list]", "selfsubjectreviews.authentication.k8s.io"],
    );
    let token = session.ok("create token robot -n shop", &[]);
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let kubectl = |line: &str| {
        format!(
            "{line} -n shop --kubeconfig=/dev/null --insecure-skip-tls-verify --server={} --token={}",
            session.url(),
            token.trim()
        )
    };
    session.ok(&kubectl("auth whoami"), &["system:serviceaccount:shop:robot"]);
    session.ok(&kubectl("get configmaps"), &["kube-root-ca.crt"]);
    session.fails(
        &kubectl("get secrets"),
        "",
        &["Error from server (Forbidden): secrets is forbidden: User \"system:serviceaccount:shop:robot\" cannot list resource \"secrets\" in API group \"\" in the namespace \"shop\""],
    );
    session.fails(
        "create clusterrole too-much --verb=* --resource=secrets --as=ann",
        "",
        &["cannot create resource \"clusterroles\" in API group \"rbac.authorization.k8s.io\" at the cluster scope"],
    );
    session.ok("delete serviceaccount robot -n shop", &["deleted"]);
    session.fails(&kubectl("get configmaps"), "", &["You must be logged in to the server"]);
    session.ok_with(
        "auth reconcile -f -",
"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: shop}\nrules:\n- {apiGroups: [''], resources: [secrets], verbs: [get]}\n",
        &["role.rbac.authorization.k8s.io/reader reconciled"],
    );
}
