"""Pods that will be killed, start slower than they could, or can spoil what others read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from extender.doctor.examined import Examined, Group, containers_of
from extender.doctor.finding import Finding, Severity, some
from extender.explain.volumes import volume_warnings
from extender.workload.model import Need, Source
from extender.workload.names import Kind, parse_name
from extender.workload.stacks.initializers import fills
from extender.workload.volumes import locate

_VOLUME_SEVERITY = {
    "VolumeTooSmall": Severity.WARNING,
    "ModelExceedsLimit": Severity.WARNING,
    "OversizedMemoryVolume": Severity.WARNING,
    "UnsizedMemoryVolume": Severity.NOTE,
}
"""Of ``explain``'s warnings; a mount of /dev/shm is as it should be."""

_CERTAIN = frozenset({"VolumeTooSmall", "ModelExceedsLimit"})
"""Those that are errors where the model's size is known, and not only guessed from its name."""

_GANG_LABELS = ("scheduling.x-k8s.io/pod-group", "pod-group.scheduling.sigs.k8s.io")
"""kubernetes-sigs/scheduler-plugins, coscheduling (new and old)."""

_ONCE = frozenset({"DaemonSet", "Job"})
"""Owners whose pods are meant to fetch: one a node, or one in all."""


def check_pods(examined: Examined) -> Iterator[Finding]:
    """Yield what is wrong with the pods, once for each owner."""
    for group in examined.groups:
        for rule in _RULES:
            yield from rule(group, examined)


def _memory(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell memory-backed volumes in which the pod is killed."""
    references = group.request.workload.references
    if not references:
        return
    known = any(one.bytes for r in references for one in (r, r.origin) if one is not None)
    for reason, message in volume_warnings(group.request):
        severity = _VOLUME_SEVERITY.get(reason)
        if severity is None:
            continue
        if known and reason in _CERTAIN:
            severity = Severity.ERROR
        said, _, remedy = message.rpartition("; ")
        yield Finding(
            severity=severity, check=reason, object=group.owner, message=said, remedy=remedy
        )


def _writable(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell mounts of models that the server could write, and has no need to."""
    for reference in group.request.workload.references:
        if reference.source not in {Source.HOST_PATH, Source.CLAIM}:
            continue
        if reference.need is Need.PREFERRED:  # it fills the volume where the model is missing
            continue
        for container in group.pod.spec.containers:
            for index, mount in enumerate(container.volume_mounts):
                if mount.name == reference.volume and not mount.read_only:
                    yield Finding(
                        severity=Severity.WARNING,
                        check="ModelMountWritable",
                        object=group.owner,
                        message=f"container {container.name} mounts {mount.mount_path} writable, "
                        f"where it reads {reference.model}: it can spoil what every other pod "
                        "reads, and that it needs the model to be there cannot be told",
                        remedy=f"volumeMounts[{index}].readOnly: true in container "
                        f"{container.name}",
                    )


def _fetched_by_each(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell init containers that download the model again for every pod."""
    if group.kind in _ONCE:
        return
    for view in containers_of(group.pod, init=True):
        for fill in fills(view).fills:
            fetched = parse_name(fill.source or "").kind in {Kind.HUB, Kind.REMOTE}
            place = locate(fill.destination or "/", view.container, view.spec, view.declared)
            if not fetched or place is None or place.volume.empty_dir is None:
                continue
            many = len(group.pods)
            yield Finding(
                severity=Severity.WARNING if many > 1 else Severity.NOTE,
                check="FetchedByEachPod",
                object=group.owner,
                message=f"init container {view.container.name} downloads {fill.source} anew for "
                f"each of {many} pods, before any of them starts",
                remedy="fetch it once for each node with a loader (deploy/examples/"
                "node-cache.yaml) and fill the volume from there, or once into a claim "
                "(deploy/examples/shared-volume.yaml)",
            )
            break


def _gang(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell gangs whose memory nobody adds up."""
    pod, demand = group.pod, group.request.demand
    in_gang = pod.spec.scheduling_group is not None or any(
        label in pod.metadata.labels for label in _GANG_LABELS
    )
    if in_gang and demand.volume_bytes:
        yield Finding(
            severity=Severity.WARNING,
            check="GangWithMemoryVolumes",
            object=group.owner,
            message="is scheduled as a gang and keeps data in memory-backed volumes: while the "
            "gang is placed its members are not counted together, so that too many may go to "
            "one node",
            remedy="request the memory at the level of the pod (deploy/pod-level-request), so "
            "that kube-scheduler itself counts it",
        )


def _not_asked_about(group: Group, examined: Examined) -> Iterator[Finding]:
    """Tell pods that need a cached model and go to a scheduler that does not ask."""
    scheduler = group.pod.spec.scheduler_name or "default-scheduler"
    if scheduler in examined.schedulers or group.kind == "DaemonSet":
        return
    request = group.request
    required = [r for r in request.workload.references if r.need is Need.REQUIRED]
    if not required and not request.demand.volume_bytes:
        return
    if not request.workload.references:
        return
    namespace = group.pod.metadata.namespace
    yield Finding(
        severity=Severity.WARNING,
        check="NotAskedAbout",
        object=group.owner,
        message=f"{request.workload.references[0].model} has to be there, or its memory has to "
        f"fit, and {scheduler} places the pod without asking",
        remedy=f"kubectl label namespace {namespace} modelcache.dev/scheduling=enabled (with "
        f"deploy/opt-in), or schedulerName: {some(examined.schedulers, 1)}",
    )


def _annotations(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell annotations that are not used because their value says nothing."""
    for warning in group.request.workload.warnings:
        yield Finding(
            severity=Severity.WARNING,
            check=warning.reason,
            object=group.owner,
            message=warning.message,
            remedy="see the annotations in docs/reference/keys.md",
        )


_RULES: tuple[Callable[[Group, Examined], Iterator[Finding]], ...] = (
    _memory,
    _writable,
    _fetched_by_each,
    _gang,
    _not_asked_about,
    _annotations,
)
