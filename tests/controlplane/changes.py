"""Changes to a real cluster, whatever comes to somebody's mind, and what ought to be after them."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

from extender.cluster.state import ClusterState
from extender.kube.decode import convert
from extender.kube.objects import (
    DaemonSet,
    Job,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
)
from extender.placement.policy import Policy
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.watch.client import Transport
from extender.wire import ExtenderArgs
from tests.controlplane.shipped import (
    SCHEDULER,
    Object,
    done,
    example,
    loading,
    played_by_hand,
    succeeded,
    volume,
)

NODES = [f"random-{number}" for number in range(8)]
NODE_GIB = 32
MAX_PODS = 120
PATIENCE_SECONDS = 10.0
LABELLED = "labelSelector=random%3Dyes"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
KINDS: tuple[tuple[str, type[Any]], ...] = (
    ("/api/v1/nodes", Node),
    ("/apis/apps/v1/daemonsets", DaemonSet),
    ("/apis/batch/v1/jobs", Job),
    ("/api/v1/persistentvolumes", PersistentVolume),
    ("/api/v1/persistentvolumeclaims", PersistentVolumeClaim),
    ("/api/v1/pods", Pod),
)


class Changes:
    """Changes nodes, loaders, pods, claims and jobs, and tells from fresh lists what follows."""

    def __init__(self, api: Transport, namespace: str, loaders: dict[str, Object]) -> None:
        self.api = api
        self.namespace = namespace
        self.loaders = loaders
        self.made = 0
        self.slowest = 0.0
        self.alive: list[str] = []
        self.claims: list[str] = []
        self.unfilled: list[str] = []
        self._numbers = iter(range(1_000_000))
        self._closed: set[str] = set()
        self._had_model: set[str] = set()
        self._shrunk: set[str] = set()

    def begin(self) -> None:
        """Go back to a cluster without pods, whose nodes are open and still load."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?{LABELLED}"
        self.send("DELETE", path, {"gracePeriodSeconds": 0})
        self.alive.clear()
        for node in NODES:
            self.close(node, closed=False)
            self.resize(node, NODE_GIB)
            self.load(node, "loading")

    # -- changes ---------------------------------------------------------------------------------

    def create(self, spec: Object) -> None:
        """Create a pod for the model-cache scheduler."""
        if len(self.alive) >= MAX_PODS:
            return
        name = f"random-{next(self._numbers)}"
        metadata = {"name": name, "labels": {"random": "yes"}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        named = {**pod, "spec": {"schedulerName": SCHEDULER, **spec}}
        self.send("POST", f"/api/v1/namespaces/{self.namespace}/pods", named)
        self.alive.append(name)

    def delete(self, index: int) -> None:
        """Delete one of the pods."""
        if self.alive:
            name = self.alive.pop(index % len(self.alive))
            path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
            self.send("DELETE", path, {"gracePeriodSeconds": 0})

    def load(self, node: str, state: str) -> None:
        """Let a node's loader be done, at work, or crash."""
        pod = self.loaders[node]
        status = done(pod) if state == "ready" else loading(pod)
        if state == "ready":
            self._had_model.add(node)
        elif state == "failed":
            waits = {"waiting": {"reason": "CrashLoopBackOff"}}
            status["initContainerStatuses"][0].update(restartCount=3, state=waits)
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.send("PATCH", path, {"status": status}, STRATEGIC)

    def close(self, node: str, *, closed: bool) -> None:
        """Cordon or uncordon a node."""
        (self._closed.add if closed else self._closed.discard)(node)
        self.send("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": closed}}, MERGE)

    def resize(self, node: str, gib: int) -> None:
        """Give a node more or less memory; with less, it may hold more than it has for a while."""
        self._shrunk.add(node)
        resources = {"memory": f"{gib}Gi"}
        status = {"status": {"allocatable": resources, "capacity": resources}}
        self.send("PATCH", f"/api/v1/nodes/{node}/status", status, MERGE)

    def add_claim(self) -> None:
        """Create a claim, its volume, and the Job that fills it."""
        name = f"store-{next(self._numbers)}"
        claim, job = example("shared-volume.yaml", self.namespace, "PersistentVolumeClaim", "Job")
        claim["metadata"]["name"] = job["metadata"]["name"] = name
        claim["spec"].update(storageClassName="", volumeName=f"{self.namespace}-{name}")
        template = played_by_hand(job)["spec"]["template"]
        template["metadata"]["labels"]["app"] = name
        template["spec"]["containers"][0]["resources"] = {}
        template["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = name
        space = f"namespaces/{self.namespace}"
        self.send("POST", "/api/v1/persistentvolumes", volume(f"{self.namespace}-{name}"))
        self.send("POST", f"/api/v1/{space}/persistentvolumeclaims", claim)
        self.send("POST", f"/apis/batch/v1/{space}/jobs", job)
        self.claims.append(name)
        self.unfilled.append(name)

    def fill(self) -> None:
        """Let the oldest Job that is under way complete."""
        if not self.unfilled:
            return
        query = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app%3D{self.unfilled[0]}"
        writers = self.items(query)
        if writers:
            self.unfilled.pop(0)
            path = f"/api/v1/namespaces/{self.namespace}/pods/{writers[0]['metadata']['name']}"
            self.send("PATCH", f"{path}/status", {"status": succeeded(writers[0])}, STRATEGIC)

    def send(self, method: str, path: str, body: Any, kind: str = "application/json") -> None:
        answer = self.api.request(
            method, path, body=json.dumps(body).encode(), headers={"Content-Type": kind}
        )
        assert answer.ok or answer.status == 404, answer.body
        self.made += 1

    # -- what ought to be ------------------------------------------------------------------------

    def items(self, path: str) -> list[Object]:
        answer = self.api.request("GET", path)
        assert answer.ok, answer.body
        found: list[Object] = json.loads(answer.body)["items"]
        return found

    def truth(self) -> tuple[ClusterState, list[Pod]]:
        """Return a state made of fresh lists, and the pods that wait, once the laws are checked.

        It knows less than the extender: what a loader left that is no longer Ready is absent here.
        """
        state = ClusterState(clock=time.time)
        waiting = []
        for path, kind in KINDS:
            for item in self.items(path):
                obj = convert(item, kind)
                state.upsert(obj)
                if item["metadata"].get("labels", {}).get("random"):
                    if not obj.spec.node_name:
                        waiting.append(obj)
                    elif item["spec"]["containers"][0]["name"] == READER:
                        assert obj.spec.node_name in self._had_model, item["metadata"]["name"]
        over = {name for name, node in state.view().nodes.items() if node.free < 0}
        assert over <= self._shrunk, f"over their ledger: {over - self._shrunk}"
        self._shrunk &= over
        return state, waiting

    def could_run(self) -> list[str]:
        """Name the waiting pods that could run, with the nodes that would take them."""
        state, waiting = self.truth()
        names = tuple(node for node in NODES if node not in self._closed)
        context = Context(state=state, policy=Policy())
        found = []
        for pod in waiting:
            result, _ = filter_nodes(ExtenderArgs(pod=pod, names=names, nodes=None), context)
            if result.names:
                found.append(f"{pod.metadata.name} on {', '.join(result.names)}")
        return found

    def rest(self) -> None:
        """Wait until nobody waits who could run."""
        quiet = time.monotonic()
        while waiting := self.could_run():
            waited = time.monotonic() - quiet
            assert waited < PATIENCE_SECONDS, f"could run and wait: {'; '.join(waiting)}"
            time.sleep(0.2)
        self.slowest = max(self.slowest, time.monotonic() - quiet)


RESOURCES = {"requests": {"memory": "64Mi", "cpu": "10m"}}
READER = "vllm"


def ram(gib: int) -> Object:
    """Return a pod's spec with so much of tmpfs."""
    container = {
        "name": "main",
        "image": "registry.k8s.io/pause:3.10",
        "resources": RESOURCES,
        "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
    }
    memory = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": f"{gib}Gi"}}
    return {"containers": [container], "volumes": [memory]}


def reader(namespace: str, claim: str = "") -> Object:
    """Return the example's server: it needs the model in the node's cache, or in a claim."""
    file = "shared-volume.yaml" if claim else "node-cache.yaml"
    (deployment,) = example(file, namespace, "Deployment")
    spec: Object = copy.deepcopy(deployment["spec"]["template"]["spec"])
    for container in spec["containers"]:
        container["resources"] = RESOURCES
        if claim:
            container["name"] = "reads-a-claim"
    for each in spec["volumes"]:
        if claim and "persistentVolumeClaim" in each:
            each["persistentVolumeClaim"]["claimName"] = claim
    return spec
