"""The API through Python's `kubernetes` client, as other languages' tools use it.

    python client_suite.py KUBECONFIG

Its models are made from Kubernetes' own OpenAPI documents, and it refuses answers that do not fit them: a required field that is missing
is an error here, where a client that reads JSON as it comes would not notice.
"""

import sys
import threading
import unittest
import uuid

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

KUBECONFIG = ""
PATIENCE_S = 20


def config_map(name, data=None, labels=None):
    return client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name=name, labels=labels), data=data or {"k": "v"}
    )


def deployment(name, replicas=1):
    labels = {"app": name}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(
            containers=[
                client.V1Container(
                    name="web",
                    image="nginx:1",
                    ports=[client.V1ContainerPort(container_port=80)],
                    resources=client.V1ResourceRequirements(limits={"cpu": "500m", "memory": "64Mi"}),
                )
            ]
        ),
    )
    spec = client.V1DeploymentSpec(
        replicas=replicas, selector=client.V1LabelSelector(match_labels=labels), template=template
    )
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name), spec=spec)


def eventually(look):
    """Looks until it sees something, and returns that."""
    tick = threading.Event()
    for _ in range(PATIENCE_S * 20):
        found = look()
        if found:
            return found
        tick.wait(0.05)
    raise AssertionError("it does not come about")


class Suite(unittest.TestCase):
    """Each test has a namespace of its own."""

    @classmethod
    def setUpClass(cls):
        cls.api = config.new_client_from_config(KUBECONFIG)
        cls.core = client.CoreV1Api(cls.api)
        cls.apps = client.AppsV1Api(cls.api)

    @classmethod
    def tearDownClass(cls):
        cls.api.close()

    def setUp(self):
        self.ns = f"py-{uuid.uuid4().hex[:8]}"
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=self.ns)))
        self.addCleanup(self.core.delete_namespace, self.ns)

    def refused(self, code, reason, call, *words, **named):
        with self.assertRaises(ApiException) as caught:
            call(*words, **named)
        self.assertEqual(caught.exception.status, code)
        self.assertIn(f'"reason":"{reason}"', caught.exception.body)


