"""Changes to a real cluster, whatever comes to somebody's mind, and what ought to be after them."""

from __future__ import annotations

import json
import time
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

from extender.watch.client import Transport
from tests.controlplane.cluster import fake_node
from tests.controlplane.processes import HarnessError, wait_for
from tests.controlplane.rests import Rests
from tests.controlplane.run_queue import RunQueue
from tests.controlplane.shipped import (
    SCHEDULER,
    Object,
    done,
    ended,
    example,
    loading,
    played_by_hand,
    volume,
)
from tests.controlplane.specs import READER
from tests.truth.bindings import Bindings, World, bound_in
from tests.truth.memory import amount
from tests.truth.past import Sent
from tests.truth.waiting import Lists, in_vain
from tests.truth.waits import Look

NODES = [f"random-{number}" for number in range(8)]
ASIDE = "random-aside"
"""A node that takes everybody by kube-scheduler's own count, and has neither the model nor memory.
So filter has its say of every pod, and every pod can be woken."""
ASIDE_RESOURCES = {"cpu": "1000", "memory": "2Gi", "pods": "500"}
NODE_GIB = 32
NODE_RESOURCES = {"cpu": "12", "memory": f"{NODE_GIB}Gi", "pods": "500"}
MAX_PODS = 120
PRIORITIES = {"low": (1, True), "high": (1000, True), "polite": (1000, False)}
"""Of pods: how high, and whether others are evicted for them."""
STUCK_SECONDS = 20.0
GRACE_SECONDS = 3.0
"""``staleGraceSeconds`` of the extenders here: a node whose loader has ended is soon without."""
OURS = "random"
"""A label, on the pods that go to the model-cache scheduler."""
LABELLED = f"labelSelector={OURS}%3Dyes"
OF_LOADERS = "labelSelector=app%3Dmodel-loader"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


