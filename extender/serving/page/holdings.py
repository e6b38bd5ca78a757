"""All that nodes hold, for filters and groups: looked up at most once in a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from extender.cluster.holdings import Holding
from extender.cluster.inventory import Inventory

KEPT_SECONDS = 5.0
"""100,000 holdings cost a tenth of a second of this process: no more than one part in fifty."""

Held = Mapping[str, Sequence[Holding]]


class Holdings:
    """``clock`` counts seconds. Safe to use from threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._of: Inventory | None = None
        self._held: Held = {}
        self._until = 0.0

    def all(self, inventory: Inventory) -> Held:
        """Return what every node held, no more than a few seconds ago."""
        with self._lock:
            if inventory is not self._of and self._clock() >= self._until:
                self._held, self._of = inventory.holdings(), inventory
                self._until = self._clock() + KEPT_SECONDS
            return self._held
