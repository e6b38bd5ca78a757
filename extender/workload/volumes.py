"""Container path -> volume mount -> volume -> where the bytes are on the node or in the claim."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import msgspec

from extender.kube.objects import Container, Volume, VolumeMount
from extender.workload.budget import Budget
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


class Directories:
    """Absolute normal paths, of which the deepest that holds another one is found at once."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        self._lengths = sorted({len(path) for path in self._paths}, reverse=True)

    def deepest(self, path: str) -> str | None:
        """Return the longest of them that this path is, or lies below; None where none is."""
        for length in self._lengths:
            directory = path[:length]
            if directory in self._paths and is_within(path, directory):
                return directory
        return None


class Mounts:
    """A container's mount table. ``volumes`` are the pod's, by name."""

    def __init__(
        self,
        container: Container,
        volumes: Mapping[str, Volume],
        variables: Environment,
        budget: Budget,
    ) -> None:
        self._volumes = volumes
        self._variables = variables
        self._budget = budget
        self._mounts: dict[str, VolumeMount] = {}
        for mount in container.volume_mounts:
            self._mounts.setdefault(normal(mount.mount_path), mount)
        self._paths = Directories(self._mounts)

    @cached_property
    def roots(self) -> list[Location]:
        """Return the mounts themselves."""
        return [self._location(mount, ".") for mount in self._mounts.values()]

    def locate(self, path: str) -> Location | None:
        """Follow an absolute path to its volume; None where it is in the image's own files.

        The longest mount path wins, as in the container's mount table.
        """
        wanted = normal(path)
        at = self._paths.deepest(wanted)
        if at is None:
            return None
        return self._location(self._mounts[at], posixpath.relpath(wanted, at))

    def _location(self, mount: VolumeMount, rest: str) -> Location:
        volume = self._volumes.get(mount.name)
        if volume is None:  # a StatefulSet's volumeClaimTemplates are not part of its template
            volume = Volume(name=mount.name)
        return Location(volume, mount, self._inside(mount, rest), rest == ".")

    def _inside(self, mount: VolumeMount, rest: str) -> str | None:
        below = mount.sub_path
        if mount.sub_path_expr:
            expanded = expand(mount.sub_path_expr, self._variables, self._budget)
            if expanded is None or "$(" in expanded:
                return None
            below = expanded
        return normal(posixpath.join("/", below, rest)).lstrip("/")
