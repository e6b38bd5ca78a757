"""The loaders' Leases: proof of life, progress and wishes, by namespace and node.

Thousands of them are renewed all the time. A renewal is noted and no more: it changes no view and
wakes nobody. Only when a loader falls silent, or speaks again, something else has to be renewed.

When a renewal was made is told by the clock here, at the moment when it is seen; a loader's own
clock counts only for the Leases that were there before the first look.

Not safe to use from threads: the cluster state guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import TypeVar

import msgspec

from extender.cluster.view import Key, LoaderLease
from extender.errors import InvalidReportError
from extender.kube.objects import Lease, ObjectMeta
from extender.kube.times import unix_time
from extender.report import (
    LEASE_LABEL,
    MAX_REPORT_BYTES,
    PROGRESS_ANNOTATION,
    WANTED_ANNOTATION,
    Progress,
    Wanted,
    first_seen,
    lease_name,
    read,
)

_PREFIX = lease_name("")

T = TypeVar("T", Progress, Wanted)


class Leases:
    """The table.

    ``clock`` gives UNIX time in seconds. ``changed`` is told each node of which they say something
    else than before.
    """

    def __init__(self, *, clock: Callable[[], float], changed: Callable[[str], None]) -> None:
        self._changed = changed
        self.objects: dict[Key, Lease] = {}
        self.silent: dict[Key, float] = {}
        self._clock = clock
        self._heard: dict[Key, float] = {}
        self._facts: dict[Key, LoaderLease] = {}
        self._shown: Mapping[Key, LoaderLease] | None = None
        self._next_silence = inf

    def facts(self) -> Mapping[Key, LoaderLease]:
        """Return what the Leases say, by namespace and node; it does not change any more."""
        if self._shown is None:
            self._shown = dict(self._facts)
        return self._shown

    def put(self, lease: Lease) -> tuple[Key, str]:
        """Keep a Lease that was added or modified.

        Returns its namespace and node, and what was wrong with its texts, empty where nothing was.
        A Lease that is none of a loader is forgotten.
        """
        key = lease_key(lease.metadata)
        if not _is_loaders(lease):
            self.forget(key)
            return key, ""
        before = self.objects.get(key)
        self.objects[key] = lease
        now = self._clock()
        if before is None:
            self._heard[key] = min(now, unix_time(lease.spec.renew_time) or now)
        elif before.spec.renew_time != lease.spec.renew_time:
            self._heard[key] = now
        self._next_silence = min(self._next_silence, self._ends(key))
        facts, problem = _read(lease)
        known = self._facts.get(key)
        since = first_seen(facts.wanted, known.wanted_since if known else {}, now)
        facts = msgspec.structs.replace(facts, wanted_since=since)
        if facts != known:
            self._facts[key] = facts
            self._shown = None
            self._changed(key[1])
        return key, problem

    def forget(self, key: Key) -> None:
        """Forget a Lease: being Ready is the proof of life again."""
        if self.objects.pop(key, None) is not None:
            del self._heard[key], self._facts[key]
            self._shown = None
            self._changed(key[1])

    def turned(self, key: Key | None = None) -> list[Key]:
        """Return the loaders that fell silent or speak again since the last call.

        Given a key, only that loader is looked at; else those whose time may be over.
        """
        now = self._clock()
        if key is not None:
            return [key] if self._turn(key, now) else []
        if now < self._next_silence:
            return []
        turned = [key for key in self.objects if self._turn(key, now)]
        ends = (self._ends(key) for key in self.objects if key not in self.silent)
        self._next_silence = min(ends, default=inf)
        return turned

    def _turn(self, key: Key, now: float) -> bool:
        silent = key in self.objects and now > self._ends(key)
        if silent == (key in self.silent):
            return False
        if silent:
            self.silent[key] = self._heard[key]
        else:
            del self.silent[key]
        return True

    def _ends(self, key: Key) -> float:
        return self._heard[key] + self.objects[key].spec.lease_duration_seconds


def lease_key(metadata: ObjectMeta) -> Key:
    """Return what a Lease is kept under: its namespace and the node in its name."""
    return metadata.namespace, metadata.name.removeprefix(_PREFIX)


def _is_loaders(lease: Lease) -> bool:
    metadata = lease.metadata
    return metadata.labels.get(LEASE_LABEL) == "true" and metadata.name.startswith(_PREFIX)


def _read(lease: Lease) -> tuple[LoaderLease, str]:
    problems: list[str] = []
    progress = _text(lease, PROGRESS_ANNOTATION, Progress, problems)
    wanted = _text(lease, WANTED_ANNOTATION, Wanted, problems)
    facts = LoaderLease(progress=progress or Progress(), wanted=wanted or Wanted())
    return facts, "; ".join(problems)


def _text(lease: Lease, annotation: str, kind: type[T], problems: list[str]) -> T | None:
    """Read one text, or say what is wrong: whoever may write a Lease may write what he likes."""
    text = lease.metadata.annotations.get(annotation)
    if text is None:
        return None
    if len(text) > MAX_REPORT_BYTES:
        problems.append(
            f"{annotation} has {len(text)} characters; at most {MAX_REPORT_BYTES} are read"
        )
        return None
    try:
        return read(text, kind)
    except InvalidReportError as error:
        problems.append(f"{annotation}: {error}")
        return None
