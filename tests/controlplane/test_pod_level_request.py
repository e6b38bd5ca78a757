"""What lets others see the same: the pod-level memory request, and the start-up taint of new nodes.

The request lets kube-scheduler, its preemption and the autoscalers count memory-backed volumes.

Where the minor has no MutatingAdmissionPolicy by default, the pods say by hand what the policy
would set: that the apiserver takes it, and what kube-scheduler makes of it, is shown there too.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.cluster.memory import memory_demand
from extender.kube.decode import convert
from extender.kube.objects import Pod
from extender.kube.quantity import format_quantity
from extender.placement.reasons import TEXTS, Reason
from tests.controlplane.cluster import ControlPlane, Extender, KubectlError, as_text, is_ready
from tests.controlplane.shipped import (
    OPTS_IN,
    ROOT,
    SCHEDULER,
    Object,
    kustomized,
    pods,
    wait_for_pods,
)

FOLDER = "deploy/pod-level-request"
SERVES = "registry.k8s.io/pause:3.10"


def container(name: str = "main", **more: object) -> Object:
    """Return a container: ``request``, ``limit`` of memory, ``mounts`` as path by volume."""
    resources: Object = {}
    for kind in ("request", "limit"):
        if kind in more:
            resources[f"{kind}s"] = {"memory": more[kind]}
    mounts = more.get("mounts", {})
    assert isinstance(mounts, dict)
    made: Object = {
        "name": name,
        "image": SERVES,
        "resources": resources,
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
    }
    if more.get("sidecar"):
        made["restartPolicy"] = "Always"
    return made


def ram(name: str = "ram", size: str | None = "20Gi", medium: str = "Memory") -> Object:
    source = {"medium": medium} | ({"sizeLimit": size} if size is not None else {})
    return {"name": name, "emptyDir": source}


def pod(
    name: str,
    containers: list[Object],
    volumes: list[Object],
    inits: Iterable[Object] = (),
    **spec: object,
) -> Object:
    """Return a pod as its author writes it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": containers,
            "initContainers": list(inits),
            "volumes": volumes,
            **spec,
        },
    }


def by_hand(written: Object) -> Object:
    """Say in a pod what the policy would have set."""
    level = written["spec"].get("resources") or {}
    demand = memory_demand(convert(written, Pod))
    if demand.volume_bytes and not level and not written["spec"].get("nodeName"):
        written["spec"]["resources"] = {"requests": {"memory": format_quantity(demand.bytes)}}
    return written


def admitted(control_plane: ControlPlane, namespace: str, written: list[Object]) -> list[Object]:
    """Return the pods as the apiserver would store them."""
    sent = [each if OPTS_IN else by_hand(each) for each in written]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": sent})
    options = ("--dry-run=server", "-n", namespace, "-o=json", "-f", "-")
    items = documents(control_plane.kubectl("create", *options, input=document))
    assert len(items) == len(written)
    return items


def documents(text: str) -> list[Object]:
    """Read JSON documents that follow one another, as kubectl prints several objects."""
    found, decoder = [], json.JSONDecoder()
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def level(stored: Object) -> Object | None:
    """Return the pod-level resources of a stored pod."""
    found: Object | None = stored["spec"].get("resources")
    return found


@pytest.fixture(scope="module")
def policy(control_plane: ControlPlane, placing: Extender) -> Iterator[None]:
    """The policy, applied for this module's tests and then gone again."""
    _ = placing
    if not OPTS_IN:
        yield
        return
    namespace = "test-pod-level-request"
    control_plane.create_namespace(namespace, {"modelcache.dev/scheduling": "enabled"})
    manifests = kustomized(control_plane, FOLDER)

    def at_work() -> bool:
        (stored,) = admitted(control_plane, namespace, [pod("probe", [container()], [ram()])])
        return level(stored) is not None

    control_plane.apply(manifests)
    control_plane.wait_for(at_work, 30, "the policy to be at work")
    try:
        yield
    finally:
        control_plane.kubectl("delete", "-f", "-", input=manifests)
        control_plane.wait_for(lambda: not at_work(), 30, "the policy to be gone")
        control_plane.delete_namespace(namespace)


@pytest.fixture
def seen(policy: None, inference: str) -> str:
    """A namespace whose pods get the request."""
    _ = policy
    return inference


