"""How many pods a workload asks for, and in which order they come.

What it asks for now: a suspended Job asks for none, and a Job not for the pods that follow those
that are done. Defaults are the API's own; sources stand where they are not obvious.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from extender.errors import UsageError
from extender.workload.inference_services import (
    BESIDE,
    HEAD,
    MAIN,
    PREDICTOR,
    PREFILL,
    PREFILL_WORKER,
    WORKER,
)
from extender.workload.manifest import LEADER, Part, inner, object_name

Path = tuple[str, ...]


class Asked(msgspec.Struct, frozen=True):
    """So many groups of pods; ``each`` has how many of which part a group has, in order.

    ``said`` is the field that says how many, for people.
    """

    groups: int
    said: str
    each: Mapping[str, int]


class Wanted(msgspec.Struct, frozen=True):
    """So many pods of one part; ``said`` is the field that says how many, for people."""

    pods: int
    said: str


_STOP = "serving.kserve.io/stop"
_OF_KSERVE = ("InferenceService", "LLMInferenceService")
_ENDED = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")
"""Conditions of a Job that makes no new pod: the last two are those of one that is about to end."""

EACH_NODE = "each node that it is for"
"""What says how many pods a DaemonSet has."""


def wanted_of(manifest: Any, parts: Sequence[Part]) -> dict[str, Wanted]:
    """Return how many pods of each part a workload asks for, by the part's name.

    Empty for a pod, and a DaemonSet, which has one on each node that matches. Raises UsageError
    for a number that is none.
    """
    if manifest.get("kind") not in _COUNTS:
        return {}
    found: dict[str, Wanted] = {}
    for asked in groups_of(manifest, parts):
        for name, number in asked.each.items():
            said = asked.said if number or not asked.groups else "the size of its groups"
            found[name] = Wanted(asked.groups * number, said)
    return found


def groups_of(manifest: Any, parts: Sequence[Part]) -> list[Asked]:
    """Return the groups of pods that a workload asks for: one kind of them, or several.

    None of what makes no pods any more. A DaemonSet asks for one on each node that matches,
    whatever its manifest says. Raises UsageError for a number that is none.
    """
    by_name = {part.name: part for part in parts}
    groups = list(_COUNTS.get(manifest.get("kind"), _plain)(manifest, by_name))
    over = _over(manifest) if manifest.get("kind") in _COUNTS else ""
    return [msgspec.structs.replace(one, groups=0, said=over) for one in groups] if over else groups


def _over(manifest: Any) -> str:
    """Name what has a workload make no pods any more, whatever its spec asks for; else empty.

    Controllers leave alone what is being deleted, and a Job that has ended (``IsJobFinished`` in
    kubernetes/pkg/controller/job/utils.go), KServe what is stopped (``GetForceStopRuntime`` in
    github.com/kserve/kserve).
    """
    if inner(manifest, ("metadata", "deletionTimestamp")):
        return "metadata.deletionTimestamp"
    kind = manifest["kind"]
    stopped = inner(manifest, ("metadata", "annotations", _STOP))
    if kind in _OF_KSERVE and isinstance(stopped, str) and stopped.lower() == "true":
        return f"metadata.annotations[{_STOP}]"
    conditions = inner(manifest, ("status", "conditions"))
    if kind == "Job" and isinstance(conditions, list):
        for one in conditions:
            type_ = inner(one, ("type",))
            if type_ in _ENDED and inner(one, ("status",)) == "True":
                return f"status.conditions: {type_}"
    return ""


def _plain(manifest: Any, parts: Mapping[str, Part]) -> Iterator[Asked]:
    """Yield one pod: of a Pod, a PodTemplate."""
    del manifest
    yield Asked(1, "a pod", dict.fromkeys(parts, 1))


def _replicas(manifest: Any, parts: Mapping[str, Part]) -> Iterator[Asked]:
    number = _number(manifest, ("spec", "replicas"), 1)
    yield Asked(number, "spec.replicas", dict.fromkeys(parts, 1))


def _job(manifest: Any, parts: Mapping[str, Part], at: Path = ()) -> Iterator[Asked]:
    """Yield the pods that a Job runs at a time: no more than it still wants to complete."""
    each = dict.fromkeys(parts, 1)
    if inner(manifest, (*at, "spec", "suspend")) is True:
        yield Asked(0, ".".join((*at, "spec", "suspend")), each)
        return
    path = (*at, "spec", "parallelism")
    at_a_time = _number(manifest, path, 1)
    wanted = _number(manifest, (*at, "spec", "completions"), at_a_time)
    done = _number(manifest, (*at, "status", "succeeded"), 0)
    left = max(0, wanted - done)
    if left < at_a_time:
        yield Asked(left, ".".join((*at, "spec", "completions")), each)
    else:
        yield Asked(at_a_time, ".".join(path), each)


def _cron_job(manifest: Any, parts: Mapping[str, Part]) -> Iterator[Asked]:
    """Yield the pods of one run."""
    if inner(manifest, ("spec", "suspend")) is True:
        yield Asked(0, "spec.suspend", dict.fromkeys(parts, 1))
    else:
        yield from _job(manifest, parts, ("spec", "jobTemplate"))


def _groups(manifest: Any, parts: Mapping[str, Part]) -> Iterator[Asked]:
    """Yield groups of a leader and its workers; ``size`` counts the leader.

    https://lws.sigs.k8s.io/docs/reference/leaderworkerset.v1/
    """
    size = _number(manifest, ("spec", "leaderWorkerTemplate", "size"), 1)
    each = _of_group(parts, LEADER, WORKER, size)
    yield Asked(_number(manifest, ("spec", "replicas"), 1), "spec.replicas", each)


def _service(manifest: Any, parts: Mapping[str, Part]) -> Iterator[Asked]:
    """Yield what is there without requests: KServe's default is one, 0 is scaled up on demand.

    On several nodes ``pipelineParallelSize`` counts the head:
    https://kserve.github.io/website/docs/model-serving/generative-inference/multi-node
    """
    path = ("spec", PREDICTOR, "minReplicas")
    size = _number(manifest, ("spec", PREDICTOR, "workerSpec", "pipelineParallelSize"), 2)
    first = PREDICTOR if PREDICTOR in parts else HEAD
    yield Asked(_number(manifest, path, 1), ".".join(path), _of_group(parts, first, WORKER, size))
    for part in (part for part in BESIDE if part in parts):
        path = ("spec", part, "minReplicas")
        yield Asked(_number(manifest, path, 1), ".".join(path), {part: 1})


def _llm(manifest: Any, parts: Mapping[str, Part]) -> Iterator[Asked]:
    for at, first, worker in (
        (("spec",), MAIN, WORKER),
        (("spec", "prefill"), PREFILL, PREFILL_WORKER),
    ):
        if first == PREFILL and not {first, worker} & parts.keys():
            continue
        each = _of_group(parts, first, worker, _size(manifest, at))
        path = (*at, "replicas")
        yield Asked(_number(manifest, path, 1), ".".join(path), each)


def _size(manifest: Any, at: Path) -> int:
    """Return how many pods serve together (``ParallelismSpec.GetSize`` in kserve/kserve)."""
    path = (*at, "parallelism")
    data = _number(manifest, (*path, "data"), 0)
    local = _number(manifest, (*path, "dataLocal"), 0)
    if data or local:
        return max(1, max(data, 1) // max(local, 1))
    return _number(manifest, (*path, "pipeline"), 1) or 1


def _of_group(parts: Mapping[str, Part], first: str, worker: str, size: int) -> dict[str, int]:
    """Return how many pods of which part a group of such a size has."""
    if "" in parts:
        return {"": 1}
    if worker not in parts:
        return {first: 1}
    if first not in parts:
        return {worker: size}
    return {first: 1, worker: max(0, size - 1)}


_COUNTS: dict[Any, Callable[[Any, Mapping[str, Part]], Iterator[Asked]]] = {
    "Deployment": _replicas,
    "StatefulSet": _replicas,
    "ReplicaSet": _replicas,
    "Job": _job,
    "CronJob": _cron_job,
    "LeaderWorkerSet": _groups,
    "InferenceService": _service,
    "LLMInferenceService": _llm,
}


def _number(manifest: Any, path: Path, default: int) -> int:
    """Read a number of pods. Raises UsageError that names object and field."""
    said = inner(manifest, path)
    if said is None:
        return default
    if isinstance(said, bool) or not isinstance(said, int) or said < 0:
        raise UsageError(
            f"{object_name(manifest)}: {'.'.join(path)}: {said!r} is not a whole number of pods"
        )
    return said
