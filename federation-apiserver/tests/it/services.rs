//! Services as Kubernetes 1.36 takes them: names, addresses, load balancers, and what their writers are warned of.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{kinds::with_head, world::World};

const SERVICES: &str = "/api/v1/namespaces/demo/services";

fn service(spec: Value) -> Value {
    let mut service =
        json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    for (name, value) in spec.as_object().unwrap() {
        service["spec"][name] = value.clone();
    }
    service
}

async fn causes(world: &World, method: Method, path: &str, object: Value) -> Vec<String> {
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, method, path, Some(object)).await;
    let causes = status["details"]["causes"].as_array().unwrap().iter();
    causes
        .map(|cause| format!("{}: {}", cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_name_may_begin_with_a_digit() {
    let world = World::new().await;
    let mut named = service(json!({}));
    named["metadata"]["name"] = "1abc".into();
    world.expect(StatusCode::CREATED, Method::POST, SERVICES, Some(named.clone())).await;
    named["metadata"]["name"] = "a.b".into();
    assert_eq!(
        causes(&world, Method::POST, SERVICES, named).await,
        [r#"metadata.name: Invalid value: "a.b": must not contain dots"#]
    );
}

#[tokio::test]
async fn addresses_are_read_by_all_alike() {
    let world = World::new().await;
    let spec = json!({"type": "LoadBalancer", "externalIPs": ["010.1.1.1"], "loadBalancerSourceRanges": [" 10.0.0.5/8 "]});
    assert_eq!(
        causes(&world, Method::POST, SERVICES, service(spec)).await,
        [
            r#"spec.externalIPs[0]: Invalid value: "010.1.1.1": must not have leading 0s"#,
            r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.5/8": must not have bits set beyond the prefix length"#,
        ]
    );
    let mut annotated = service(json!({}));
    annotated["metadata"]["annotations"] = json!({
        "service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, x",
        "service.kubernetes.io/topology-mode": "Auto",
        "service.kubernetes.io/topology-aware-hints": "auto",
    });
    assert_eq!(
        causes(&world, Method::POST, SERVICES, annotated).await,
        [
            r#"metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "Auto": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified"#,
            "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only be used when `type` is 'LoadBalancer'",
            r#"metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
        ]
    );
}

#[tokio::test]
async fn load_balancers_stand_in_the_status_of_their_type_only() {
    let world = World::new().await;
    let mut made = world.expect(StatusCode::CREATED, Method::POST, SERVICES, Some(service(json!({})))).await;
    let status = format!("{SERVICES}/a/status");
    made["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}});
    assert_eq!(
        causes(&world, Method::PUT, &status, made.clone()).await,
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
    );
    made["spec"]["type"] = "LoadBalancer".into();
    made["status"] = json!({"loadBalancer": {}});
    let mut made = world.expect(StatusCode::OK, Method::PUT, &format!("{SERVICES}/a"), Some(made)).await;
    made["status"] = json!({"loadBalancer": {"ingress": [{"hostname": "a.b", "ipMode": "VIP"}, {"ip": "1.2.3.4", "ipMode": "x"}]}});
    assert_eq!(
        causes(&world, Method::PUT, &status, made.clone()).await,
        [
            "status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set",
            r#"status.loadBalancer.ingress[1].ipMode: Unsupported value: "x": supported values: "Proxy", "VIP""#,
        ]
    );
    made["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}});
    let mut put = world.expect(StatusCode::OK, Method::PUT, &status, Some(made)).await;
    assert_eq!(put["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    put["spec"]["type"] = "ClusterIP".into();
    let put = world.expect(StatusCode::OK, Method::PUT, &format!("{SERVICES}/a"), Some(put)).await;
    assert_eq!(put["status"]["loadBalancer"], json!({}));
}

#[tokio::test]
async fn addresses_from_outside_have_a_policy() {
    let world = World::new().await;
    let spec = json!({"externalIPs": ["203.0.113.7"]});
    let made = world.expect(StatusCode::CREATED, Method::POST, SERVICES, Some(service(spec))).await;
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Cluster");
    let told = causes(
        &world,
        Method::POST,
        SERVICES,
        service(json!({"trafficDistribution": "X", "ipFamilyPolicy": "RequireDualStack"})),
    )
    .await;
    assert_eq!(
        told,
        [
            r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#
        ]
    );
    let told = causes(&world, Method::POST, SERVICES, service(json!({"trafficDistribution": "X"}))).await;
    assert_eq!(
        told,
        [
            r#"spec.trafficDistribution: Unsupported value: "X": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#
        ]
    );
}

#[tokio::test]
async fn a_service_keeps_its_address_and_gives_it_back() {
    let world = World::new().await;
    let services = "/api/v1/namespaces/demo/services";
    let service = |name: &str| with_head("v1", "Service", name, json!({"spec": {"ports": [{"port": 80}]}}));
    let made = world.expect(StatusCode::CREATED, Method::POST, services, Some(service("a"))).await;
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10."), "{address}");
    // Nobody owns what the server allocates: the copies in members are without it.
    assert!(!made["metadata"]["managedFields"].to_string().contains("clusterIP"));
    let again = world.expect(StatusCode::OK, Method::PUT, &format!("{services}/a"), Some(service("a"))).await;
    assert_eq!(again["spec"]["clusterIP"], address.as_str());
    let mut same = service("b");
    same["spec"]["clusterIP"] = address.as_str().into();
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, services, Some(same.clone())).await;
    assert_eq!(
        status["message"],
        format!(
            "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP {address}: provided IP is already allocated"
        )
    );
    world.expect(StatusCode::OK, Method::DELETE, &format!("{services}/a"), None).await;
    world.expect(StatusCode::CREATED, Method::POST, services, Some(same)).await;
    let dry = format!("{services}?dryRun=All");
    let mut fixed = service("c");
    fixed["spec"]["clusterIP"] = "10.96.200.1".into();
    world.expect(StatusCode::CREATED, Method::POST, &dry, Some(fixed.clone())).await;
    world.expect(StatusCode::CREATED, Method::POST, services, Some(fixed)).await;
}
