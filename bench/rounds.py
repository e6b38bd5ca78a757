"""What a machine that others use, too, can tell: ratios of what ran side by side, in rounds.

How fast such a machine is changes from one half minute to the next by a third and more, so figures
of two runs a minute apart cannot be compared. Here all that is to be compared runs in every round,
each for seconds, every second round backwards; a ratio is that of two neighbours in one round, and
what is reported is the median of the rounds, with the least and the most of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import median

Figures = Mapping[str, float]


def turns(names: Sequence[str], process: Mapping[str, str], rounds: int) -> Iterator[list[str]]:
    """Yield who runs after whom, in groups that one process can serve.

    ``process`` tells whose process another one uses, for those that have none of their own.
    """
    for number in range(rounds):
        order = names if number % 2 == 0 else list(reversed(names))
        for _, group in groupby(order, lambda name: process.get(name, name)):
            yield list(group)


def parts(whole: int, rounds: int) -> list[int]:
    """Divide a number among rounds, as evenly as it can be."""
    return [whole // rounds + (number < whole % rounds) for number in range(rounds)]


def summed_up(
    seen: Mapping[str, Sequence[Figures]], *, figure: str, base: str, ratio: str
) -> dict[str, dict[str, float]]:
    """Return the figures of each name over all rounds: medians, and sums of whole numbers.

    ``ratio`` is what the ratio of a ``figure`` to that of the ``base`` is called. Names without any
    figures are left out.
    """
    table = {}
    for name, rounds in seen.items():
        own = [one[figure] for one in rounds]
        ratios = [its / other[figure] for its, other in zip(own, seen[base], strict=True)]
        table[name] = {key: _of([one[key] for one in rounds]) for key in rounds[0]} | {
            ratio: median(ratios),
            f"{ratio} least": min(ratios),
            f"{ratio} most": max(ratios),
        }
    return table


def _of(values: Sequence[float]) -> float:
    return sum(values) if isinstance(values[0], int) else median(values)
