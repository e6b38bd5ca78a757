"""What is judged for one pod, apart: where this program fails at it, the others go on.

A request that fails is one pod's. What looks at all waiting pods in a row would end for everybody,
and again a second later, for as long as that pod waits.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from traceback import extract_tb
from typing import Protocol, TypeVar

import structlog
from cachetools import LRUCache

log = structlog.get_logger("extender.waiting")

T = TypeVar("T")

_MOST_CAUSES = 100


class _Named(Protocol):
    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...


class Apart:
    """Safe to use from threads. ``failures`` counts what was left out so far."""

    def __init__(self) -> None:
        self.failures = 0
        self._said: LRUCache[tuple[str, ...], None] = LRUCache(_MOST_CAUSES)
        self._lock = Lock()

    def judge(self, pod: _Named, judge: Callable[[], T], otherwise: T) -> T:
        """Return what is judged for a pod; ``otherwise`` that, where the program fails at it.

        That is said once for each place in the program where it fails, with the first such pod.
        """
        try:
            return judge()
        except Exception as error:
            place = extract_tb(error.__traceback__)[-1]
            cause = (type(error).__name__, place.filename, str(place.lineno))
            with self._lock:
                self.failures += 1
                is_new = cause not in self._said
                self._said[cause] = None
            if is_new:
                log.exception(
                    "a pod could not be judged and is left out; the others are not",
                    namespace=pod.namespace,
                    pod=pod.name,
                    remedy="report this as a fault of this program, with the trace and the pod",
                )
            return otherwise
