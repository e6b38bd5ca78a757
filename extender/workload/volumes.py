"""Container path -> volume mount -> volume -> where the bytes are on the node or in the claim."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

import msgspec

from extender.kube.objects import Container, PodSpec, Volume, VolumeMount
from extender.workload.expand import Environment, expand


class Location(msgspec.Struct, frozen=True):
    """A path in a container, followed to its volume.

    ``inside`` is the path inside the volume, without a leading slash, ``""`` for its root; None
    where a ``subPathExpr`` cannot be expanded.
    """

    volume: Volume
    mount: VolumeMount
    inside: str | None
    is_root: bool = False
    """It is the mount itself, not something below it."""

    @property
    def host_path(self) -> str | None:
        """The absolute path on the node, for a hostPath volume whose inside is known."""
        if self.volume.host_path is None or self.inside is None:
            return None
        return normal(posixpath.join(self.volume.host_path.path, self.inside))


def normal(path: str) -> str:
    """Return an absolute path without ``.``, ``..``, doubled or trailing slashes."""
    return posixpath.normpath("/" + path.lstrip("/"))


def is_within(path: str, directory: str) -> bool:
    """Tell whether an absolute normal path is the directory or lies below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def mounted_claims(volumes: Iterable[Volume]) -> Iterator[str]:
    """Yield the names of the claims that a pod's volumes name."""
    for volume in volumes:
        if volume.persistent_volume_claim is not None:
            yield volume.persistent_volume_claim.claim_name


def locate(
    path: str, container: Container, spec: PodSpec, variables: Environment
) -> Location | None:
    """Follow an absolute container path to its volume; None where it is in the image's own files.

    The longest mount path wins, as in the container's mount table.
    """
    wanted = normal(path)
    mounts = [
        mount for mount in container.volume_mounts if is_within(wanted, normal(mount.mount_path))
    ]
    if not mounts:
        return None
    mount = max(mounts, key=lambda candidate: len(normal(candidate.mount_path)))
    volume = next((volume for volume in spec.volumes if volume.name == mount.name), None)
    if volume is None:  # a StatefulSet's volumeClaimTemplates are not part of its template
        volume = Volume(name=mount.name)
    rest = posixpath.relpath(wanted, normal(mount.mount_path))
    return Location(volume, mount, _inside(mount, rest, variables), rest == ".")


def _inside(mount: VolumeMount, rest: str, variables: Environment) -> str | None:
    below = mount.sub_path
    if mount.sub_path_expr:
        expanded = expand(mount.sub_path_expr, variables)
        if expanded is None or "$(" in expanded:
            return None
        below = expanded
    return normal(posixpath.join("/", below, rest)).lstrip("/")
