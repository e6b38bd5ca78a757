"""Pods that will be killed, start slower than they could, or can spoil what others read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from extender.cluster.namespaces import OPT_IN
from extender.doctor.examined import Examined, Group, containers_of
from extender.doctor.finding import Finding, Severity, some
from extender.explain.volumes import volume_warnings
from extender.workload.downloads import Fill
from extender.workload.model import ModelReference, Need, Source
from extender.workload.names import Kind, parse_name
from extender.workload.stacks import ollama
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
    stores = {v.container.name for v in containers_of(group.pod, init=False) if ollama.runs(v)}
    for reference in group.request.workload.references:
        if reference.source not in {Source.HOST_PATH, Source.CLAIM}:
            continue
        if reference.need is Need.PREFERRED:  # it fills the volume where the model is missing
            continue
        for container in group.pod.spec.containers:
            for index, mount in enumerate(container.volume_mounts):
                if mount.name == reference.volume and not mount.read_only:
                    place = f"volumeMounts[{index}].readOnly: true in container {container.name}"
                    said = f"container {container.name} mounts {mount.mount_path} writable"
                    yield (
                        _store(group, said, place)
                        if container.name in stores
                        else _mounted_writable(group, f"{said}, where it reads", reference, place)
                    )


def _mounted_writable(group: Group, said: str, reference: ModelReference, place: str) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        check="ModelMountWritable",
        object=group.owner,
        message=f"{said} {reference.model}: it can spoil what every other pod reads, and that it "
        "needs the model to be there cannot be told",
        remedy=place,
    )


def _store(group: Group, said: str, place: str) -> Finding:
    """Say what a writable store of Ollama's does: it is no mistake where clients pull models.

    At its start it removes blobs that no manifest names, and writes a key to ~/.ollama
    (server/routes.go ``Serve`` and cmd/cmd.go ``initializeKeypair`` of ollama/ollama).
    """
    return Finding(
        severity=Severity.NOTE,
        check="ModelMountWritable",
        object=group.owner,
        message=f"{said}: Ollama pulls its clients' models there, and removes at its start what no "
        "manifest names, a download of another server's included",
        remedy="OLLAMA_NOPRUNE=1 where several servers share the directory; where a loader pulls "
        f"and no client does, {place} as well, on the models alone: ~/.ollama itself has to stay "
        "writable for Ollama's key",
    )


def _fetched_by_each(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell init containers that download the model again for every pod.

    On the node's own disk only where the script does not look first whether it is there.
    """
    if group.kind in _ONCE:
        return
    for view in containers_of(group.pod, init=True):
        for fill in fills(view).fills:
            fetched = parse_name(fill.source or "").kind in {Kind.HUB, Kind.REMOTE}
            place = locate(fill.destination or "/", view.container, view.spec, view.declared)
            if not fetched or place is None:
                continue
            if place.volume.empty_dir is not None:
                yield _into_its_own(group, view.container.name, fill)
            elif place.host_path is not None and not fill.ways:
                yield _into_the_nodes(group, view.container.name, fill, place.host_path)
            else:
                continue
            break


def _into_its_own(group: Group, container: str, fill: Fill) -> Finding:
    many = len(group.pods)
    return Finding(
        severity=Severity.WARNING if many > 1 else Severity.NOTE,
        check="FetchedByEachPod",
        object=group.owner,
        message=f"init container {container} downloads {fill.source} anew for each of {many} pods, "
        "before any of them starts",
        remedy="fetch it once for each node with a loader (deploy/examples/node-cache.yaml) and "
        "fill the volume from there, or once into a claim (deploy/examples/shared-volume.yaml)",
    )


def _into_the_nodes(group: Group, container: str, fill: Fill, path: str) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        check="FetchedOverOthers",
        object=group.owner,
        message=f"init container {container} downloads {fill.source} into {path} of the node "
        "before each start of a pod, whether it is there or not: two pods of one node write the "
        "same files at once, while others read them",
        remedy="let a loader keep it there, once for each node (deploy/examples/node-cache.yaml), "
        "and mount it read-only; or let the init container run model-cache-extender loader fill, "
        "which looks first and shows only what is whole",
    )


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
        remedy=f"kubectl label namespace {namespace} {OPT_IN} (with "
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
