"""What was said already: once an hour for each pod and reason, and never more than so many.

What could not be said is tried again after a while: till then it is the others' turn. A quarter of
the hour's is kept for namespaces of which little was said, so that nobody's pods take all of it.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from cachetools import LRUCache

HOUR = 3600.0
"""Seconds. The apiserver keeps events for an hour unless it is told otherwise (``--event-ttl``)."""

AGAIN_SECONDS = 60.0

ALIKE = 20
"""Of many pods with the same thing to be said, so many are told: a Deployment may have hundreds."""

_RESERVED, _LITTLE = 4, 60
"""What part of the hour's is kept for namespaces of which less than such a part was said."""

_MOST_LEFT_OUT = 20_000


class Told:
    """Counts by the hour of the clock, so that a restart says nothing twice. For one thread."""

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._hour = 0
        self._of_namespace: Counter[str] = Counter()
        self._left_out: LRUCache[str, set[str]] = LRUCache(_MOST_LEFT_OUT)
        self._said: set[tuple[str, str]] = set()
        self._alike: Counter[tuple[str, str, str]] = Counter()
        self._failed: LRUCache[tuple[str, str], float] = LRUCache(per_hour)

    def full(self, namespace: str, now: float) -> bool:
        """Tell whether a namespace's events of this hour are used up; ``now`` is UNIX seconds."""
        self._turn(now)
        left = self._per_hour - len(self._said)
        little = self._of_namespace[namespace] < self._per_hour // _LITTLE
        return left <= (0 if little else self._per_hour // _RESERVED)

    def take(self, uid: str, namespace: str, reason: str, message: str, now: float) -> bool:
        """Tell whether something may be said of a pod now; if so, it counts as said."""
        alike = namespace, reason, message
        full = self.full(namespace, now)
        if full or (uid, reason) in self._said or self._alike[alike] >= ALIKE:
            return False
        if now < self._failed.get((uid, reason), now):
            return False
        self._said.add((uid, reason))
        self._of_namespace[namespace] += 1
        self._alike[alike] += 1
        return True

    def leaves_out(self, uid: str, namespace: str, reason: str, message: str, now: float) -> bool:
        """Tell, once an hour, whether something is not said because the hour's are used up."""
        if not self.full(namespace, now) or (uid, reason) in self._said:
            return False
        left = self._left_out.setdefault(uid, set())
        if reason in left or self._alike[namespace, reason, message] >= ALIKE:
            return False
        left.add(reason)
        return True

    def passes(self, uid: str, namespace: str, now: float) -> bool:
        """Tell whether nothing more is said of a pod in this hour, as was counted."""
        return self.full(namespace, now) and uid in self._left_out

    def later(self, uid: str, namespace: str, reason: str, now: float) -> bool:
        """Tell whether something could not be said yet, and will be able to."""
        put_off = self.full(namespace, now) or now < self._failed.get((uid, reason), now)
        return put_off and (uid, reason) not in self._said

    def undo(self, uid: str, namespace: str, reason: str, message: str, now: float) -> None:
        """Take back what could not be said; it may be tried again ``AGAIN_SECONDS`` later."""
        self._failed[uid, reason] = now + AGAIN_SECONDS
        self._said.discard((uid, reason))
        self._of_namespace[namespace] -= 1
        self._alike -= Counter([(namespace, reason, message)])

    def _turn(self, now: float) -> None:
        hour = int(now // HOUR)
        if hour != self._hour:
            self._hour = hour
            self._said.clear()
            self._of_namespace.clear()
            self._left_out.clear()
            self._failed.clear()
            self._alike.clear()


def event_name(pod: str, uid: str, reason: str, now: float) -> str:
    """Return the same name for the same thing said in the same hour, by whichever process."""
    digest = sha256(f"{uid}/{reason}/{int(now // HOUR)}".encode()).hexdigest()[:16]
    return f"{pod[:200].rstrip('-.')}.{digest}"
