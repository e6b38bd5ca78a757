"""Pods by the hundred through a running extender, as kube-scheduler and a kubelet would have it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event, Semaphore, Thread
from typing import Any, Self

from extender.cluster.decisions import BoundDecision
from extender.cluster.holdings import Evidence
from extender.cluster.tiers import Tier
from extender.kube.times import time_text
from extender.watch.resources import PODS
from extender.workload.model import Strategy
from tests.serving.running import Running
from tests.watch.fake_apiserver import FakeApiserver

NODES = [f"gpu-{number}" for number in range(1, 6)]
SCHEDULERS = 3
"""Pods that are under way at a time."""

HELD = "llama-3.1-8b-instruct"
"""A model that nodes of the demo's cluster hold."""

_PAUSE_SECONDS = 0.05

Object = dict[str, Any]


def reader(name: str, model: str) -> Object:
    """Return a pod that reads a model from the node's cache."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", f"/models/{model}"],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
        "resources": {"requests": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    }
    volume = {"name": "models", "hostPath": {"path": "/var/lib/models", "type": "Directory"}}
    return {
        "metadata": {"name": name, "namespace": "inference", "uid": name},
        "spec": {
            "schedulerName": "model-cache-scheduler",
            "containers": [container],
            "volumes": [volume],
        },
        "status": {"phase": "Pending"},
    }


def ask(server: Running, pod: Object) -> str:
    """Have one pod placed; return its node, empty where none passed."""
    args = {"Pod": pod, "Nodes": None, "NodeNames": NODES}
    passed: list[str] = server.post("/filter", args).json()["NodeNames"]
    if not passed:
        return ""
    server.post("/prioritize", {**args, "NodeNames": passed})
    names = pod["metadata"]
    binding = {
        "PodName": names["name"],
        "PodNamespace": names["namespace"],
        "PodUID": names["uid"],
        "Node": passed[0],
    }
    assert server.post("/bind", binding).json()["Error"] == ""
    return passed[0]


def put(api: FakeApiserver, pod: Object) -> None:
    """Put a pod where the watch finds it."""
    api.put(PODS.path, pod["metadata"]["name"], **pod)


def put_bound(api: FakeApiserver, pod: Object, node: str, *, bound: float, ready: bool) -> None:
    """Put a pod that was bound at that time; Ready, it took 40 s instead of 28."""
    decision = BoundDecision(
        time=bound,
        node=node,
        strategy=Strategy.NODE_CACHE,
        evidence=Evidence.DECLARED,
        tier=Tier.DISK,
        estimated_start_seconds=28.0,
    )
    conditions = [("PodScheduled", bound, "True"), ("Ready", bound + 40, str(ready))]
    put(
        api,
        {
            "metadata": {**pod["metadata"], "annotations": decision.annotations()},
            "spec": {**pod["spec"], "nodeName": node},
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": kind, "status": status, "lastTransitionTime": time_text(at)}
                    for kind, at, status in conditions
                ],
            },
        },
    )


class Load:
    """Places pods, one after another in each of its threads, until it is stopped.

    Each is bound, starts, and is gone again, so that there is room for the next. ``placed`` has
    their names, ``failed`` what went wrong.
    """

    def __init__(self, server: Running, api: FakeApiserver) -> None:
        self.placed: list[str] = []
        self.failed: list[str] = []
        self._server = server
        self._api = api
        self._names = count()
        self._turns = Semaphore(SCHEDULERS)
        self._stopping = Event()
        self._threads = [Thread(target=self._run, daemon=True) for _ in range(SCHEDULERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Let the pods that are under way end, and begin no other meanwhile."""
        for _ in range(SCHEDULERS):
            self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release(SCHEDULERS)

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            pod = reader(f"load-{next(self._names)}", HELD)
            with self._turns:
                try:
                    self._place(pod)
                except Exception as error:  # noqa: BLE001 - told where the tests look
                    self.failed.append(f"{pod['metadata']['name']}: {error!r}")
                    return

    def _place(self, pod: Object) -> None:
        name, bound = pod["metadata"]["name"], time.time() - 60
        put(self._api, pod)
        node = ask(self._server, pod)
        assert node, "refused everywhere"
        put_bound(self._api, pod, node, bound=bound, ready=False)
        put_bound(self._api, pod, node, bound=bound, ready=True)
        self._api.delete(PODS.path, name)
        self.placed.append(name)
