"""Hundreds of random changes against the real scheduler, then quiet: nobody may wait in vain.

``RANDOM_CHANGES=5000`` makes more of them, ``RANDOM_CHANGES_SEED=N`` the same ones again.
``SOAK_SECONDS=1200`` (``make soak``) goes on for so long, with the extender killed now and then,
and looks at its memory.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from extender.cluster.state import ClusterState
from extender.kube.decode import convert
from extender.kube.objects import DaemonSet, Node, Pod
from extender.placement.policy import Policy
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.watch.client import Transport, connect
from extender.wire import ExtenderArgs
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import SCHEDULER, Object, done, example, load, loading

NODES = [f"random-{number}" for number in range(8)]
NODE_GIB = 32
CHANGES = int(os.environ.get("RANDOM_CHANGES", "900"))
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
BATCH = 150
MAX_PODS = 120
PATIENCE_SECONDS = 10.0
GIB = 2**30


class Changes:
    """Makes random changes, and tells from fresh lists what ought to be."""

    def __init__(
        self, api: Transport, namespace: str, loaders: dict[str, Object], seed: int
    ) -> None:
        self.api = api
        self.namespace = namespace
        self.loaders = loaders
        self.seed = seed
        self.random = Random(seed)
        self.made = 0
        self.alive: list[str] = []

    def change(self) -> None:
        """Do one random thing to the cluster."""
        kind = self.random.choices(("create", "delete", "loader"), (5, 4, 2))[0]
        if kind == "create" and len(self.alive) < MAX_PODS:
            self.create()
        elif kind == "delete" and self.alive:
            name = self.alive.pop(self.random.randrange(len(self.alive)))
            body = {"gracePeriodSeconds": 0}
            self.send("DELETE", f"/api/v1/namespaces/{self.namespace}/pods/{name}", body)
        else:
            self.change_loader()

    def create(self) -> None:
        self.made += 1
        name = f"random-{self.made}"
        memory = self.random.random() < 0.6
        spec = ram(self.random.choice((2, 4, 8, 12))) if memory else reader(self.namespace)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"random": "yes"}},
            "spec": {"schedulerName": SCHEDULER, **spec},
        }
        self.send("POST", f"/api/v1/namespaces/{self.namespace}/pods", pod)
        self.alive.append(name)

    def change_loader(self) -> None:
        pod = self.loaders[self.random.choice(NODES)]
        status = done(pod) if self.random.random() < 0.6 else loading(pod)
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/status"
        self.send("PATCH", path, {"status": status}, "application/strategic-merge-patch+json")

    def send(self, method: str, path: str, body: Any, kind: str = "application/json") -> None:
        answer = self.api.request(
            method, path, body=json.dumps(body).encode(), headers={"Content-Type": kind}
        )
        assert answer.ok or answer.status == 404, answer.body

    # -- what ought to be ------------------------------------------------------------------------

    def items(self, path: str) -> list[Object]:
        answer = self.api.request("GET", path)
        assert answer.ok, answer.body
        found: list[Object] = json.loads(answer.body)["items"]
        return found

    def truth(self) -> tuple[ClusterState, list[Pod]]:
        """Return a state made of fresh lists, and the pods that wait.

        It knows less than the extender: what a loader left that is no longer Ready is absent here.
        """
        state = ClusterState(clock=time.time)
        kinds: tuple[tuple[str, type[Any]], ...] = (
            ("/api/v1/nodes", Node),
            ("/apis/apps/v1/daemonsets", DaemonSet),
            ("/api/v1/pods", Pod),
        )
        waiting = []
        for path, kind in kinds:
            for item in self.items(path):
                obj = convert(item, kind)
                state.upsert(obj)
                ours = item["metadata"].get("labels", {}).get("random")
                if ours and not obj.spec.node_name:
                    waiting.append(obj)
        return state, waiting

    def over(self, state: ClusterState) -> list[str]:
        """Name the nodes that hold more than they have."""
        return [name for name, node in state.view().nodes.items() if node.free < 0]

    def could_run(self) -> list[str]:
        """Name the waiting pods that could run, with the nodes that would take them."""
        state, waiting = self.truth()
        assert self.over(state) == [], f"seed {self.seed}"
        context = Context(state=state, policy=Policy())
        found = []
        for pod in waiting:
            result, _ = filter_nodes(ExtenderArgs(pod=pod, names=tuple(NODES), nodes=None), context)
            if result.names:
                found.append(f"{pod.metadata.name} on {', '.join(result.names)}")
        return found


def ram(gib: int) -> Object:
    return {
        "containers": [
            {
                "name": "main",
                "image": "registry.k8s.io/pause:3.10",
                "resources": {"requests": {"memory": "64Mi", "cpu": "10m"}},
                "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
            }
        ],
        "volumes": [{"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": f"{gib}Gi"}}],
    }


def reader(namespace: str) -> Object:
    """Return the example's server: it needs the model in the node's cache."""
    (deployment,) = example("node-cache.yaml", namespace, "Deployment")
    spec: Object = deployment["spec"]["template"]["spec"]
    for container in spec["containers"]:
        container["resources"] = {"requests": {"memory": "64Mi", "cpu": "10m"}}
    return spec


@pytest.fixture
def changes(control_plane: ControlPlane, placing: Extender, namespace: str) -> Changes:
    _ = placing
    control_plane.add_nodes(NODES, {"cpu": "32", "memory": f"{NODE_GIB}Gi", "pods": "500"})
    loaders = load(control_plane, namespace, len(NODES))
    seed = int(os.environ.get("RANDOM_CHANGES_SEED") or secrets.randbelow(2**32))
    return Changes(connect(str(control_plane.kubeconfig())), namespace, loaders, seed)


def at_rest(changes: Changes) -> float:
    """Change a batch of things, and return the seconds until nobody waits who could run."""
    for _ in range(BATCH):
        changes.change()
    quiet = time.monotonic()
    while waiting := changes.could_run():
        if time.monotonic() - quiet > PATIENCE_SECONDS:
            pytest.fail(f"seed {changes.seed}: could run and wait: {'; '.join(waiting)}")
        time.sleep(0.2)
    return time.monotonic() - quiet


def test_no_pod_waits_ten_seconds_after_it_could_run(changes: Changes) -> None:
    """Memory comes and goes, loaders become Ready and lose it; no node is ever over its ledger."""
    slowest = max(at_rest(changes) for _ in range(0, CHANGES, BATCH))
    print(f"\n{CHANGES} random changes (seed {changes.seed}): at rest within {slowest:.1f} s")  # noqa: T201


if SOAK_SECONDS:

    @pytest.mark.timeout(SOAK_SECONDS + 300)
    def test_soak(changes: Changes, placing: Extender) -> None:
        """Twenty minutes of it: the same laws, an extender that dies now and then, flat memory."""
        end = time.monotonic() + SOAK_SECONDS
        batches, slowest, deaths = 0, 0.0, 0
        memory: list[int] = []
        while time.monotonic() < end:
            if changes.random.random() < 0.05:
                deaths += 1
                placing.kill()
                placing.start()
                placing.wait_ready(lambda: placing.get("/readyz")[0] == 200, 60)
                memory.clear()
            slowest = max(slowest, at_rest(changes))
            batches += 1
            memory.append(resident_bytes(placing.pid))
            if batches % 10 == 0:
                print(  # noqa: T201 - progress of a long run
                    f"{batches * BATCH} changes, {deaths} deaths, at rest within {slowest:.1f} s, "
                    f"{memory[-1] / 2**20:.0f} MiB"
                )
        assert memory[-1] < 1.25 * memory[len(memory) // 4], f"seed {changes.seed}: {memory}"


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its children, from /proc."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    pages = 0
    for process in (str(pid), *children):
        pages += int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
