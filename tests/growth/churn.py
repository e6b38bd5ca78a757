"""Generations of a cluster: all that is in one comes, is decided about, and goes for good.

No name, model, image or label set comes twice, so that whatever is kept by any of them shows. One
node, one loader and one claim stay: in a cluster that is never empty less is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from extender.cluster.decisions import BoundDecision
from extender.cluster.holdings import Evidence
from extender.cluster.tiers import Tier
from extender.kube.objects import KubeObject, Pod
from extender.kube.times import time_text
from extender.report import Progress, ReportedState, Transfer
from extender.watch.resources import RESOURCES
from extender.workload.model import Strategy
from tests.builders import (
    LOADING,
    READY,
    STOPPED,
    claim,
    job,
    loader,
    loader_lease,
    loader_pod,
    namespace,
    node,
    our_loader,
    reported,
    reporting_pod,
    storage_class,
    tmpfs,
    vllm,
    volume,
)
from tests.watch.fake_apiserver import FakeApiserver

Object = dict[str, Any]
Ask = Callable[[str, Object], Any]
"""Asks a verb (``filter``), returns its answer."""

NODES = 4
PODS = 24
_PATHS = {resource.kind: resource.path for resource in RESOURCES}


class Churn:
    """One cluster, seen through ``api``; ``now`` gives UNIX seconds."""

    def __init__(self, api: FakeApiserver, ask: Ask, now: Callable[[], float]) -> None:
        self._api = api
        self._ask = ask
        self._now = now
        self._there: dict[tuple[str, str], None] = {}
        self.asked = 0
        """Verbs that were called."""
        self.generations = 0
        for lasting in (
            node("lasting"),
            loader(),
            loader_pod("lasting", READY),
            claim("lasting"),
            volume("pv-lasting"),
        ):
            self._put(lasting)
        self._there.clear()

    def live(self, await_nodes: Callable[[int], None]) -> None:
        """Let a generation come and go; ``await_nodes`` waits until so many nodes are known."""
        self.generations += 1
        number = self.generations
        names = [f"node-{number}-{index}" for index in range(NODES)]
        space = f"team-{number}"
        self._equip(number, space, names)
        await_nodes(len(names) + 2)
        self._ask_about_strange_nodes(number)
        for index in range(PODS):
            self._pod(number, index, space, names)
        self._retire(space, names)
        for path, name in reversed(list(self._there)):
            self._api.delete(path, name)
        self._there.clear()
        await_nodes(1)
        self._api.compact()

    # -- what comes and goes ---------------------------------------------------------------------

    def _equip(self, number: int, space: str, names: list[str]) -> None:
        """Add nodes, two sorts of loaders on each, a claim that a Job fills, and a few oddities."""
        fast = f"fast-{number}"
        for common in (
            namespace(space, trusted=True),
            loader(f"loader-{number}", space, _script(number)),
            our_loader(namespace=space),
            storage_class(fast),
            claim("model-store", storageClassName=fast),
            volume(f"pv-{number}"),
            job(f"fill-{number}", ("Complete",)),
        ):
            self._put(common)
        for name in names:
            labels = {"kubernetes.io/hostname": name}
            annotations = {"modelcache.dev/provides": f"/srv/baked-{number}"}
            images = {f"registry.example/{name}:1": 10**9}
            self._put(node(name, labels=labels, annotations=annotations, images=images))
            self._load(number, space, name)
        self._put(node(f"odd-{number}", "much"))

    def _load(self, number: int, space: str, name: str) -> None:
        path = f"own-{number}"
        moving = Transfer(path=path, bytes_total=100, bytes_done=50)
        progress = Progress(transfers=(moving,))
        renewed = time_text(self._now())
        for status in (LOADING, READY):
            self._put(self._loader_pod(name, status, space))
        for state in (ReportedState.LOADING, ReportedState.READY):
            report = reported(state, path=path, proven_at=renewed)
            self._put(reporting_pod(name, READY, report, namespace=space))
        self._put(loader_lease(name, renewed, namespace=space, progress=progress))

    def _retire(self, space: str, names: list[str]) -> None:
        """Let loaders stop, and one be deleted that leaves something behind."""
        for name in names:
            self._put(self._loader_pod(name, STOPPED, space))
        self._delete("/api/v1/pods", f"model-cache-loader-{names[0]}")

    def _loader_pod(self, on: str, status: Object, space: str) -> Pod:
        number = self.generations
        name, script = f"loader-{number}", _script(number)
        return loader_pod(on, status, name=name, namespace=space, script=script)

    def _ask_about_strange_nodes(self, number: int) -> None:
        pod = vllm(f"stray-{number}")
        self._verb("filter", _args(_document(pod), [f"strange-{number}"]))

    # -- pods ------------------------------------------------------------------------------------

    def _pod(self, number: int, index: int, space: str, names: list[str]) -> None:
        """Let a pod come, be placed as its answers say, run, and go; some go at an earlier step."""
        name = f"pod-{number}-{index}"
        kind = index % 6
        if kind == 0:
            pod = vllm(name, model=f"/models/m-{number}", namespace=space)
        elif kind == 1:
            pod = tmpfs(name, size=f"{1 + index}Gi")
        elif kind == 2:
            pod = vllm(name, volume={"persistentVolumeClaim": {"claimName": "model-store"}})
        elif kind == 3:
            pod = vllm(name, model=f"/models/absent-{name}", namespace=space)
        elif kind == 4:
            pod = tmpfs(name, size="900Gi")
        else:
            pod = vllm(name, model=f"/models/own-{number}", namespace=space)
        document = _document(pod)
        document["metadata"]["labels"] = {"controller-uid": name}
        document["status"]["nominatedNodeName"] = names[index % len(names)] if kind == 4 else ""
        self._put_document("/api/v1/pods", name, document)
        args = _args(document, names)
        passed = self._verb("filter", args)["NodeNames"]
        victims = {on: {"Pods": [{"UID": f"nobody-{name}"}], "NumPDBViolations": 0} for on in names}
        self._verb("preempt", {"Pod": document, "NodeNameToMetaVictims": victims})
        if passed:
            self._place(document, passed, shown=index % 5 != 0)
        if index % 2:
            self._delete("/api/v1/pods", name)

    def _place(self, document: Object, passed: list[str], *, shown: bool) -> None:
        """Bind a pod to the best node; ``shown``: the watch tells of it, and of its start."""
        ranked = self._verb("prioritize", _args(document, passed))
        best = max(ranked, key=lambda entry: entry["Score"])["Host"]
        metadata = document["metadata"]
        asked = {"PodNamespace": metadata["namespace"], "PodName": metadata["name"]}
        self._verb("bind", asked | {"PodUID": metadata["uid"], "Node": best})
        if not shown:
            return
        decided = BoundDecision(
            time=self._now(),
            node=best,
            strategy=Strategy.NODE_CACHE,
            evidence=Evidence.DECLARED,
            tier=Tier.DISK,
            estimated_start_seconds=28.0,
        )
        document["metadata"]["annotations"] = decided.annotations()
        document["spec"]["nodeName"] = best
        for ready in ("False", "True"):
            at = time_text(self._now())
            conditions = [("PodScheduled", "True"), ("Ready", ready)]
            document["status"] = {
                "phase": "Running",
                "conditions": [
                    {"type": kind, "status": status, "lastTransitionTime": at}
                    for kind, status in conditions
                ],
            }
            self._put_document("/api/v1/pods", metadata["name"], document)

    # -- the apiserver and the verbs -------------------------------------------------------------

    def _put(self, obj: KubeObject) -> None:
        self._put_document(_PATHS[type(obj)], obj.metadata.name, _document(obj))

    def _put_document(self, path: str, name: str, document: Object) -> None:
        given = {k: v for k, v in document["metadata"].items() if v and k != "resourceVersion"}
        self._api.put(path, name, **{**document, "metadata": given})
        self._there[path, name] = None

    def _delete(self, path: str, name: str) -> None:
        self._api.delete(path, name)
        del self._there[path, name]

    def _verb(self, verb: str, args: Object) -> Any:
        self.asked += 1
        return self._ask(verb, args)


def _script(number: int) -> str:
    return f"hf download example/m-{number} --local-dir /models/m-{number}"


def _args(document: Mapping[str, Any], names: list[str]) -> Object:
    return {"Pod": document, "Nodes": None, "NodeNames": names}


def _document(obj: KubeObject) -> Object:
    document: Object = msgspec.to_builtins(obj)
    return document