MOUNTED = {"ram": "/models"}
CASES = {
    "volume on top of the request": (
        pod("p", [container(request="8Gi", mounts=MOUNTED)], [ram()]),
        "28Gi",
    ),
    "a pod without any request": (pod("p", [container(mounts=MOUNTED)], [ram()]), "20Gi"),
    "sizes that are no whole mebibytes": (
        pod("p", [container(request="1G", mounts=MOUNTED)], [ram(size="500M")]),
        "1500M",
    ),
    "a fraction of a byte is rounded up": (
        pod("p", [container(request="1500m", mounts=MOUNTED)], [ram(size="1Mi")]),
        "1048578",
    ),
    "all containers and volumes together": (
        pod(
            "p",
            [container("a", request="1Gi", mounts=MOUNTED), container("b", request="2Gi")],
            [ram(), ram("more", "4Gi")],
        ),
        "27Gi",
    ),
    "sidecars run as long as the pod": (
        pod(
            "p",
            [container(request="1Gi", mounts=MOUNTED)],
            [ram()],
            [container("proxy", request="1Gi", sidecar=True)],
        ),
        "22Gi",
    ),
    "never more than the pod's limit": (
        pod("p", [container(request="8Gi", limit="24Gi", mounts=MOUNTED)], [ram()]),
        "24Gi",
    ),
    "a limit of some containers is no limit of the pod": (
        pod(
            "p",
            [container("a", request="8Gi", limit="24Gi", mounts=MOUNTED), container("b")],
            [ram()],
        ),
        "28Gi",
    ),
    "request = limit where it is mounted covers it": (
        pod("p", [container(request="32Gi", limit="32Gi", mounts=MOUNTED)], [ram()]),
        None,
    ),
    "request = limit of less than the volume does not": (
        pod(
            "p",
            [
                container(request="8Gi", mounts=MOUNTED),
                container("exporter", request="64Mi", limit="64Mi", mounts=MOUNTED),
            ],
            [ram()],
        ),
        "28736Mi",
    ),
    "a limit that holds one volume and not both holds none": (
        pod(
            "p",
            [
                container(request="32Gi", limit="32Gi", mounts={"ram": "/a", "more": "/b"}),
                container("b", request="1Gi"),
            ],
            [ram(), ram("more")],
        ),
        "73Gi",
    ),
    "an init container that needs more covers it": (
        pod(
            "p",
            [container(request="1Gi", mounts=MOUNTED)],
            [ram()],
            [container("convert", request="30Gi")],
        ),
        None,
    ),
    "an init container counts with the sidecars before it": (
        pod(
            "p",
            [container(request="1Gi", mounts=MOUNTED)],
            [ram()],
            [
                container("before", request="4Gi", sidecar=True),
                container("convert", request="20Gi"),
                container("after", request="1Gi", sidecar=True),
            ],
        ),
        "26Gi",
    ),
    "/dev/shm is capacity": (pod("p", [container(mounts={"ram": "/dev/shm"})], [ram()]), None),
    "no size": (pod("p", [container(mounts=MOUNTED)], [ram(size=None)]), None),
    "no memory": (pod("p", [container(mounts=MOUNTED)], [ram(medium="")]), None),
    "a size of none": (pod("p", [container(mounts=MOUNTED)], [ram(size="0")]), None),
}


@pytest.mark.parametrize(("written", "expected"), CASES.values(), ids=CASES.keys())
def test_a_pod_gets_the_request_that_covers_its_volumes(
    control_plane: ControlPlane, seen: str, written: Object, expected: str | None
) -> None:
    (stored,) = admitted(control_plane, seen, [written])
    wanted = None if expected is None else {"memory": expected}
    assert (level(stored) or {}).get("requests") == wanted


@pytest.mark.parametrize(
    "own",
    [
        pytest.param({"requests": {"memory": "10Gi"}}, id="a-request"),
        pytest.param({"limits": {"memory": "30Gi"}}, id="a-limit"),
        pytest.param({"requests": {"cpu": "2"}}, id="of-another-resource"),
    ],
)
def test_what_the_author_set_at_the_level_of_the_pod_stays(
    control_plane: ControlPlane, seen: str, own: Object
) -> None:
    written = pod("p", [container(request="8Gi", mounts=MOUNTED)], [ram()], resources=own)
    (stored,) = admitted(control_plane, seen, [written])
    found = level(stored)
    assert found is not None
    for kind, values in own.items():
        assert found[kind].items() >= values.items()
    assert found.get("requests", {}).get("memory") != "28Gi"


