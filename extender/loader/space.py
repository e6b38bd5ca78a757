"""What goes when the disk fills: decided here, from facts, by a function that touches nothing.

A model that has left the catalog goes once its grace is over, whether room is short or not. Above
the high watermark (or where a download needs the room) models go until the disk is at the low one:
those that left the catalog first, then by priority, then the least recently used. What is pinned
or in use stays whatever happens, and so does what other programs put there, unless the
configuration gives it away. For a download that would not fit even without all that may go,
nothing goes.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from extender.kube.quantity import format_bytes


class Reason(StrEnum):
    """Why a model goes."""

    LEFT_CATALOG = "left-catalog"
    ROOM = "room"


class Kept(StrEnum):
    """Why a model stays though room is short."""

    IN_USE = "in-use"
    PINNED = "pinned"
    WISHED = "wished"
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    GRACE = "grace"
    ENOUGH = "enough"
    IN_VAIN = "in-vain"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one model on the disk.

    ``bytes``: what its removal frees. ``last_used``: UNIX seconds at which a pod was last seen that
    reads it, else when it was proven. ``wished``: it would be fetched again at once. ``left_at``:
    since when it is not in the catalog (None: it is in there). ``foreign``: another program put it
    there. ``unreadable``: why it cannot be told what it is. ``refused``: why it could not be
    removed, while that is not to be tried again.
    """

    path: str
    bytes: int
    last_used: float
    in_use: bool = False
    pinned: bool = False
    wished: bool = False
    priority: int = 0
    left_at: float | None = None
    foreign: bool = False
    unreadable: str = ""
    refused: str = ""


class FileSystem(msgspec.Struct, frozen=True):
    """The file system of the cache, in bytes; ``free`` is what this user may still write."""

    total: int
    free: int

    def used_above(self, percent: float) -> int:
        """Return how many bytes would have to go for this percentage to be in use; at most."""
        return max(0, self.total - self.free - int(self.total * percent / 100))


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """``high`` and ``low`` in percent of the disk; ``grace`` in seconds.

    ``foreign``: what other programs put there may go too.
    """

    high: float
    low: float
    grace: float
    foreign: bool = False


class Eviction(msgspec.Struct, frozen=True, kw_only=True):
    """One model that goes, and why, for programs and for people."""

    path: str
    bytes: int
    reason: Reason
    message: str


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """One model that stays, and why."""

    path: str
    bytes: int
    reason: Kept
    message: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What goes, in that order; what stays. ``missing``: bytes that nothing can make room for."""

    evictions: tuple[Eviction, ...] = ()
    stays: tuple[Stay, ...] = ()
    missing: int = 0


def plan(
    candidates: list[Candidate], disk: FileSystem, bounds: Bounds, *, now: float, needed: int = 0
) -> Plan:
    """Decide what goes. ``needed``: bytes of a download for which there has to be room at once."""
    too_full = disk.used_above(bounds.low) if disk.used_above(bounds.high) else 0
    decided = _freeing(max(too_full, needed - disk.free), candidates, bounds, now)
    if not decided.missing or needed <= disk.free:
        return decided
    without = _freeing(too_full, candidates, bounds, now)
    stays = tuple(
        _stay(stay, Kept.IN_VAIN, "without it there would not be room enough either")
        if stay.reason is Kept.ENOUGH
        else stay
        for stay in without.stays
    )
    return msgspec.structs.replace(without, stays=stays, missing=decided.missing)


def _freeing(wanted: int, candidates: list[Candidate], bounds: Bounds, now: float) -> Plan:
    """Decide what goes for so many bytes to be freed."""
    evictions: list[Eviction] = []
    stays: list[Stay] = []
    for candidate in sorted(candidates, key=_order):
        freed = sum(eviction.bytes for eviction in evictions)
        kept = _protected(candidate, bounds)
        if kept is None and candidate.left_at is not None:
            left = now - candidate.left_at
            if left >= bounds.grace:
                message = f"left the catalog {_hours(left)} ago"
                evictions.append(_eviction(candidate, Reason.LEFT_CATALOG, message))
                continue
            if freed >= wanted:
                message = f"left the catalog {_hours(left)} ago, stays for {_hours(bounds.grace)}"
                stays.append(_stay(candidate, Kept.GRACE, message))
                continue
        if kept is not None:
            stays.append(_stay(candidate, *kept))
        elif freed < wanted:
            used = f"last used {_hours(now - candidate.last_used)} ago"
            message = f"{used}; {format_bytes(wanted - freed)} have to be freed"
            evictions.append(_eviction(candidate, Reason.ROOM, message))
        else:
            stays.append(_stay(candidate, Kept.ENOUGH, "there is room enough"))
    freed = sum(eviction.bytes for eviction in evictions)
    return Plan(evictions=tuple(evictions), stays=tuple(stays), missing=max(0, wanted - freed))


def _order(candidate: Candidate) -> tuple[bool, int, float, str]:
    return (
        candidate.left_at is None,
        candidate.priority,
        candidate.last_used,
        candidate.path,
    )


def _protected(candidate: Candidate, bounds: Bounds) -> tuple[Kept, str] | None:
    if candidate.in_use:
        return Kept.IN_USE, "a pod on this node reads it"
    if candidate.pinned:
        return Kept.PINNED, "pinned in the catalog"
    if candidate.wished:
        return Kept.WISHED, "the catalog wants it on this node"
    if candidate.unreadable:
        return Kept.UNREADABLE, candidate.unreadable
    if candidate.foreign and not bounds.foreign:
        return Kept.FOREIGN, "another program put it there; --foreign lets it go, too"
    if candidate.refused:
        return Kept.REFUSED, candidate.refused
    return None


def _eviction(candidate: Candidate, reason: Reason, message: str) -> Eviction:
    return Eviction(path=candidate.path, bytes=candidate.bytes, reason=reason, message=message)


def _stay(candidate: Candidate | Stay, reason: Kept, message: str) -> Stay:
    return Stay(path=candidate.path, bytes=candidate.bytes, reason=reason, message=message)


def _hours(seconds: float) -> str:
    hours = max(0.0, seconds) / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"