class Objects(Suite):
    def test_a_config_map_lives_and_goes(self):
        made = self.core.create_namespaced_config_map(self.ns, config_map("a"))
        self.assertEqual(made.data, {"k": "v"})
        made.data["k"] = "w"
        changed = self.core.replace_namespaced_config_map("a", self.ns, made)
        self.assertGreater(int(changed.metadata.resource_version), int(made.metadata.resource_version))
        self.refused(409, "Conflict", self.core.replace_namespaced_config_map, "a", self.ns, made)
        self.refused(409, "AlreadyExists", self.core.create_namespaced_config_map, self.ns, config_map("a"))
        self.core.delete_namespaced_config_map("a", self.ns)
        self.refused(404, "NotFound", self.core.read_namespaced_config_map, "a", self.ns)

    def test_secrets_are_base64_on_the_wire(self):
        secret = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"k": "v"})
        made = self.core.create_namespaced_secret(self.ns, secret)
        self.assertEqual((made.type, made.data, made.string_data), ("Opaque", {"k": "dg=="}, None))

    def test_a_deployment_is_patched_in_every_way_and_scaled(self):
        self.apps.create_namespaced_deployment(self.ns, deployment("web"))
        strategic = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side:1"}]}}}}
        found = self.apps.patch_namespaced_deployment("web", self.ns, strategic)
        self.assertEqual({c.name for c in found.spec.template.spec.containers}, {"web", "side"})
        operations = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
        found = self.apps.patch_namespaced_deployment("web", self.ns, operations)
        self.assertEqual(found.spec.replicas, 3)
        applied = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"revisionHistoryLimit": 2},
        }
        found = self.apps.patch_namespaced_deployment(
            "web", self.ns, applied, field_manager="py", force=True, _content_type="application/apply-patch+yaml"
        )
        self.assertEqual(found.spec.revision_history_limit, 2)
        self.assertIn(("py", "Apply"), {(m.manager, m.operation) for m in found.metadata.managed_fields})
        scale = self.apps.read_namespaced_deployment_scale("web", self.ns)
        scale.spec.replicas = 5
        self.apps.replace_namespaced_deployment_scale("web", self.ns, scale)
        found = self.apps.read_namespaced_deployment("web", self.ns)
        limits = [c.resources.limits["cpu"] for c in found.spec.template.spec.containers if c.name == "web"]
        self.assertEqual((found.spec.replicas, limits), (5, ["500m"]))
        found.status.ready_replicas = 1
        found.status.replicas = 1
        found = self.apps.replace_namespaced_deployment_status("web", self.ns, found)
        self.assertEqual((found.status.ready_replicas, found.spec.replicas), (1, 5))

    def test_what_is_wrong_is_told_field_by_field(self):
        wrong = deployment("web", replicas=-1)
        wrong.spec.selector.match_labels = {"app": "other"}
        with self.assertRaises(ApiException) as caught:
            self.apps.create_namespaced_deployment(self.ns, wrong)
        self.assertEqual(caught.exception.status, 422)
        for field in ("spec.replicas", "spec.template.metadata.labels"):
            self.assertIn(field, caught.exception.body)

    def test_a_dry_run_changes_nothing(self):
        made = self.core.create_namespaced_config_map(self.ns, config_map("a"), dry_run="All")
        self.assertTrue(made.metadata.uid)
        self.refused(404, "NotFound", self.core.read_namespaced_config_map, "a", self.ns)

    def test_pages_and_selectors_choose(self):
        for number in range(5):
            labels = {"odd": str(number % 2)}
            self.core.create_namespaced_config_map(self.ns, config_map(f"c{number}", labels=labels))
        names, token = [], None
        while True:
            page = self.core.list_namespaced_config_map(self.ns, limit=2, _continue=token, label_selector="odd")
            names.extend(item.metadata.name for item in page.items)
            token = page.metadata._continue
            if not token:
                break
        self.assertEqual(names, [f"c{number}" for number in range(5)])
        odd = self.core.list_namespaced_config_map(self.ns, label_selector="odd in (1)")
        self.assertEqual([item.metadata.name for item in odd.items], ["c1", "c3"])
        one = self.core.list_namespaced_config_map(self.ns, field_selector="metadata.name=c2")
        self.assertEqual(len(one.items), 1)
        self.core.delete_collection_namespaced_config_map(self.ns, label_selector="odd=1")
        left = self.core.list_namespaced_config_map(self.ns, label_selector="odd")
        self.assertEqual(len(left.items), 3)

    def test_yaml_files_are_created(self):
        manifest = {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }
        utils.create_from_dict(self.api, manifest, namespace=self.ns)
        service = self.core.read_namespaced_service("web", self.ns)
        self.assertTrue(service.spec.cluster_ip.startswith("10."))
        self.assertEqual(service.spec.ports[0].target_port, "http")

    def test_dependents_go_with_their_owner(self):
        owner = self.core.create_namespaced_config_map(self.ns, config_map("owner"))
        child = config_map("child")
        child.metadata.owner_references = [
            client.V1OwnerReference(
                api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid, block_owner_deletion=True
            )
        ]
        self.core.create_namespaced_config_map(self.ns, child)
        self.core.delete_namespaced_config_map(
            "owner", self.ns, body=client.V1DeleteOptions(propagation_policy="Foreground")
        )
        names = lambda: {item.metadata.name for item in self.core.list_namespaced_config_map(self.ns).items}
        eventually(lambda: not names() & {"owner", "child"})


