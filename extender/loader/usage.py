"""Which models pods on this node read, and when each was last read.

The API tells: every pod that is bound to the node and has not ended counts, from the moment it is
bound. What a pod reads is told from its spec, as the extender does it; a pod that mounts the cache
and whose model cannot be told may read all that it mounts, and so may a container that asks for no
model beside one that does. Claims on the node's own disk are hostPaths here (see ``node_pods``).
Init containers read as long as they run: one that has copied a model into memory reads the cache no
more.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from extender.kube.lives import is_initialized
from extender.kube.objects import DaemonSet, DaemonSetSpec, Pod, PodTemplate
from extender.loader.disk import Disk, regular_file
from extender.loader.layout import CacheDirectory, keep
from extender.report import REPORT_ANNOTATION
from extender.workload.loaders import read_loader
from extender.workload.model import MODEL_ANNOTATION, ModelReference, Source
from extender.workload.references import SPEC_TOO_LONG, read_workload
from extender.workload.volumes import is_within, normal

_STATE_BYTES = 16 * 1024 * 1024


class Record(msgspec.Struct, rename="camel"):
    """What has to outlive the process, by model path, in UNIX seconds.

    ``last_used``: when a pod was last seen that reads the model. ``left_at``: since when it is not
    in the catalog.
    """

    last_used: dict[str, float] = {}
    left_at: dict[str, float] = {}

    def observe(
        self,
        *,
        there: set[str],
        in_use: set[str],
        wanted: set[str],
        now: float,
        unsure: frozenset[str] = frozenset(),
    ) -> None:
        """Note what is true now; what is not there any more is forgotten.

        A clock that was set back makes nothing older than now. Of ``unsure`` ones it cannot be told
        whether they are wanted on this node: since when they are not stays as it was.
        """
        used = {path: min(at, now) for path, at in self.last_used.items() if path in there}
        self.last_used = used | dict.fromkeys(sorted(in_use & there), now)
        self.left_at = {
            path: min(self.left_at.get(path, now), now)
            for path in sorted(there - wanted | there & unsure & self.left_at.keys())
        }


_decoder = msgspec.json.Decoder(Record)


def load_record(directory: CacheDirectory) -> Record:
    """Return what was noted before; an empty record where that cannot be read."""
    try:
        with open(regular_file(_record_file(directory)), "rb") as file:  # noqa: PTH123
            return _decoder.decode(file.read(_STATE_BYTES))
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return Record()


def save_record(directory: CacheDirectory, record: Record, disk: Disk) -> None:
    """Keep the record. Raises OSError and CacheError."""
    keep(directory, _record_file(directory), msgspec.json.encode(record), disk)


def models_in_use(pods: Iterable[Pod], host_directory: str, paths: Iterable[str]) -> set[str]:
    """Return which of these models the pods may read. ``host_directory``: the cache on the node."""
    root = normal(host_directory)
    read = {path for pod in pods for path in _read_by(pod, root)}
    return {
        path
        for path in paths
        for at in (normal(posixpath.join(root, path)),)
        if any(is_within(at, place) or is_within(place, at) for place in read)
    }


def _read_by(pod: Pod, root: str) -> Iterator[str]:
    """Yield the directories on the node that a pod reads models from."""
    pod = _without_the_ended(pod)
    workload = read_workload(pod.metadata, pod.spec)
    references = [each for reference in workload.references for each in _with_origin(reference)]
    told = {normal(each.host_path) for each in references if each.host_path is not None}
    yield from told
    if not references and _is_loader(pod):
        return
    unclear = any(each.source in {Source.UNKNOWN, Source.HUB} for each in references)
    unread = any(warning.reason == SPEC_TOO_LONG for warning in workload.warnings)
    silent = _mounted_by_the_silent(pod, references)
    for volume in pod.spec.volumes:
        if volume.host_path is None:
            continue
        mounted = normal(volume.host_path.path)
        known = any(is_within(path, mounted) for path in told)
        inside = is_within(mounted, root) and (not known or unread or volume.name in silent)
        if inside or ((unclear or unread) and is_within(root, mounted)):
            yield mounted


def _mounted_by_the_silent(pod: Pod, references: Iterable[ModelReference]) -> set[str]:
    """Return the volumes that containers mount which ask for no model that is known.

    Where an annotation names the model it speaks for all of them.
    """
    if MODEL_ANNOTATION in pod.metadata.annotations:
        return set()
    read = [field for reference in references for field in reference.read_from]
    containers = {
        f"{field}[{at}].": container
        for field, group in (
            ("containers", pod.spec.containers),
            ("initContainers", pod.spec.init_containers),
        )
        for at, container in enumerate(group)
    }
    return {
        mount.name
        for place, container in containers.items()
        if not any(field.startswith(place) for field in read)
        for mount in container.volume_mounts
    }


def _without_the_ended(pod: Pod) -> Pod:
    """Return a pod without the init containers that have ended, and what they alone mount."""
    if not is_initialized(pod):
        return pod
    sidecars = tuple(one for one in pod.spec.init_containers if one.restart_policy == "Always")
    left = {mount.name for one in (*pod.spec.containers, *sidecars) for mount in one.volume_mounts}
    once = {mount.name for one in pod.spec.init_containers for mount in one.volume_mounts}
    volumes = tuple(one for one in pod.spec.volumes if one.name in left or one.name not in once)
    spec = msgspec.structs.replace(pod.spec, init_containers=sidecars, volumes=volumes)
    return msgspec.structs.replace(pod, spec=spec)


def _with_origin(reference: ModelReference) -> Iterator[ModelReference]:
    yield reference
    if reference.origin is not None:
        yield from _with_origin(reference.origin)


def _is_loader(pod: Pod) -> bool:
    """Whether a pod fills the cache and serves nothing: ours say so, others show it."""
    if REPORT_ANNOTATION in pod.metadata.annotations:
        return True
    owner = pod.metadata.controller()
    template = PodTemplate(metadata=pod.metadata, spec=pod.spec)
    return (
        owner is not None
        and owner.kind == "DaemonSet"
        and read_loader(DaemonSet(spec=DaemonSetSpec(template=template))) is not None
    )


def _record_file(directory: CacheDirectory) -> Path:
    return directory.work_area / "usage.json"
