"""Pods that will be killed, start slower than they could, or can spoil what others read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from extender.cluster.namespaces import DEFAULT_SCHEDULER, OPT_IN
from extender.doctor.examined import Examined, Group
from extender.doctor.finding import Finding, Severity
from extender.explain.held import how_to_be_asked, not_asked
from extender.explain.volumes import volume_warnings
from extender.kube.lives import tells_when_it_serves
from extender.workload.downloads import Fill
from extender.workload.model import ModelReference, Need, Source
from extender.workload.names import Kind, parse_name
from extender.workload.stacks import ollama
from extender.workload.stacks.initializers import fills
from extender.workload.stacks.view import ContainerView

_OF_VOLUMES = {
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

_ON_THEIR_NODE = frozenset({"DaemonSet", "Node"})
"""Owners whose pods belong to their node: no scheduler chooses it."""


def check_pods(examined: Examined) -> Iterator[Finding]:
    """Yield what is wrong with the pods, once for each owner."""
    said = (one for group in examined.groups for rule in _RULES for one in rule(group, examined))
    yield from dict.fromkeys(said)


def _memory(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell memory-backed volumes in which the pod is killed."""
    references = group.request.workload.references
    if not references:
        return
    known = any(one.bytes for r in references for one in (r, r.origin) if one is not None)
    for one in volume_warnings(group.request, group.pod, group.owner.at):
        if one.reason in _OF_VOLUMES:
            certain = known and one.reason in _CERTAIN
            yield Finding(
                severity=Severity.ERROR if certain else _OF_VOLUMES[one.reason],
                check=one.reason,
                object=group.name,
                message=one.message,
                remedy=one.remedy,
            )


