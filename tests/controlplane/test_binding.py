"""bind on real parts: memory is never promised twice, and the decision is on the pod."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from extender.cluster.memory import MemoryDemand
from extender.config import ServerSection
from extender.placement.reasons import TEXTS, Reason
from extender.placement.request import PodRequest
from extender.serving.telling import ApiTelling
from extender.verbs.context import TOO_LATE
from extender.waiting.telling import Told, Word
from extender.watch.answers import Answer
from extender.watch.client import connect
from extender.watch.paths import MERGE_PATCH, pod_path
from extender.workload.model import Workload
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.faults.kinds_of_fault import answers
from tests.controlplane.faults.scene import kubeconfig_through, proxy_for
from tests.controlplane.processes import free_port
from tests.controlplane.shipped import (
    OPTS_IN,
    SCHEDULER,
    SYSTEM,
    Object,
    deploy,
    finish,
    kustomized,
    load,
    places,
    pods,
    wait_for_pods,
)

GIB = 2**30


def filler(replicas: int) -> Object:
    """Return a Deployment whose pods take 4 GiB of tmpfs each and request next to nothing."""
    spec: Object = {
        "containers": [
            {
                "name": "main",
                "image": "registry.k8s.io/pause:3.10",
                "resources": {"requests": {"memory": "64Mi", "cpu": "10m"}},
                "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
            }
        ],
        "volumes": [{"name": "weights", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}],
    }
    if not OPTS_IN:
        spec["schedulerName"] = SCHEDULER
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "burst"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "burst"}},
            "template": {"metadata": {"labels": {"app": "burst"}}, "spec": spec},
        },
    }


def counted(extender: Extender, name: str) -> dict[str, float]:
    """Return a counter's values by the value of its one label."""
    text = extender.get("/metrics")[1]
    found = re.findall(
        rf'^model_cache_extender_{name}_total{{\w+="(\w+)"}} (\S+)$', text, re.MULTILINE
    )
    return {label: float(value) for label, value in found}


def test_a_burst_fills_every_node_and_overfills_none(
    control_plane: ControlPlane, placing: Extender, inference: str
) -> None:
    """200 pods onto 10 nodes that can take 15 each: 150 run, 50 wait, few binds are refused."""
    names = [f"burst-{number}" for number in range(10)]
    control_plane.add_nodes(names, {"cpu": "32", "memory": "62Gi", "pods": "110"})
    before = counted(placing, "binds")
    control_plane.apply(filler(200), inference)

    def settled() -> bool:
        found = places(control_plane, inference, "burst")
        return len(found) == 200 and len([node for node in found if node]) >= 150

    control_plane.wait_for(settled, 120, "150 of 200 pods to be bound")
    control_plane.wait_for(
        lambda: TEXTS[Reason.INSUFFICIENT_MEMORY] in waiting_events(control_plane, inference),
        30,
        "a waiting pod's event to say that memory is short",
    )
    on_node = Counter(places(control_plane, inference, "burst"))
    assert on_node.pop("") == 50
    assert on_node == dict.fromkeys(names, 15)

    def so_far() -> dict[str, float]:
        after = counted(placing, "binds")
        return {outcome: number - before.get(outcome, 0) for outcome, number in after.items()}

    # A bind is counted once it is answered, which is after its pod can be seen to be bound.
    control_plane.wait_for(lambda: so_far().get("bound") == 150, 10, "150 binds to be counted")
    asked = so_far()
    print(f"\nburst of 200 pods: binds {asked}")  # noqa: T201 - a figure, not a test
    assert asked.get("refused", 0) < 0.05 * sum(asked.values())


def waiting_events(control_plane: ControlPlane, namespace: str) -> str:
    waits = next(
        p for p in pods(control_plane, namespace, "burst") if not p["spec"].get("nodeName")
    )
    return "\n".join(control_plane.events(namespace, waits["metadata"]["name"]))


def test_the_decision_is_written_on_the_pod_with_the_binding(
    control_plane: ControlPlane, inference: str
) -> None:
    control_plane.add_nodes(["decided-1"])
    loaders = load(control_plane, inference, 1)
    finish(control_plane, inference, loaders["decided-1"])
    app = deploy(control_plane, inference, "node-cache.yaml")
    (pod,) = wait_for_pods(control_plane, inference, app, 1)
    decision = json.loads(pod["metadata"]["annotations"]["modelcache.dev/decision"])
    assert decision["version"] == 1
    assert decision["node"] == "decided-1"
    assert decision["strategy"] == "node-cache"
    assert (decision["state"], decision["evidence"]) == ("ready", "declared")
    assert decision["memoryFreeBytes"] >= decision["memoryDemandBytes"]


