"""Need: what it means for a pod when its model is not there.

``required`` refuses nodes, so it is said only where the spec proves that the pod cannot fetch: a
local path that a known server opens and that nothing in the pod writes. Where the pod can fetch,
``preferred``; everything else is ``unknown`` and costs no node anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from extender.workload.fills import Filler
from extender.workload.model import Need
from extender.workload.stacks.view import Found
from extender.workload.volumes import Location

Judgement = tuple[Need, str | None]
"""A need, and in words what could not be told."""

_MUST_EXIST = frozenset({"Directory", "File"})
_UNSURE = "the server is not one whose ways are known"


def need_of_path(found: Found, place: Location, fillers: Sequence[Filler]) -> Judgement:
    """Judge a local path on a volume that outlives the pod (a host directory, a claim)."""
    if not found.sure:
        return Need.UNKNOWN, found.unknown or _UNSURE
    if found.otherwise or any(filler.fill is not None for filler in fillers):
        return Need.PREFERRED, None
    if fillers:
        names = ", ".join(sorted({f.view.container.name or f.view.field for f in fillers}))
        return Need.UNKNOWN, f"container {names} may write it, and what it does cannot be read"
    if found.without:
        return Need.UNKNOWN, found.without
    host = place.volume.host_path
    if host is None or place.mount.read_only or host.type in _MUST_EXIST:
        return Need.REQUIRED, None
    kind = host.type or "no type"
    return (
        Need.UNKNOWN,
        f"the hostPath ({kind}) is made where it is missing and mounted writable, so something may "
        "fill it; mount it readOnly, or give it the type Directory, to say that it must be there",
    )


def need_of_cache(found: Found, place: Location, fillers: Sequence[Filler]) -> Judgement:
    """Judge a hub id whose cache directory lies on a volume that outlives the pod."""
    if not found.sure:
        return Need.UNKNOWN, found.unknown or _UNSURE
    if not found.offline and not _is_read_only(place):
        return Need.PREFERRED, None
    if any(filler.fill is not None for filler in fillers):
        return Need.PREFERRED, None
    if fillers:
        names = ", ".join(sorted({f.view.container.name or f.view.field for f in fillers}))
        return Need.UNKNOWN, f"container {names} may write it, and what it does cannot be read"
    if found.without:
        return Need.UNKNOWN, found.without
    return Need.REQUIRED, None


def can_fetch(need: Need, place: Location) -> bool:
    """Tell whether a pod surely starts and fetches where its node's cache is empty.

    ``need`` is what the spec shows. A hostPath of type Directory that is missing keeps the pod from
    starting at all, so that it gets to fetch nothing.
    """
    host = place.volume.host_path
    return need is Need.PREFERRED and host is not None and host.type not in _MUST_EXIST


def _is_read_only(place: Location) -> bool:
    claim = place.volume.persistent_volume_claim
    return place.mount.read_only or (claim is not None and claim.read_only)