def test_a_pod_that_is_placed_already_stays(control_plane: ControlPlane, seen: str) -> None:
    written = pod("p", [container(mounts=MOUNTED)], [ram()], nodeName="somewhere")
    (stored,) = admitted(control_plane, seen, [written])
    assert level(stored) is None


def test_pods_of_other_namespaces_stay(
    control_plane: ControlPlane, policy: None, namespace: str
) -> None:
    _ = policy
    written = pod("p", [container(mounts=MOUNTED)], [ram()])
    options = ("--dry-run=server", "-n", namespace, "-o=json", "-f", "-")
    stored = json.loads(control_plane.kubectl("create", *options, input=json.dumps(written)))
    assert level(stored) is None


def random_pod(name: str, choose: random.Random) -> Object:
    """Return a pod with up to three volumes, and containers that mount some of them."""
    sizes = ["0", "1Mi", "1500M", "512Mi", "2Gi", "20Gi", None]
    volumes = [
        ram(f"v{number}", choose.choice(sizes), choose.choice(["Memory", "Memory", ""]))
        for number in range(choose.randint(1, 3))
    ]

    def one(kind: str, number: int) -> Object:
        more: Object = {}
        if choose.random() < 0.7:
            more["request"] = choose.choice(["64Mi", "1Gi", "8Gi", "1500m", "24Gi"])
        if choose.random() < 0.5:
            more["limit"] = choose.choice(["24Gi", "32Gi", more.get("request", "24Gi")])
        chosen = [volume["name"] for volume in volumes if choose.random() < 0.5]
        shared = choose.choice(chosen) if chosen and choose.random() < 0.3 else None
        more["mounts"] = {v: "/dev/shm" if v == shared else f"/{v}" for v in chosen}
        more["sidecar"] = kind == "init" and choose.random() < 0.4
        return container(f"{kind}-{number}", **more)

    return pod(
        name,
        [one("app", number) for number in range(choose.randint(1, 3))],
        volumes,
        [one("init", number) for number in range(choose.randint(0, 3))],
    )


def test_for_any_pod_kube_scheduler_sees_what_the_ledger_counts(
    control_plane: ControlPlane, seen: str
) -> None:
    """The policy's arithmetic is the ledger's own: neither asks for more than the other."""
    choose = random.Random(20_260_101)
    written = [random_pod(f"p-{number}", choose) for number in range(150)]
    before = [memory_demand(convert(each, Pod)) for each in written]
    assert sum(demand.volume_bytes > 0 for demand in before) > 50
    assert sum(demand.volume_bytes == 0 for demand in before) > 20
    stored = admitted(control_plane, seen, written)
    for demand, each in zip(before, stored, strict=True):
        after = memory_demand(convert(each, Pod))
        told = each["metadata"]["name"], each["spec"]
        assert after.bytes == demand.bytes, told
        assert after.request == demand.bytes, told
        assert (level(each) is not None) == (demand.volume_bytes > 0), told


def in_memory(name: str, size: str = "40Gi", **spec: Any) -> Object:
    """Return a pod that keeps its model in memory, as a test creates it."""
    if not OPTS_IN:
        spec["schedulerName"] = SCHEDULER
    written = pod(name, [container(request="1Gi", mounts=MOUNTED)], [ram(size=size)], **spec)
    return written if OPTS_IN else by_hand(written)


def stored_pod(control_plane: ControlPlane, namespace: str, name: str) -> Object | None:
    text = control_plane.kubectl(
        "get", "pod", name, "-n", namespace, "-o=json", "--ignore-not-found"
    )
    found: Object | None = json.loads(text) if text else None
    return found


def runs_on(control_plane: ControlPlane, namespace: str, name: str, node: str) -> bool:
    found = stored_pod(control_plane, namespace, name)
    return found is not None and found["spec"].get("nodeName") == node and is_ready(found)