class Watches(Suite):
    def test_a_list_and_its_watch_keep_a_cache_whole(self):
        """What an informer does: list, watch from there, and after every end again from the last version."""
        cache, done = {}, threading.Event()
        listed = self.core.list_namespaced_config_map(self.ns, label_selector="w=1")
        version = listed.metadata.resource_version

        def follow(version):
            while not done.is_set():
                stream = watch.Watch().stream(
                    self.core.list_namespaced_config_map, self.ns, label_selector="w=1",
                    resource_version=version, timeout_seconds=1, allow_watch_bookmarks=True,
                )
                for event in stream:
                    found = event["raw_object"]["metadata"]
                    version = found["resourceVersion"]
                    if event["type"] == "DELETED":
                        cache.pop(found["name"], None)
                    elif event["type"] != "BOOKMARK":
                        cache[found["name"]] = found["resourceVersion"]

        thread = threading.Thread(target=follow, args=(version,), daemon=True)
        thread.start()
        for number in range(20):
            self.core.create_namespaced_config_map(self.ns, config_map(f"c{number}", labels={"w": "1"}))
        for number in range(0, 20, 2):
            self.core.patch_namespaced_config_map(f"c{number}", self.ns, {"data": {"k": "changed"}})
        # Out of the selector's sight, and gone: the same for who watches.
        self.core.patch_namespaced_config_map("c1", self.ns, {"metadata": {"labels": {"w": "2"}}})
        self.core.delete_namespaced_config_map("c3", self.ns)

        def whole():
            items = self.core.list_namespaced_config_map(self.ns, label_selector="w=1").items
            return cache == {item.metadata.name: item.metadata.resource_version for item in items}

        eventually(whole)
        done.set()
        thread.join(PATIENCE_S)
        self.assertEqual(len(cache), 18)

    def test_a_version_that_never_was_is_refused(self):
        self.refused(
            504, "Timeout", self.core.list_namespaced_config_map, self.ns,
            resource_version="999999999", resource_version_match="NotOlderThan",
        )