def lonely(name: str = "lonely") -> Object:
    """Return a pod that no scheduler looks at."""
    spec = {
        "schedulerName": "nobody",
        "containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def unbound(control_plane: ControlPlane, namespace: str) -> Object:
    """A pod that no scheduler looks at."""
    control_plane.apply(lonely(), namespace)
    found: Object = control_plane.get_json("pod", "lonely", "-n", namespace)
    return found


def bind(extender: Extender, pod: Object, node: str, **other: str) -> str:
    """Ask as kube-scheduler does; return the answer's error."""
    metadata = pod["metadata"]
    args = {
        "PodNamespace": metadata["namespace"],
        "PodName": metadata["name"],
        "PodUID": metadata["uid"],
        "Node": node,
        **other,
    }
    status, answer = extender.post("/bind", args)
    assert status == 200
    return str(answer["Error"])


def test_a_pod_that_was_made_anew_under_its_name_is_not_bound_in_place_of_the_old_one(
    control_plane: ControlPlane, placing: Extender, unbound: Object
) -> None:
    control_plane.add_nodes(["uid-1"])
    error = bind(placing, unbound, "uid-1", PodUID="00000000-0000-0000-0000-000000000000")
    assert "does not exist any more" in error
    assert control_plane.pod_node(unbound["metadata"]["namespace"], "lonely") is None


def test_a_bind_that_is_repeated_says_yes_again_and_elsewhere_says_where(
    control_plane: ControlPlane, placing: Extender, unbound: Object
) -> None:
    control_plane.add_nodes(["twice-1", "twice-2"])
    assert bind(placing, unbound, "twice-1") == ""
    assert bind(placing, unbound, "twice-1") == ""
    assert "already bound to node twice-1" in bind(placing, unbound, "twice-2")
    assert control_plane.pod_node(unbound["metadata"]["namespace"], "lonely") == "twice-1"


def test_a_pod_deleted_between_filter_and_bind_leaves_nothing_behind(
    control_plane: ControlPlane, placing: Extender, unbound: Object
) -> None:
    control_plane.add_nodes(["gone-1"])
    namespace = unbound["metadata"]["namespace"]
    args = {"Pod": unbound, "Nodes": None, "NodeNames": ["gone-1"]}
    assert placing.post("/filter", args)[1]["NodeNames"] == ["gone-1"]
    control_plane.kubectl("delete", "pod", "lonely", "-n", namespace, "--grace-period=0", "--force")
    assert "does not exist any more" in bind(placing, unbound, "gone-1")
    assert NOTHING_KEPT in placing.get("/metrics")[1]


NOTHING_KEPT = "model_cache_extender_reserved_pods 0.0"


@pytest.fixture
def unreachable_webhook(control_plane: ControlPlane, unbound: Object) -> Iterator[str]:
    """A webhook that every Binding in the pod's namespace has to pass, where nothing listens."""
    namespace = unbound["metadata"]["namespace"]
    admin = connect(str(control_plane.kubeconfig()))
    webhook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [
            {
                "name": "bindings.example.com",
                "clientConfig": {"url": f"https://127.0.0.1:{free_port()}/"},
                "rules": [
                    {
                        "operations": ["CREATE"],
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "resources": ["pods/binding"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    control_plane.apply(webhook)

    def asked() -> bool:
        binding = {"metadata": {"name": "lonely"}, "target": {"kind": "Node", "name": "nowhere"}}
        answer = admin.request(
            "POST",
            f"{pod_path(namespace, 'lonely')}/binding",
            query={"dryRun": "All"},
            body=json.dumps({"apiVersion": "v1", "kind": "Binding", **binding}).encode(),
        )
        return answer.status == 500

    control_plane.wait_for(asked, 30, "the webhook to be asked")
    yield namespace
    control_plane.kubectl("delete", "validatingwebhookconfiguration", namespace)


def test_a_webhook_that_cannot_be_called_refuses_a_bind_in_words_and_keeps_no_memory(
    control_plane: ControlPlane, placing: Extender, unbound: Object, unreachable_webhook: str
) -> None:
    """A 500 like a failure of the storage, but said before anything was written."""
    control_plane.add_nodes(["hooked-1"])
    error = bind(placing, unbound, "hooked-1")
    assert 'failed calling webhook "bindings.example.com"' in error
    assert "nothing was written" in error
    assert NOTHING_KEPT in placing.get("/metrics")[1]
    assert control_plane.pod_node(unreachable_webhook, "lonely") is None


def test_memory_that_an_unclear_answer_keeps_is_given_back_within_seconds(
    control_plane: ControlPlane, unbound: Object, tmp_path: Path
) -> None:
    control_plane.add_nodes(["unclear-1"])
    namespace = unbound["metadata"]["namespace"]
    with proxy_for(control_plane) as proxy:
        kubeconfig = kubeconfig_through(proxy, control_plane, tmp_path)
        extender = control_plane.start_extender(kubeconfig=kubeconfig)
        binding = f"{pod_path(namespace, 'lonely')}/binding"
        proxy.meet("post", answers(500, "InternalError"), paths=[binding])
        error = bind(extender, unbound, "unclear-1")
        assert "(500)" in error
        assert "stays reserved on unclear-1 until it is certain" in error
        assert NOTHING_KEPT not in extender.get("/metrics")[1]
        control_plane.wait_for(
            lambda: NOTHING_KEPT in extender.get("/metrics")[1], 30, "the memory to be given back"
        )
    pod = control_plane.get_json("pod", "lonely", "-n", namespace)
    assert "modelcache.dev/requeued-at" in pod["metadata"]["annotations"]
    assert not pod["spec"].get("nodeName")


def test_filter_is_answered_while_more_binds_than_threads_wait_for_the_apiserver(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """In turns they would take longer than filter has time, where the apiserver answers none."""
    control_plane.add_nodes(["slow-1"])
    made = [lonely(f"lonely-{number}") for number in range(3 * ServerSection().threads)]
    control_plane.apply(made, namespace)
    unbound = control_plane.get_json("pods", "-n", namespace)["items"]
    with proxy_for(control_plane) as proxy, ThreadPoolExecutor(len(made)) as callers:
        kubeconfig = kubeconfig_through(proxy, control_plane, tmp_path)
        extender = control_plane.start_extender(kubeconfig=kubeconfig)
        proxy.hold_bindings()
        binds = [callers.submit(bind, extender, pod, "slow-1") for pod in unbound]
        control_plane.wait_for(lambda: proxy.held > 0, 30, "binds to wait", poll=0.01)
        asked = {"Pod": unbound[0], "Nodes": None, "NodeNames": ["slow-1"]}
        answer = extender.post("/filter", asked)[1]
        assert (answer["Error"], answer["NodeNames"]) == ("", ["slow-1"])
        assert proxy.held, "it was answered while they waited"
        errors = [each.result() for each in binds]
    assert all("did not answer the binding" in error or TOO_LATE in error for error in errors)


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"app": "stolen"}}},
        {"metadata": {"annotations": {"modelcache.dev/decision": "{}"}}},
        {"status": {"phase": "Failed"}},
        {"status": {"podIP": "192.0.2.1"}},
        {"status": {"hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}]}},
        {"status": {"message": "all is well"}},
        {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"status": {"resize": "Infeasible"}},
        {"status": {"resources": {"requests": {"memory": "1Gi"}}}},
        {"status": {"allocatedResources": {"memory": "1Gi"}}},
        {"status": {"observedGeneration": 1}},
    ],
    ids=lambda patch: "-".join(field for part in patch.values() for field in part),
)
def test_the_right_to_wake_a_pod_is_the_right_to_nothing_else(
    control_plane: ControlPlane, placing: Extender, unbound: Object, patch: Object
) -> None:
    _ = placing
    account = control_plane.kubeconfig_for_service_account(SYSTEM, "model-cache-extender")
    transport = connect(str(account))

    def patched(body: Object) -> Answer:
        return transport.request(
            "PATCH",
            f"{pod_path(unbound['metadata']['namespace'], 'lonely')}/status",
            body=json.dumps(body).encode(),
            headers={"Content-Type": "application/merge-patch+json"},
        )

    woken = {"metadata": {"annotations": {"modelcache.dev/requeued-at": "2026-01-01T00:00:00Z"}}}
    assert patched(woken).ok
    assert patched({"status": {"nominatedNodeName": "somewhere"}}).ok
    assert patched({"status": {"nominatedNodeName": None}}).ok
    for kind in ("PodScheduled", "DisruptionTarget"):  # kube-scheduler's, in the same pod
        assert patched({"status": {"conditions": [{"type": kind, "status": "False"}]}}).ok
    refused = patched(patch)
    assert refused.status == 422
    assert (
        "may be changed" in refused.body.decode() or "may not be changed" in refused.body.decode()
    )


def test_where_kube_scheduler_has_another_account_the_extender_changes_nothing_that_it_writes(
    control_plane: ControlPlane, unbound: Object
) -> None:
    """The shipped rights and policies, under names of the test: those of the usual way stay."""
    namespace = unbound["metadata"]["namespace"]
    shipped = kustomized(control_plane, "deploy/write-alone")
    control_plane.apply(
        shipped.replace("model-cache-extender-", f"{namespace}-").replace(SYSTEM, namespace)
    )
    control_plane.kubectl("create", "serviceaccount", "model-cache-extender", "-n", namespace)
    account = control_plane.kubeconfig_for_service_account(namespace, "model-cache-extender")
    transport = connect(str(account))

    def patched(status: Object) -> str:
        answer = transport.request(
            "PATCH",
            f"{pod_path(namespace, 'lonely')}/status",
            body=json.dumps({"status": status}).encode(),
            headers=MERGE_PATCH,
        )
        return "" if answer.ok else str(answer.problem().message)

    numbers = count(1)

    def condition(kind: str) -> Object:  # each another one: what changes nothing is let through
        return {"conditions": [{"type": kind, "status": "False", "message": f"{next(numbers)}"}]}

    control_plane.wait_for(
        lambda: "an account of its own" in patched(condition("PodScheduled")),
        30,
        "the policies in force",
    )
    for kind in ("PodScheduled", "DisruptionTarget"):
        assert "conditions may not be changed" in patched(condition(kind))
    assert "be changed" in patched(condition("Ready"))  # both refuse, one speaks
    assert "only what kube-scheduler writes" in patched({"phase": "Failed"})
    telling = ApiTelling(transport, now=lambda: 1_800_000_000.0, fence=str)
    request = PodRequest(
        uid=unbound["metadata"]["uid"],
        namespace=namespace,
        name="lonely",
        workload=Workload(),
        demand=MemoryDemand(bytes=0, request=0),
    )
    assert telling.touch(request).told is Told.WRITTEN
    assert telling.nominate(request, "somewhere").told is Told.WRITTEN
    assert telling.nominate(request, "elsewhere").told is Told.OVERTAKEN
    assert "may not be changed" in patched({"nominatedNodeName": "elsewhere"})
    assert telling.take_back(request, "elsewhere").told is Told.OVERTAKEN
    control_plane.apply(_keeping_nominations(namespace))
    refused: list[Word] = []

    def is_kept() -> bool:
        """Take the nomination back, and write it again where that was still let through."""
        refused[:] = [telling.take_back(request, "somewhere")]
        if refused[0].told is Told.WRITTEN:
            telling.nominate(request, "somewhere")
        return refused[0].told is not Told.WRITTEN

    control_plane.wait_for(is_kept, 30, "a policy that keeps nominations")
    assert refused[0].told is Told.REFUSED, "it is no nomination that has changed meanwhile"
    assert refused[0].cause == "HTTP 422 Invalid"
    assert "nominations stay" in refused[0].error
    control_plane.kubectl("delete", "validatingadmissionpolicybinding", f"{namespace}-keeping")
    control_plane.wait_for(
        lambda: telling.take_back(request, "somewhere").told is Told.WRITTEN,
        30,
        "the policy to be in force no more",
    )
    assert telling.touch(request).told is Told.WRITTEN


def _keeping_nominations(namespace: str) -> str:
    """Return a policy that lets no nomination of a namespace be taken back, as older ones did."""
    return f"""
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {namespace}-keeping}}
spec:
  matchConstraints:
    resourceRules:
      - {{apiGroups: [""], apiVersions: [v1], resources: [pods/status], operations: [UPDATE]}}
  matchConditions:
    - name: of-this-namespace
      expression: request.namespace == "{namespace}"
  validations:
    - message: nominations stay
      expression: object.?status.?nominatedNodeName == oldObject.?status.?nominatedNodeName
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {namespace}-keeping}}
spec:
  policyName: {namespace}-keeping
  validationActions: [Deny]
"""
