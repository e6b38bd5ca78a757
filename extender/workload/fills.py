"""What a pod's own containers write, where: the other half of telling whether it can fetch.

A local path is only surely lacking where nobody in the pod fills it. So every container that has
the same bytes mounted writable is asked: a storage initializer of a known stack, a script that can
be read, or something opaque, of which nothing can be said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from extender.workload.downloads import Fill
from extender.workload.stacks import initializers
from extender.workload.stacks.view import ContainerView
from extender.workload.volumes import Location, is_within, normal


class Filler(msgspec.Struct, frozen=True):
    """A container that writes to a place, or may. ``fill`` is None where it cannot be read."""

    view: ContainerView
    fill: Fill | None


def fillers(place: Location, own: ContainerView, recognised: AbstractSet[str]) -> list[Filler]:
    """Return who in the pod writes, or may write, what the serving container opens at a place.

    ``recognised`` are the fields of the containers that a stack knows.
    """
    pod = own.pod
    return [
        *(
            filler
            for view in (*pod.before, *pod.main)
            for filler in _fillers_in(view, place, serves=view is own or view.field in recognised)
        ),
        *(filler for hook in pod.hooks for filler in _fillers_in(hook, place, serves=False)),
    ]


def own_downloads(path: str, own: ContainerView) -> list[Filler]:
    """Return what a container's own script puts at a path of its image's file system."""
    if not own.command.scripted:
        return []
    wanted = normal(path)
    done = initializers.fills(own)
    hits = [
        Filler(own, fill)
        for fill in done.fills
        if fill.destination is not None and _related(normal(fill.destination), wanted)
    ]
    return [*hits, Filler(own, None)] if hits and done.opaque else hits


def way_without(writers: Sequence[Filler]) -> str:
    """Return how a place may be filled without what fills it first, ``""`` where it may not.

    That is so where one of them lies on a branch of its script (``cp X /m/x || hf download ...``):
    another source may take its place.
    """
    first = writers[0].fill
    assert first is not None
    for other in writers[1:]:
        fill = other.fill
        if fill is None and first.ways:
            return f"container {other.view.container.name or other.view.field} may fill it instead"
        if fill is not None and fill.source != first.source and (first.ways or fill.ways):
            return f"it may be filled from elsewhere: {(fill.source or 'something else')[:80]}"
    return ""


def _fillers_in(view: ContainerView, place: Location, *, serves: bool) -> Iterator[Filler]:
    """Yield one container's writes; a server that was recognised writes only through its script.

    Of one that is too much to look through for each of many models nothing is said.
    """
    budget = view.pod.looking_budget
    if not budget.spend(steps=len(view.container.volume_mounts)):
        if any(not mount.read_only for mount in view.container.volume_mounts):
            yield Filler(view, None)
        return
    if not _mounts_writable(view, place) or (serves and not view.command.scripted):
        return
    done = initializers.fills(view)
    budget.spend(steps=len(done.fills))
    hits = [fill for fill in done.fills if _fills(fill, view, place)]
    yield from (Filler(view, fill) for fill in hits)
    if done.opaque and (not hits or all(fill.ways for fill in hits)):
        yield Filler(view, None)


def _mounts_writable(view: ContainerView, place: Location) -> bool:
    return any(not root.mount.read_only and _overlaps(root, place) for root in view.mounts.roots)


def _fills(fill: Fill, view: ContainerView, place: Location) -> bool:
    if fill.destination is None or not fill.destination.startswith("/"):
        return False
    at = view.mounts.locate(fill.destination)
    return at is not None and not at.mount.read_only and _overlaps(at, place)


def _overlaps(at: Location, place: Location) -> bool:
    """Tell whether two places share bytes: one holds the other, as far as can be told."""
    if at.host_path is not None and place.host_path is not None:
        return _related(at.host_path, place.host_path)
    if _volume_key(at) != _volume_key(place):
        return False
    if at.inside is None or place.inside is None:
        return True
    return _related(f"/{at.inside}", f"/{place.inside}")


def _volume_key(place: Location) -> tuple[str, str]:
    claim = place.volume.persistent_volume_claim
    return ("claim", claim.claim_name) if claim is not None else ("volume", place.volume.name)


def _related(left: str, right: str) -> bool:
    return is_within(left, right) or is_within(right, left)
