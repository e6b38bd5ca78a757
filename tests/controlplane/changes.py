"""Changes to a real cluster, whatever comes to somebody's mind, and what ought to be after them."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from math import inf
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
from extender.kube.times import unix_time
from extender.placement.policy import Policy
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.watch.client import Transport
from extender.wire import ExtenderArgs
from tests.controlplane.cluster import fake_node
from tests.controlplane.processes import HarnessError, wait_for
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
NODE_RESOURCES = {"cpu": "32", "memory": f"{NODE_GIB}Gi", "pods": "500"}
MAX_PODS = 120
PATIENCE_SECONDS = 10.0
STUCK_SECONDS = 20.0
ARRIVAL_SECONDS = 2.0
"""What an event may take to the extender on a busy machine, while nothing is wrong."""
LABELLED = "labelSelector=random%3Dyes"
OF_LOADERS = "labelSelector=app%3Dmodel-loader"
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
    """Changes nodes, loaders, pods, claims and jobs, and tells from fresh lists what follows.

    ``sees_from`` returns the UNIX time from which on the extender sees everything, whatever was
    done to its sight; without one it always does.
    """

    def __init__(
        self, api: Transport, namespace: str, sees_from: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.api = api
        self.namespace = namespace
        self.sees_from = sees_from
        self.made = 0
        self.slowest = 0.0
        """The longest that somebody waited who could run, from when the extender could know."""
        self.slowest_of_all = 0.0
        """The same, from when it was so."""
        self.alive: list[str] = []
        self.claims: list[str] = []
        self.unfilled: list[str] = []
        self._numbers = iter(range(1_000_000))
        self._loaders: dict[str, Object] = {}
        self._loader: Object = {}
        """The loaders' DaemonSet while it is away."""
        self._unowned: list[tuple[float, float]] = []
        """When there was no loader: then nobody can tell where the model is, and all nodes pass."""
        self._closed: set[str] = set()
        self._gone: set[str] = set()
        self._had_model: set[str] = set()
        self._lost_model: dict[str, float] = {}
        """When the node went, by name."""
        self._excused: dict[str, float] = {}
        """Nodes that may hold more than they have, by when they were changed."""

    def begin(self) -> None:
        """Go back to a cluster without pods and claims, whose nodes are there, open, and load."""
        self.send("DELETE", f"{self._pods}?{LABELLED}", {"gracePeriodSeconds": 0})
        self.alive.clear()
        self._take_claims()
        for node in NODES:
            self.bring_back(node)
        self.put_loader()
        self._await_loaders()
        for node in NODES:
            self.close(node, closed=False)
            self.resize(node, NODE_GIB)
            self.load(node, "loading")

    def _await_loaders(self) -> None:
        """Wait until each node has a loader's pod.

        The DaemonSet controller keeps by name how many pods it is still to see created. Those of a
        DaemonSet that was deleted meanwhile it never sees as the new one's, and it waits for five
        minutes (pkg/controller, ExpectationsTimeout): a new name ends that.
        """
        try:
            self._await_each(STUCK_SECONDS)
        except HarnessError:
            self.take_loader()
            self._loader["metadata"]["name"] = f"model-loader-{next(self._numbers)}"
            self.put_loader()
            self._await_each(60)

    def _await_each(self, seconds: float) -> None:
        wait_for(lambda: all(map(self._loader_on, NODES)), seconds, "a loader's pod on each node")

    # -- changes ---------------------------------------------------------------------------------

    def create(self, spec: Object) -> None:
        """Create a pod for the model-cache scheduler."""
        if len(self.alive) >= MAX_PODS:
            return
        name = f"random-{next(self._numbers)}"
        metadata = {"name": name, "labels": {"random": "yes"}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        named = {**pod, "spec": {"schedulerName": SCHEDULER, **spec}}
        self.send("POST", self._pods, named)
        self.alive.append(name)

    def delete(self, index: int) -> None:
        """Delete one of the pods."""
        if self.alive:
            name = self.alive.pop(index % len(self.alive))
            self.send("DELETE", f"{self._pods}/{name}", {"gracePeriodSeconds": 0})

    def load(self, node: str, state: str) -> None:
        """Let a node's loader be done, at work, or crash, if there is one."""
        pod = self._loader_on(node)
        if pod is None:
            return
        status = done(pod) if state == "ready" else loading(pod)
        if state == "ready":
            self._had_model.add(node)
        elif state == "failed":
            waits = {"waiting": {"reason": "CrashLoopBackOff"}}
            status["initContainerStatuses"][0].update(restartCount=3, state=waits)
        path = f"{self._pods}/{pod['metadata']['name']}/status"
        self.send("PATCH", path, {"status": status}, STRATEGIC)

    def _loader_on(self, node: str) -> Object | None:
        """Return a node's loader pod; one that is new is loading."""
        if node not in self._loaders:
            self._look_for_loaders()
        return self._loaders.get(node)

    def _look_for_loaders(self) -> None:
        """Find the loaders' pods, and let those end that are being deleted, as a kubelet does."""
        owners = {item["metadata"]["uid"] for item in self.items(self._daemonsets)}
        for pod in self.items(f"{self._pods}?{OF_LOADERS}"):
            metadata, node = pod["metadata"], pod["spec"].get("nodeName", "")
            if "deletionTimestamp" in metadata:
                self.send("DELETE", f"{self._pods}/{metadata['name']}", {"gracePeriodSeconds": 0})
            elif (
                metadata["ownerReferences"][0]["uid"] in owners
                and node in set(NODES) - self._gone - self._loaders.keys()
            ):
                self._loaders[node] = pod
                self.load(node, "loading")

    def take_loader(self) -> None:
        """Delete the loaders' DaemonSet; its pods go after it, what they loaded stays."""
        if self._loader:
            return
        (self._loader,) = self.items(self._daemonsets)
        self._unowned.append((time.time(), inf))
        self.send("DELETE", f"{self._daemonsets}/{self._loader['metadata']['name']}", {})
        self._loaders.clear()

    def put_loader(self) -> None:
        """Create the loaders' DaemonSet again."""
        if not self._loader:
            return
        known = self._loader["metadata"]
        metadata = {key: known[key] for key in ("name", "labels", "annotations") if key in known}
        self.send("POST", self._daemonsets, {"metadata": metadata, "spec": self._loader["spec"]})
        self._loader = {}
        self._unowned[-1] = self._unowned[-1][0], time.time()
        self._excused |= dict.fromkeys(NODES, time.time())  # its pods take memory unasked

    def take_away(self, node: str) -> None:
        """Delete a node and, as the garbage collector does, what was on it."""
        if node in self._gone:
            return
        self._gone.add(node)
        self._had_model.discard(node)
        self._lost_model[node] = time.time()
        self.send("DELETE", f"/api/v1/nodes/{node}", {})
        self._collect(node)

    def bring_back(self, node: str) -> None:
        """Add a node again by the name of one that went, empty."""
        if node not in self._gone:
            return
        self._collect(node)
        self._gone.remove(node)
        self._closed.discard(node)
        self._excused[node] = time.time()  # its loader's pod takes memory unasked
        self.send("POST", "/api/v1/nodes", fake_node(node, NODE_RESOURCES, {}))

    def _collect(self, node: str) -> None:
        for pod in self.items(f"{self._pods}?fieldSelector=spec.nodeName%3D{node}"):
            name = pod["metadata"]["name"]
            self.send("DELETE", f"{self._pods}/{name}", {"gracePeriodSeconds": 0})
            if name in self.alive:
                self.alive.remove(name)
        self._loaders.pop(node, None)

    def close(self, node: str, *, closed: bool) -> None:
        """Cordon or uncordon a node."""
        if node in self._gone:
            return
        (self._closed.add if closed else self._closed.discard)(node)
        self.send("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": closed}}, MERGE)

    def resize(self, node: str, gib: int) -> None:
        """Give a node more or less memory; with less, it may hold more than it has for a while."""
        self._excused[node] = time.time()
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

    def _take_claims(self) -> None:
        """Delete the claims, with the volumes, the Jobs and the Jobs' pods."""
        space = f"namespaces/{self.namespace}"
        for name in self.claims:
            background = {"propagationPolicy": "Background"}
            self.send("DELETE", f"/apis/batch/v1/{space}/jobs/{name}", background)
            self.send("DELETE", f"/api/v1/{space}/persistentvolumeclaims/{name}", {})
            self.send("DELETE", f"/api/v1/persistentvolumes/{self.namespace}-{name}", {})
        self.claims.clear()
        self.unfilled.clear()

    def fill(self) -> None:
        """Let the oldest Job that is under way complete."""
        if not self.unfilled:
            return
        writers = self.items(f"{self._pods}?labelSelector=app%3D{self.unfilled[0]}")
        if writers:
            self.unfilled.pop(0)
            path = f"{self._pods}/{writers[0]['metadata']['name']}"
            self.send("PATCH", f"{path}/status", {"status": succeeded(writers[0])}, STRATEGIC)

    def send(self, method: str, path: str, body: Any, kind: str = "application/json") -> None:
        answer = self.api.request(
            method, path, body=json.dumps(body).encode(), headers={"Content-Type": kind}
        )
        assert answer.ok or answer.status == 404, answer.body
        self.made += 1

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def _daemonsets(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets"

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
                        self._see_model(item)
        over = {name for name, node in state.view().nodes.items() if node.free < 0}
        assert over <= self._excused.keys(), f"over their ledger: {over - self._excused.keys()}"
        known = min(self.sees_from(), time.time()) - ARRIVAL_SECONDS
        self._excused = {n: at for n, at in self._excused.items() if n in over or at > known}
        return state, waiting

    def _see_model(self, pod: Object) -> None:
        """Check that the model was on a pod's node when it was bound, as far as could be known."""
        node, name = pod["spec"]["nodeName"], pod["metadata"]["name"]
        conditions = {entry["type"]: entry for entry in pod["status"]["conditions"]}
        bound = unix_time(conditions["PodScheduled"]["lastTransitionTime"]) or 0.0
        assert (
            node in self._had_model
            or bound <= self._seen(self._lost_model.get(node, 0.0))
            or any(
                begin <= bound + 1.0 and bound <= self._seen(end) for begin, end in self._unowned
            )
        ), f"{name} was bound to {node}, which has no model"

    def _seen(self, moment: float) -> float:
        """Return by when the extender knows what was done at a moment."""
        return max(moment + ARRIVAL_SECONDS, self.sees_from()) if moment else 0.0

    def could_run(self) -> list[str]:
        """Name the waiting pods that could run, with the nodes that would take them."""
        state, waiting = self.truth()
        names = tuple(node for node in NODES if node not in self._closed | self._gone)
        context = Context(state=state, policy=Policy())
        found = []
        for pod in waiting:
            result, _ = filter_nodes(ExtenderArgs(pod=pod, names=names, nodes=None), context)
            if result.names:
                found.append(f"{pod.metadata.name} on {', '.join(result.names)}")
        return found

    def rest(self) -> None:
        """Wait until nobody waits who could run."""
        quiet = time.time()
        while waiting := self.could_run():
            waited = time.time() - max(quiet, self.sees_from())
            assert waited < PATIENCE_SECONDS, f"could run and wait: {'; '.join(waiting)}"
            time.sleep(0.2)
        end = time.time()
        self.slowest = max(self.slowest, end - max(quiet, self.sees_from()))
        self.slowest_of_all = max(self.slowest_of_all, end - quiet)


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
