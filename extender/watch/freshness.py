"""How far what is known may lag behind the cluster.

Only proof counts as hearing: a complete list (of the moment when it was asked for), an event, a
bookmark, the orderly end of a watch, or the server's own word that nothing has happened since. What
comes late, out of a backlog, is no proof. A connection that was merely accepted proves
nothing. A healthy apiserver sends a bookmark about once a minute, so that an age of more than
STALE_AFTER means two of them were missed: the watch is broken, however open its socket looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from threading import Event, Lock

import msgspec

from extender.watch.audit import Drift

STALE_AFTER = 120.0
"""Default bound in seconds: two bookmarks missed."""


class Freshness(msgspec.Struct, frozen=True):
    """What is to say about one kind's watch at one moment.

    ``age_seconds`` counts from the last proof (before the first one: from the start); the counters
    run since the start. ``relists`` are complete lists after the first, ``reconnects`` watches
    after the first, ``failures`` whatever had to be waited for and tried again.
    """

    kind: str
    synced: bool
    age_seconds: float
    last_error: str | None
    relists: int
    reconnects: int
    failures: int
    events: int
    unreadable: int
    audits: int
    drifted: Mapping[Drift, int]
    unknown: int


class Tracker:
    """Written by one reflector, read by anyone. ``clock`` is monotonic, in seconds.

    ``version`` is the resource version up to which everything is known; None where it has to be
    listed anew.
    """

    def __init__(self, kind: str, clock: Callable[[], float]) -> None:
        self.kind = kind
        self.synced = Event()
        self.version: str | None = None
        self._clock = clock
        self._lock = Lock()
        self._heard_at = clock()
        self._last_error: str | None = None
        self._lists = 0
        self._watches = 0
        self._failures = 0
        self._events = 0
        self._unreadable = 0
        self._audits = 0
        self._drifted = Counter(dict.fromkeys(Drift, 0))
        self._unknown = 0

    def freshness(self) -> Freshness:
        """Return how things stand now."""
        with self._lock:
            return Freshness(
                kind=self.kind,
                synced=self.synced.is_set(),
                age_seconds=max(0.0, self._clock() - self._heard_at),
                last_error=self._last_error,
                relists=max(0, self._lists - 1),
                reconnects=max(0, self._watches - 1),
                failures=self._failures,
                events=self._events,
                unreadable=self._unreadable,
                audits=self._audits,
                drifted=dict(self._drifted),
                unknown=self._unknown,
            )

    def stale(self, bound_seconds: float = STALE_AFTER) -> bool:
        """Whether this kind was never listed, or not heard of for longer than the bound.

        Every verb asks this of every kind: the lock of what else there is to say is not taken.
        """
        return not self.synced.is_set() or self._clock() - self._heard_at > bound_seconds

    def heard(self, at: float | None = None) -> None:
        """Note proof that everything up to now is known, or everything up to a moment before."""
        with self._lock:
            self._heard_at = max(self._heard_at, self._clock() if at is None else at)
            self._last_error = None

    def listed(self, at: float | None = None) -> None:
        """Note a complete list that was asked for at a moment (now, where none is given)."""
        self.heard(at)
        with self._lock:
            self._lists += 1
        self.synced.set()

    def connected(self) -> None:
        """Note that the server accepted a watch, which proves nothing yet."""
        with self._lock:
            self._watches += 1

    def event(self, *, proof: bool = True) -> None:
        """Note one event about an object; one of a backlog is no proof of the present."""
        if proof:
            self.heard()
        with self._lock:
            self._events += 1

    def failed(self, error: str) -> bool:
        """Note a failure; return whether it differs from the one before."""
        with self._lock:
            changed = error != self._last_error
            self._last_error = error
            self._failures += 1
        return changed

    def audited(self, drifted: Mapping[Drift, int]) -> None:
        """Note a comparison with a fresh list, and how many objects were not known as they are."""
        with self._lock:
            self._audits += 1
            self._drifted.update(drifted)

    def unreadable(self) -> None:
        """Count an object that cannot be decoded."""
        with self._lock:
            self._unreadable += 1

    def unknown(self) -> None:
        """Count an event of a type that nobody knows."""
        with self._lock:
            self._unknown += 1
