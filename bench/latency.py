"""How long the answers of a server took: every single one, so that percentiles are exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

SLOWER = 3
"""A percentile above the median is told where at least so many requests took longer."""


class Latency(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a load saw of one verb. ``milliseconds``: how long each answer took, shortest first."""

    milliseconds: Sequence[float]
    errors: int = 0
    first_error: str = ""

    def percentile(self, percent: float) -> float:
        """Return the time, in milliseconds, that this share of the answers did not exceed."""
        return self.milliseconds[self._rank(percent)]

    @property
    def max(self) -> float:
        """Return the longest time, in milliseconds."""
        return self.milliseconds[-1]

    def figures(self) -> dict[str, float]:
        """Return the percentiles that so many answers can tell; the median always."""
        told = {"p50": self.percentile(50)}
        for percent in (90, 99, 99.9):
            if len(self.milliseconds) - 1 - self._rank(percent) >= SLOWER:
                told[f"p{percent}"] = self.percentile(percent)
        return told | {"max": self.max}

    def _rank(self, percent: float) -> int:
        return min(len(self.milliseconds) - 1, int(percent / 100 * len(self.milliseconds)))


def together(seen: Iterable[Latency]) -> Latency:
    """Return several loads as one."""
    return Latency(milliseconds=sorted(time for one in seen for time in one.milliseconds))