def test_kube_scheduler_itself_refuses_a_node_that_is_full(
    control_plane: ControlPlane, seen: str
) -> None:
    """Its own words are in the event, those that autoscalers act on; the extender was not asked."""
    control_plane.add_nodes(["seen-1"])
    control_plane.apply(in_memory("first"), seen)
    control_plane.wait_for(
        lambda: runs_on(control_plane, seen, "first", "seen-1"), 30, "the first pod to run"
    )
    control_plane.apply(in_memory("second"), seen)
    control_plane.wait_for(
        lambda: "Insufficient memory" in "\n".join(control_plane.events(seen, "second")),
        30,
        "kube-scheduler to say that memory is short",
    )
    said = "\n".join(control_plane.events(seen, "second"))
    assert TEXTS[Reason.INSUFFICIENT_MEMORY] not in said
    assert control_plane.pod_node(seen, "second") is None


@pytest.fixture
def important(control_plane: ControlPlane, seen: str) -> Iterator[str]:
    """A priority class above that of other pods."""
    name = f"{seen}-important"
    control_plane.apply(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": 1000,
        }
    )
    yield name
    control_plane.kubectl("delete", "priorityclass", name)


def test_an_important_pod_takes_the_memory_of_a_lesser_one_and_runs(
    control_plane: ControlPlane, placing: Extender, seen: str, important: str
) -> None:
    """Preemption for memory that only volumes take, through kube-scheduler and our ``/preempt``."""
    control_plane.add_nodes(["taken-1"])
    control_plane.apply(in_memory("lesser"), seen)
    control_plane.wait_for(
        lambda: runs_on(control_plane, seen, "lesser", "taken-1"), 30, "the lesser pod to run"
    )
    control_plane.apply(in_memory("important", priorityClassName=important), seen)
    control_plane.wait_for(
        lambda: runs_on(control_plane, seen, "important", "taken-1"),
        30,
        "the important pod to run in place of the lesser one",
    )
    assert stored_pod(control_plane, seen, "lesser") is None
    answers = preempt_answers(placing, seen, "important")
    assert answers
    assert answers[0]["passed"] == 1


def test_a_pod_evicts_nobody_where_that_would_not_make_room(
    control_plane: ControlPlane, seen: str, important: str
) -> None:
    control_plane.add_nodes(["small-1"])
    control_plane.apply(in_memory("lesser", "20Gi"), seen)
    control_plane.wait_for(
        lambda: runs_on(control_plane, seen, "lesser", "small-1"), 30, "the lesser pod to run"
    )
    control_plane.apply(in_memory("large", "80Gi", priorityClassName=important), seen)
    control_plane.wait_for(
        lambda: "Insufficient memory" in "\n".join(control_plane.events(seen, "large")),
        30,
        "kube-scheduler to say that memory is short",
    )
    assert runs_on(control_plane, seen, "lesser", "small-1")


def preempt_answers(extender: Extender, namespace: str, name: str) -> list[Object]:
    """Return the decisions that ``/preempt`` made for a pod."""
    status, text = extender.get("/api/v1/decisions")
    assert status == 200
    return [
        made
        for made in json.loads(text)["decisions"]
        if (made["verb"], made["namespace"], made["pod"]) == ("preempt", namespace, name)
    ]


DOCUMENTED = ROOT / "docs" / "autoscaling.md"
TAINT = "startup-taint.cluster-autoscaler.kubernetes.io/model-cache"
GUARD = (
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)


def documented(namespace: str, *kinds: str) -> list[Object]:
    """Return the manifests that docs/autoscaling.md shows, brought to a namespace of the test."""
    text = DOCUMENTED.read_text("utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    moved = (
        block.replace("namespace: inference", f"namespace: {namespace}").replace(
            "serviceaccount:inference:", f"serviceaccount:{namespace}:"
        )
        for block in blocks
    )
    found = [document for block in moved for document in yaml.safe_load_all(block)]
    return [document for document in found if document.get("kind") in kinds]


