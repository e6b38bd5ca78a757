"""How soon a kind of pod would serve on each node, and what that scores: the table of prioritize.

A score follows from the soonest start among the nodes asked about. That is nearly always the same
one, so the scores for the latest are kept, and a table that replaces another takes them over.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

from extender.placement.narrowing import Rank
from extender.placement.policy import Policy
from extender.placement.score import MAX_SCORE, crowding_seconds, score
from extender.placement.tables import Table, Tables
from extender.placement.verdict import Judge
from extender.wire import Entries, entries

_FEW = 100
"""So many nodes are put into their new place one by one; of more, all are sorted anew."""

_KEPT = 10_000
"""Different seconds that scores are kept of; nodes of one tier have the same."""


class Scores(dict[float, int]):
    """Scores by seconds, where the soonest node starts after ``best``; none above ``most``.

    Each is worked out once; what is kept is bounded.
    """

    def __init__(self, best: float, most: int, policy: Policy) -> None:
        super().__init__()
        self.basis = best, most, policy

    def __missing__(self, seconds: float) -> int:
        if len(self) >= _KEPT:
            self.clear()
        best, most, policy = self.basis
        its = self[seconds] = min(most, score(seconds - best, policy))
        return its


class Starts(Table[float]):
    """Seconds on every known node; for pods with memory-backed volumes with what crowding costs."""

    _scores: Scores | None = None
    _entries: Sequence[Entries] | None = None
    _order: list[str] | None = None

    @property
    def entries(self) -> Sequence[Entries]:
        """Return the entries of answers about these nodes."""
        if self._entries is None:
            self._entries = entries()
        return self._entries

    @property
    def order(self) -> list[str]:
        """Return the nodes, the soonest first."""
        if self._order is None:
            self._order = sorted(self.answers, key=self._place)
        return self._order

    def _place(self, name: str) -> tuple[float, str]:
        return self.answers[name], name

    def ranks(self, best: float, policy: Policy, *, most: int) -> Iterator[Rank]:
        """Yield the nodes that score the same, the highest first (see ``scores``)."""
        order, answers = self.order, self.answers
        scores = self.scores(best, policy, most=most)

        def behind(name: str) -> int:
            return -scores[answers[name]]

        def equal(soonest: float, latest: float) -> Callable[[str], bool]:
            return lambda name: soonest <= answers[name] <= latest

        end = 0
        while end < len(order):
            begin, its = end, behind(order[end])
            end = bisect_right(order, its, lo=begin, key=behind)
            yield Rank(
                order[begin:end],
                equal(answers[order[begin]], answers[order[end - 1]]),
                beaten=begin > 0 and its == 0 and most == MAX_SCORE,
            )

    def scores(self, best: float, policy: Policy, *, most: int) -> Scores:
        """Return the scores where the soonest of the nodes asked about starts after ``best``."""
        kept = self._scores
        if kept is None or kept.basis != (best, most, policy):
            kept = self._scores = Scores(best, most, policy)
        return kept

    def replaced(self, answers: Mapping[str, float]) -> Self:
        """Return a table in which some nodes answer differently, with the scores kept so far."""
        table = super().replaced(answers)
        if self._order is not None:
            table._order = self._reordered(table, answers)  # noqa: SLF001 - its own
        table._scores = self._scores  # noqa: SLF001 - its own
        table._entries = self._entries  # noqa: SLF001 - its own
        return table

    def _reordered(self, table: Self, answers: Mapping[str, float]) -> list[str] | None:
        """Return the order of a table in which these answers are others."""
        if len(answers) > _FEW:
            return None
        order = list(self.order)
        for name in answers:
            if name in self.answers:
                del order[bisect_left(order, self._place(name), key=self._place)]
        for name in answers:
            insort(order, name, key=table._place)
        return order


def seconds_on(judge: Judge, name: str) -> float:
    """Return what a known node is ranked by."""
    node = judge.view.nodes[name]
    seconds = judge.start(node).seconds
    demand = judge.request.demand
    if demand.volumes:
        wanted = demand.on(node.allocatable)
        seconds += crowding_seconds(node.allocatable, judge.free(node), wanted)
    return seconds


def starts() -> Tables[Starts]:
    """Return tables of starts, empty."""
    return Tables(Starts, seconds_on, lambda judge: judge.view.corrections)