class CustomKinds(Suite):
    def test_a_definition_brings_a_kind_with_its_rules(self):
        group = f"{self.ns}.example.com"
        schema = {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["size"],
                    "properties": {"size": {"type": "integer", "minimum": 1}, "mode": {"type": "string", "default": "a"}},
                },
                "status": {"type": "object", "properties": {"done": {"type": "boolean"}}},
            },
        }
        definition = client.V1CustomResourceDefinition(
            api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition",
            metadata=client.V1ObjectMeta(name=f"gadgets.{group}"),
            spec=client.V1CustomResourceDefinitionSpec(
                group=group, scope="Namespaced",
                names=client.V1CustomResourceDefinitionNames(plural="gadgets", kind="Gadget"),
                versions=[
                    client.V1CustomResourceDefinitionVersion(
                        name="v1", served=True, storage=True,
                        subresources=client.V1CustomResourceSubresources(status={}),
                        schema=client.V1CustomResourceValidation(open_apiv3_schema=client.V1JSONSchemaProps(**{})),
                    )
                ],
            ),
        )
        definition = self.api.sanitize_for_serialization(definition)
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
        extensions = client.ApiextensionsV1Api(self.api)
        extensions.create_custom_resource_definition(definition)
        self.addCleanup(extensions.delete_custom_resource_definition, f"gadgets.{group}")

        def established():
            found = extensions.read_custom_resource_definition(f"gadgets.{group}")
            return any(c.type == "Established" and c.status == "True" for c in found.status.conditions or [])

        eventually(established)
        custom = client.CustomObjectsApi(self.api)
        place = (group, "v1", self.ns, "gadgets")
        gadget = {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": "a"}, "spec": {"size": 1, "more": 1}}
        made = custom.create_namespaced_custom_object(*place, gadget)
        self.assertEqual(made["spec"], {"size": 1, "mode": "a"})
        self.refused(
            422, "Invalid", custom.create_namespaced_custom_object, *place,
            {**gadget, "metadata": {"name": "b"}, "spec": {"size": 0}},
        )
        changed = custom.patch_namespaced_custom_object(*place, "a", {"spec": {"size": 2}})
        self.assertEqual((changed["spec"]["size"], changed["metadata"]["generation"]), (2, 2))
        custom.patch_namespaced_custom_object_status(*place, "a", {"status": {"done": True}, "spec": {"size": 9}})
        found = custom.get_namespaced_custom_object(*place, "a")
        self.assertEqual((found["spec"]["size"], found["status"]), (2, {"done": True}))

        # The dynamic client finds the kind by discovery alone.
        kinds = dynamic.DynamicClient(self.api)
        gadgets = kinds.resources.get(api_version=f"{group}/v1", kind="Gadget")
        applied = gadgets.server_side_apply(
            body={**gadget, "spec": {"size": 3}}, name="a", namespace=self.ns, field_manager="py", force_conflicts=True
        )
        self.assertEqual(applied.spec.size, 3)
        events = gadgets.watch(namespace=self.ns, timeout=1)
        self.assertEqual([event["object"].metadata.name for event in events], ["a"])
        custom.delete_namespaced_custom_object(*place, "a")
        self.assertEqual(gadgets.get(namespace=self.ns).items, [])


class Access(Suite):
    def test_a_service_account_may_do_what_its_role_says(self):
        self.core.create_namespaced_service_account(
            self.ns, client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="bot"))
        )
        request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
        request = self.api.sanitize_for_serialization(request)
        token = self.core.create_namespaced_service_account_token("bot", self.ns, request).status.token
        options = client.Configuration.get_default_copy()
        options.host = self.api.configuration.host
        options.ssl_ca_cert = self.api.configuration.ssl_ca_cert
        options.api_key = {"authorization": f"Bearer {token}"}
        bot = client.CoreV1Api(client.ApiClient(options))
        self.addCleanup(bot.api_client.close)
        self.refused(403, "Forbidden", bot.list_namespaced_config_map, self.ns)
        rbac = client.RbacAuthorizationV1Api(self.api)
        rbac.create_namespaced_role(
            self.ns,
            client.V1Role(
                metadata=client.V1ObjectMeta(name="reader"),
                rules=[client.V1PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "list"])],
            ),
        )
        rbac.create_namespaced_role_binding(
            self.ns,
            client.V1RoleBinding(
                metadata=client.V1ObjectMeta(name="reader"),
                role_ref=client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="reader"),
                subjects=[client.RbacV1Subject(kind="ServiceAccount", name="bot", namespace=self.ns)],
            ),
        )
        self.assertTrue(bot.list_namespaced_config_map(self.ns).items)
        self.refused(403, "Forbidden", bot.create_namespaced_config_map, self.ns, config_map("a"))
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(
                resource_attributes=client.V1ResourceAttributes(namespace=self.ns, verb="list", resource="configmaps")
            )
        )
        answer = client.AuthorizationV1Api(bot.api_client).create_self_subject_access_review(review)
        self.assertTrue(answer.status.allowed)


class Documents(Suite):
    def test_every_group_version_and_its_lists_can_be_read(self):
        groups = client.ApisApi(self.api).get_api_versions().groups
        self.assertIn("apps", {group.name for group in groups})
        self.assertEqual(client.VersionApi(self.api).get_code().major, "1")
        kinds = dynamic.DynamicClient(self.api)
        for kind, version in (("Pod", "v1"), ("Ingress", "networking.k8s.io/v1"), ("Cluster", "federation.rs/v1alpha1")):
            self.assertTrue(kinds.resources.get(api_version=version, kind=kind))
        lists = (
            self.core.list_node, self.core.list_namespace, self.core.list_service_for_all_namespaces,
            self.core.list_endpoints_for_all_namespaces, self.core.list_event_for_all_namespaces,
            self.apps.list_deployment_for_all_namespaces,
            client.DiscoveryV1Api(self.api).list_endpoint_slice_for_all_namespaces,
            client.SchedulingV1Api(self.api).list_priority_class,
            client.FlowcontrolApiserverV1Api(self.api).list_flow_schema,
            client.RbacAuthorizationV1Api(self.api).list_cluster_role,
            client.ApiregistrationV1Api(self.api).list_api_service,
        )
        for call in lists:
            self.assertIsNotNone(call().items, call)


if __name__ == "__main__":
    KUBECONFIG = sys.argv.pop(1)
    unittest.main(verbosity=2)