def _writable(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell mounts of models that the server could write, and has no need to."""
    stores = {v.container.name for v in group.view.main if ollama.runs(v)}
    for reference in group.request.workload.references:
        if reference.source not in {Source.HOST_PATH, Source.CLAIM}:
            continue
        if reference.need is Need.PREFERRED:  # it fills the volume where the model is missing
            continue
        for view in group.view.main:
            container = view.container
            for index, mount in enumerate(container.volume_mounts):
                if mount.name == reference.volume and not mount.read_only:
                    place = group.owner.at(f"spec.{view.field}.volumeMounts[{index}].readOnly")
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
        object=group.name,
        message=f"{said} {reference.model}: it can spoil what every other pod reads, and that it "
        "needs the model to be there cannot be told",
        remedy=f"{place}: true",
    )


def _store(group: Group, said: str, place: str) -> Finding:
    """Say what a writable store of Ollama's does: it is no mistake where clients pull models.

    At its start it removes blobs that no manifest names, and writes a key to ~/.ollama
    (server/routes.go ``Serve`` and cmd/cmd.go ``initializeKeypair`` of ollama/ollama).
    """
    return Finding(
        severity=Severity.NOTE,
        check="ModelMountWritable",
        object=group.name,
        message=f"{said}: Ollama pulls its clients' models there, and removes at its start what no "
        "manifest names, a download of another server's included",
        remedy="OLLAMA_NOPRUNE=1 where several servers share the directory; where a loader pulls "
        f"and no client does, {place}: true as well, on the models alone: ~/.ollama itself has to "
        "stay writable for Ollama's key",
    )


def _ready_unasked(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell servers that count as Ready before they serve."""
    references = group.request.workload.references
    if not references or group.kind in _ONCE or tells_when_it_serves(group.pod):
        return
    field = group.owner.at(f"spec.{_server(group)}.readinessProbe")
    yield Finding(
        severity=Severity.WARNING,
        check="ReadyBeforeServing",
        object=group.name,
        message="has no readinessProbe and no startupProbe: it is Ready as soon as its process "
        "runs, so that requests reach it while it still loads its model, and how long its start "
        "really takes is not known",
        remedy=f"{field}: {{httpGet: {{path: /health, port: PORT}}}}, as vLLM and SGLang answer it",
    )


def _server(group: Group) -> str:
    """Return the field of the container that reads the model; of the first where none mounts it."""
    volumes = {reference.volume for reference in group.request.workload.references}
    views = group.view.main
    for view in views:
        if any(mount.name in volumes for mount in view.container.volume_mounts):
            return view.field
    return views[0].field if views else "containers[0]"


def _fetched_by_each(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell init containers that download the model again for every pod.

    On the node's own disk only where the script does not look first whether it is there.
    """
    if group.kind in _ONCE:
        return
    for view in group.view.before:
        for fill in fills(view).fills:
            fetched = parse_name(fill.source or "").kind in {Kind.HUB, Kind.REMOTE}
            place = view.mounts.locate(fill.destination or "/")
            if not fetched or place is None:
                continue
            if place.volume.empty_dir is not None:
                yield _into_its_own(group, view, fill)
            elif place.host_path is not None and not fill.ways:
                yield _into_the_nodes(group, view, fill, place.host_path)
            else:
                continue
            break


def _into_its_own(group: Group, view: ContainerView, fill: Fill) -> Finding:
    container, many = view.container.name, group.siblings
    return Finding(
        severity=Severity.WARNING if many > 1 else Severity.NOTE,
        check="FetchedByEachPod",
        object=group.name,
        message=f"init container {container} downloads {fill.source} anew for "
        + (f"each of {many} pods, before any of them starts" if many > 1 else "every new pod"),
        remedy="fetch it once for each node with a loader (deploy/examples/node-cache.yaml) and "
        f"have {group.owner.at(f'spec.{view.field}')} fill the volume from there; or fetch it once "
        "into a claim (deploy/examples/shared-volume.yaml) and take that container out",
    )


def _into_the_nodes(group: Group, view: ContainerView, fill: Fill, path: str) -> Finding:
    container, field = view.container.name, group.owner.at(f"spec.{view.field}")
    return Finding(
        severity=Severity.WARNING,
        check="FetchedOverOthers",
        object=group.name,
        message=f"init container {container} downloads {fill.source} into {path} of the node "
        "before each start of a pod, whether it is there or not: two pods of one node write the "
        "same files at once, while others read them",
        remedy="let a loader keep it there, once for each node (deploy/examples/node-cache.yaml), "
        f"take {field} out and mount it read-only; or let {field} run model-cache-extender loader "
        "fill, which looks first and shows only what is whole",
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
            object=group.name,
            message="is scheduled as a gang and keeps data in memory-backed volumes: while the "
            "gang is placed its members are not counted together, so that too many may go to "
            "one node",
            remedy="request the memory at the level of the pod, so that kube-scheduler counts it: "
            f"{group.owner.at('spec.resources.requests.memory')} (deploy/pod-level-request)",
        )


def _not_asked_about(group: Group, examined: Examined) -> Iterator[Finding]:
    """Tell pods that need a cached model and go to a scheduler that does not ask."""
    scheduler = group.pod.spec.scheduler_name or DEFAULT_SCHEDULER
    if scheduler in examined.schedulers or group.kind in _ON_THEIR_NODE:
        return
    request = group.request
    if not request.workload.references or not request.needs_certainty:
        return
    required = [r.model for r in request.workload.references if r.need is Need.REQUIRED and r.model]
    needs = [f"needs {' and '.join(required)} where it goes"] if required else []
    if request.demand.volume_bytes or request.demand.unbounded:
        needs.append("keeps data in memory that kube-scheduler does not count")
    yield Finding(
        severity=Severity.WARNING,
        check="NotAskedAbout",
        object=group.name,
        message=f"{' and '.join(needs)}: {scheduler} places it without asking",
        remedy=_to_be_asked(group, examined),
    )


def _to_be_asked(group: Group, examined: Examined) -> str:
    """Say what sends pods that are made from now on to this program, and how to make them anew."""
    opted_in = group.pod.metadata.namespace in examined.opted_in
    new = msgspec.structs.replace(
        group.pod,
        metadata=msgspec.structs.replace(group.pod.metadata, creation_timestamp=""),
        spec=msgspec.structs.replace(group.pod.spec, node_name=""),
    )
    if not_asked(new, examined.schedulers, opted_in=opted_in):
        field = group.owner.at("spec.schedulerName")
        return how_to_be_asked(group.pod, sorted(examined.schedulers), field)
    return (
        f"{group.owner.made_anew(group.pod)}: its namespace has the label {OPT_IN}, which reaches "
        "pods alone that are made after it, with deploy/opt-in applied"
    )


def _annotations(group: Group, _examined: Examined) -> Iterator[Finding]:
    """Tell annotations that are not used because their value says nothing."""
    for warning in group.request.workload.warnings:
        yield Finding(
            severity=Severity.WARNING,
            check=warning.reason,
            object=group.name,
            message=warning.message,
            remedy=f"in {group.owner.at('metadata.annotations')}; docs/reference/keys.md has the "
            "values that each takes",
        )


_RULES: tuple[Callable[[Group, Examined], Iterator[Finding]], ...] = (
    _memory,
    _writable,
    _ready_unasked,
    _fetched_by_each,
    _gang,
    _not_asked_about,
    _annotations,
)
