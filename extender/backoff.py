"""How long to wait after a failure, so that a broken server is not made worse.

The wait grows with every failure and is forgotten only after a time of peace, not at the first
success: a server that answers every list and breaks every watch must not be listed in a loop
(client-go's reflector does the same). What costs the server next to nothing to make good is
forgotten sooner: a load balancer that cuts every watch after 20 s must not make us blind for 30 s
each time. Jitter keeps the loops of all kinds and replicas apart.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random

_CHEAP_PEACE = 10.0


class Backoff:
    """Growing, jittered waits. All times are seconds; ``clock`` is monotonic.

    The n-th wait lies between half of ``first * 2**n`` and all of it, and never above ``most``.
    """

    def __init__(
        self,
        *,
        random: Random,
        clock: Callable[[], float],
        first: float = 0.5,
        most: float = 30.0,
        peace: float = 30.0,
    ) -> None:
        self._random = random
        self._clock = clock
        self._first = first
        self._most = most
        self._peace = peace
        self._failures = 0
        self._calm_at = 0.0

    def wait(self, at_least: float = 0.0, at_most: float = inf, *, cheap: bool = False) -> float:
        """Count one failure and return how long to wait for it.

        ``at_least`` is what the server asks for (Retry-After); ``at_most`` is for what asking
        again costs nobody. A ``cheap`` failure is forgotten after ten times its wait.
        """
        now = self._clock()
        if now > self._calm_at:
            self._failures = 0
        ceiling = min(self._most, at_most, self._first * 2.0 ** min(self._failures, 32))
        if self._first * 2.0 ** min(self._failures, 32) < min(self._most, at_most):
            self._failures += 1  # what is bounded makes no later wait longer than its bound
        delay = max(ceiling * self._random.uniform(0.5, 1.0), at_least)
        peace = min(self._peace, _CHEAP_PEACE * ceiling) if cheap else self._peace
        self._calm_at = max(self._calm_at, now + delay + peace)
        return delay