class Changes:
    """Changes nodes, loaders, pods, claims and jobs, and tells from fresh lists what follows.

    What is written is noted in ``world``, by which the laws of tests/truth judge what comes of it.
    """

    def __init__(self, api: Transport, namespace: str, run_queue: RunQueue) -> None:
        """``run_queue`` is that of everybody on the way from a change to a Binding."""
        self.api = api
        self.namespace = namespace
        self.world = World(GRACE_SECONDS)
        self.bindings = Bindings(self.world, label=OURS, reads_cache=READER)
        self.made = 0
        self.rests = Rests(self.look, self.world, run_queue)
        self.alive: list[str] = []
        self._created: dict[str, Object] = {}
        """The pods for the model-cache scheduler, by UID."""
        self._evictions: dict[tuple[str, str], set[str]] = {}
        """Whom kube-scheduler has evicted, by for whom and where."""
        self.claims: list[str] = []
        self.unfilled: list[str] = []
        self._numbers = iter(range(1_000_000))
        self._loaders: dict[str, Object] = {}
        self._loader: Object = {}
        """The loaders' DaemonSet while it is away."""
        self._gone: set[str] = set()
        self._looked = 0.0
        """When the last lists were asked for."""

    def begin(self) -> None:
        """Go back to a cluster without pods and claims, whose nodes are there and open.

        Every other one has loaded the model.
        """
        self._delete_pods(f"?{LABELLED}")
        self.alive.clear()
        self._created.clear()
        self._take_claims()
        for node in NODES:
            self.bring_back(node)
        self.put_loader()
        self._await_loaders()
        for number, node in enumerate(NODES):
            self.close(node, closed=False)
            self.resize(node, NODE_GIB)
            self.load(node, "ready" if number % 2 else "loading")

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

    def create(self, spec: Object, priority: str = "") -> None:
        """Create a pod for the model-cache scheduler, with one of ``PRIORITIES`` or none."""
        if len(self.alive) >= MAX_PODS:
            return
        name = f"random-{next(self._numbers)}"
        metadata = {"name": name, "labels": {OURS: "yes"}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        ranked = {"priorityClassName": f"{priority}-{self.namespace}"} if priority else {}
        named = {**pod, "spec": {"schedulerName": SCHEDULER, **ranked, **spec}}
        made = json.loads(self.send("POST", self._pods, named).body)
        self._created[made["metadata"]["uid"]] = made
        self.alive.append(name)

    def delete(self, index: int) -> None:
        """Delete one of the pods."""
        if self.alive:
            self._delete_pods(f"/{self.alive.pop(index % len(self.alive))}")

    def _delete_pods(self, which: str) -> None:
        """Delete a pod by its path, or all that a selector takes; see where they were."""
        sent = self.send("DELETE", self._pods + which, {"gracePeriodSeconds": 0})
        if sent.ok:
            answer = json.loads(sent.body)
            for pod in answer.get("items", [answer]):
                self.bindings.deleted(pod, sent.asked)

    def load(self, node: str, state: str) -> None:
        """Let a node's loader be done, at work, or crash, if there is one."""
        pod = self._loader_on(node)
        if pod is None:
            return
        status = done(pod) if state == "ready" else loading(pod)
        if state == "failed":
            waits = {"waiting": {"reason": "CrashLoopBackOff"}}
            status["initContainerStatuses"][0].update(restartCount=3, state=waits)
        path = f"{self._pods}/{pod['metadata']['name']}/status"
        sent = self.send("PATCH", path, {"status": status}, STRATEGIC)
        self.world.loaded[node].became(sent, to=state == "ready" and sent.ok)

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
                self._delete_pods(f"/{metadata['name']}")
            elif (
                metadata["ownerReferences"][0]["uid"] in owners
                and node in set(NODES) - self._gone - self._loaders.keys()
            ):
                self._loaders[node] = pod
                self.load(node, "loading")

    def take_loader(self) -> None:
        """Delete the loaders' DaemonSet, and its pods as the garbage collector does."""
        if self._loader:
            return
        (self._loader,) = self.items(self._daemonsets)
        name = self._loader["metadata"]["name"]
        self.world.owned.became(self.send("DELETE", f"{self._daemonsets}/{name}", {}), to=False)
        self._delete_pods(f"?{OF_LOADERS}")
        for node in NODES:
            self._lose(node)

    def put_loader(self) -> None:
        """Create the loaders' DaemonSet again."""
        if not self._loader:
            return
        known = self._loader["metadata"]
        metadata = {key: known[key] for key in ("name", "labels", "annotations") if key in known}
        loader = {"metadata": metadata, "spec": self._loader["spec"]}
        self.world.owned.became(self.send("POST", self._daemonsets, loader), to=True)
        self._loader = {}

    def _lose(self, node: str) -> None:
        """Note that there is no loader any more on a node, as of now."""
        self._loaders.pop(node, None)
        now = time.time()
        self.world.loaded[node].became(Sent(now, now), to=False)

    def take_away(self, node: str) -> None:
        """Delete a node and, as the garbage collector does, what was on it."""
        if node in self._gone:
            return
        self._gone.add(node)
        self.send("DELETE", f"/api/v1/nodes/{node}", {})
        self._collect(node)

    def bring_back(self, node: str) -> None:
        """Add a node again by the name of one that went, empty."""
        if node not in self._gone:
            return
        self._collect(node)
        self._gone.remove(node)
        sent = self.send("POST", "/api/v1/nodes", fake_node(node, NODE_RESOURCES, {}))
        self.world.allocatable[node].became(sent, to=amount(NODE_RESOURCES["memory"]))

    def _collect(self, node: str) -> None:
        for pod in self.items(f"{self._pods}?fieldSelector=spec.nodeName%3D{node}"):
            name = pod["metadata"]["name"]
            self._delete_pods(f"/{name}")
            if name in self.alive:
                self.alive.remove(name)
        self._lose(node)

    def close(self, node: str, *, closed: bool) -> None:
        """Cordon or uncordon a node."""
        if node in self._gone:
            return
        self.send("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": closed}}, MERGE)

    def resize(self, node: str, gib: int) -> None:
        """Give a node more or less memory; with less, it may hold more than it has."""
        resources = {"memory": f"{gib}Gi"}
        status = {"status": {"allocatable": resources, "capacity": resources}}
        sent = self.send("PATCH", f"/api/v1/nodes/{node}/status", status, MERGE)
        if sent.ok:
            self.world.allocatable[node].became(sent, to=amount(resources["memory"]))

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
        sent = self.send("POST", f"/apis/batch/v1/{space}/jobs", job)
        self.world.filled[name].became(sent, to=False)
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
            claim = self.unfilled.pop(0)
            path = f"{self._pods}/{writers[0]['metadata']['name']}"
            status = {"status": ended(writers[0])}
            sent = self.send("PATCH", f"{path}/status", status, STRATEGIC)
            self.world.filled[claim].became(sent, to=True)

    def send(self, method: str, path: str, body: Any, kind: str = "application/json") -> Sent:
        """Make a change; what it is made to may be gone."""
        asked = time.time()
        answer = self.api.request(
            method, path, body=json.dumps(body).encode(), headers={"Content-Type": kind}
        )
        assert answer.ok or answer.status == 404, answer.body
        self.made += 1
        return Sent(asked, time.time(), answer.ok, answer.body)

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

    def look(self) -> Look:
        """Judge every Binding so far by fresh lists; return who waits and could run."""
        fresh = self._evictions_since()
        at = time.time()
        space = f"namespaces/{self.namespace}"
        lists = Lists(
            nodes=self.items("/api/v1/nodes"),
            pods=self.items("/api/v1/pods"),  # those of what is shipped take room, too
            claims=self.items(f"/api/v1/{space}/persistentvolumeclaims"),
            jobs=self.items(f"/apis/batch/v1/{space}/jobs"),
        )
        for node in lists.nodes:
            has = amount(node["status"]["allocatable"]["memory"])
            # Whoever makes a node Ready may write back what it had.
            self.world.allocatable[node["metadata"]["name"]].became(Sent(self._looked, at), to=has)
        self._looked = at
        self.bindings.listed(lists.pods, at)
        for place, moment in fresh.items():
            uid, where = place
            self.bindings.evicted(self._created[uid], where, self._evictions[place], moment)
        present = {pod["metadata"]["name"] for pod in lists.pods}
        self.alive = [name for name in self.alive if name in present]
        waiting = [
            pod
            for pod in lists.pods
            if OURS in pod["metadata"].get("labels", {}) and not pod["spec"].get("nodeName")
        ]
        answered = time.time()
        return Look(
            asked=at,
            answered=answered,
            waiting=in_vain(waiting, lists, self.world, reads_cache=READER),
            bound=dict(filter(None, map(bound_in, lists.pods))),
        )

    def _evictions_since(self) -> dict[tuple[str, str], float]:
        """Note whom kube-scheduler has evicted since the last look.

        Returns when, by the UID of the pod for which that was, and by the node.
        """
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        fresh: dict[tuple[str, str], float] = {}
        for event in self.items(f"{path}?fieldSelector=reason%3DPreempted"):
            _, _, _, uid, _, _, node, *_ = event["note"].split()  # by pod UID on node NAME
            victim = event["regarding"]["uid"]
            victims = self._evictions.setdefault((uid, node), set())
            if victim not in victims and uid in self._created:
                victims.add(victim)
                moment = datetime.fromisoformat(event["eventTime"]).timestamp()
                self.bindings.went(victim, moment)
                fresh[uid, node] = min(moment, fresh.get((uid, node), inf))
        return fresh


def short_grace(folder: Path) -> str:
    """Write a configuration with ``GRACE_SECONDS``; return the argument for it."""
    file = folder / "extender.yaml"
    file.write_text(
        "apiVersion: modelcache.dev/v1alpha1\n"
        "kind: ExtenderConfiguration\n"
        f"evidence: {{staleGraceSeconds: {GRACE_SECONDS:.0f}}}\n",
        encoding="utf-8",
    )
    return f"--config={file}"