class TaintedPool:
    """Two tainted nodes whose loader runs, with the loader's account as a pod on a node has it."""

    def __init__(self, control_plane: ControlPlane, namespace: str, folder: Path) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self.folder = folder
        (loader,) = documented(namespace, "DaemonSet")
        self.script: str = loader["spec"]["template"]["spec"]["initContainers"][-1]["args"][0]
        self.loader = loader

    def token(self, node: str) -> str:
        """Return a token as the kubelet gives it to the loader's pod on a node."""
        items = pods(self.control_plane, self.namespace, "model-loader")
        (name,) = [i["metadata"]["name"] for i in items if i["spec"].get("nodeName") == node]
        bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
        account = ("model-loader", "-n", self.namespace)
        return self.control_plane.kubectl("create", "token", *account, *bound).strip()

    def lift(self, node: str, *, as_on: str) -> subprocess.CompletedProcess[str]:
        """Run the script of the docs for a node, with the account of the pod on a node."""
        account = self.folder / as_on
        account.mkdir(exist_ok=True)
        (account / "token").write_text(self.token(as_on), "utf-8")
        authority = self.control_plane.workdir / "certs" / "apiserver.crt"
        (account / "ca.crt").write_bytes(authority.read_bytes())
        host, _, port = self.control_plane.server.removeprefix("https://").partition(":")
        env = {
            "ACCOUNT": str(account),
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "NODE": node,
        }
        command = [sys.executable, "-c", self.script]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=60, check=False
        )

    def taints(self, node: str) -> list[str]:
        spec = self.control_plane.get_json("node", node)["spec"]
        return [taint["key"] for taint in spec.get("taints", [])]

    def refuses(self, *change: str, as_on: str) -> bool:
        """Tell whether the policy refuses a change of a node to the loader's account."""
        token = f"--token={self.token(as_on)}"
        try:
            self.control_plane.kubectl(token, *change, "--dry-run=server")
        except KubectlError as error:
            return "ValidatingAdmissionPolicy 'model-loader-taint'" in str(error)
        return False


@pytest.fixture
def pool(
    control_plane: ControlPlane, placing: Extender, namespace: str, tmp_path: Path
) -> Iterator[TaintedPool]:
    """The manifests of the docs, and a loader that runs on two tainted nodes."""
    _ = placing
    found = TaintedPool(control_plane, namespace, tmp_path)
    nodes = ["fresh-1", "fresh-2"]
    control_plane.add_nodes(nodes, labels={"models": "llama"})
    control_plane.kubectl("taint", "nodes", *nodes, f"{TAINT}=:NoSchedule", "other=:NoSchedule")
    guard = documented(namespace, *GUARD)
    control_plane.apply(guard)
    tolerant = found.loader["spec"]["template"]["spec"]["tolerations"]
    tolerant.append({"key": "other", "operator": "Exists"})
    control_plane.apply(found.loader)
    try:
        wait_for_pods(control_plane, namespace, "model-loader", 2)
        control_plane.wait_for(
            lambda: found.refuses("label", "node", "fresh-1", "a=b", as_on="fresh-1"),
            30,
            "the policy to be at work",
        )
        yield found
    finally:
        control_plane.kubectl("delete", "--ignore-not-found", "-f", "-", input=as_text(guard))


def test_the_loader_lifts_the_start_up_taint_of_its_own_node(pool: TaintedPool) -> None:
    """The script and the policy of docs/autoscaling.md, run as they stand there."""
    lifted = pool.lift("fresh-1", as_on="fresh-1")
    assert (lifted.returncode, lifted.stdout) == (0, f"lifted {TAINT}\n"), lifted.stderr
    assert pool.taints("fresh-1") == ["other"]
    again = pool.lift("fresh-1", as_on="fresh-1")
    assert (again.returncode, again.stdout) == (0, ""), again.stderr
    elsewhere = pool.lift("fresh-2", as_on="fresh-1")
    assert elsewhere.returncode != 0
    assert set(pool.taints("fresh-2")) == {TAINT, "other"}


def test_the_loaders_account_can_change_nothing_else_of_a_node(pool: TaintedPool) -> None:
    for change in (
        ("taint", "node", "fresh-1", "other-"),
        ("taint", "node", "fresh-1", "new=:NoSchedule"),
        ("patch", "node", "fresh-1", '-p={"spec": {"unschedulable": true}}'),
        ("annotate", "node", "fresh-1", "a=b"),
        ("taint", "node", "fresh-2", f"{TAINT}-"),
    ):
        assert pool.refuses(*change, as_on="fresh-1"), change
    assert not pool.refuses("taint", "node", "fresh-1", f"{TAINT}-", as_on="fresh-1")
