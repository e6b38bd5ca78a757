"""How soon a kind of pod would serve on each node, and what that scores: the table of prioritize.

A score follows from the soonest start among the nodes asked about. That is nearly always the same
one, so the scores for the latest are kept, and a table that replaces another takes them over.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import compress, filterfalse, islice, tee
from typing import Self

from extender.placement.narrowing import Rank, Select
from extender.placement.policy import Policy
from extender.placement.score import MAX_SCORE, crowding_seconds, score
from extender.placement.tables import Table, Tables
from extender.placement.verdict import Judge
from extender.wire import Entries, Written, entries

_FEW = 100
"""So many nodes are put into their new place one by one; of more, all are sorted anew."""

_SPARSE = 8
"""Where fewer than one node in so many is asked about, each is looked up."""

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
    _last: tuple[AbstractSet[str], AbstractSet[str]] | None = None
    """The nodes that were asked about last, and those of the table that were not."""
    _written: tuple[AbstractSet[str], Scores, Written] | None = None
    """The nodes that were asked about last, by which scores, and what was answered."""

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
            by_name = sorted(self.answers)
            self._order = sorted(by_name, key=self.answers.__getitem__)
        return self._order

    def _place(self, name: str) -> tuple[float, str]:
        return self.answers[name], name

    def among(self, names: Sequence[str], asked: AbstractSet[str]) -> Sequence[str]:
        """Return those of the nodes asked about that are known, the soonest first.

        ``asked`` is the set of these ``names``. Where it is the same object as the last time, the
        nodes that it leaves out are the same, too.
        """
        answers = self.answers
        if len(names) * _SPARSE < len(answers):
            known = sorted(filter(answers.__contains__, names))
            return sorted(known, key=answers.__getitem__)
        if self._last is None or self._last[0] is not asked:
            self._last = asked, frozenset(filterfalse(asked.__contains__, answers))
        left_out = self._last[1]
        return list(filterfalse(left_out.__contains__, self.order)) if left_out else self.order

    def written(self, asked: AbstractSet[str], scores: Scores) -> Written:
        """Return what was written about these nodes, the very same as the last time, if they are.

        Of replicas kube-scheduler asks about the same nodes again and again.
        """
        kept = self._written
        if kept is None or kept[0] is not asked or kept[1] is not scores:
            kept = self._written = asked, scores, Written()
        return kept[2]

    def groups(self, order: Sequence[str], scores: Scores) -> Iterator[tuple[int, int, int]]:
        """Yield each score of nodes in ``order``, the highest first, and where they begin and end.

        ``scores`` are those behind the first of them.
        """
        answers = self.answers

        def behind(name: str) -> int:
            return -scores[answers[name]]

        end = 0
        while end < len(order):
            begin, its = end, behind(order[end])
            end = bisect_right(order, its, lo=begin, key=behind)
            yield -its, begin, end

    def ranks(self, best: float, policy: Policy, *, most: int) -> Iterator[Rank]:
        """Yield the nodes that score the same, the highest first (see ``scores``)."""
        order, answers = self.order, self.answers
        scores = self.scores(best, policy, most=most)

        def scoring(its: int) -> Select:
            def select(names: Iterator[str]) -> Iterator[str]:
                names, same = tee(names)
                seconds = map(answers.__getitem__, same)
                return compress(names, map(its.__eq__, map(scores.__getitem__, seconds)))

            return select

        for its, begin, end in self.groups(order, scores):
            yield Rank(
                end - begin,
                partial(islice, order, begin, end),
                scoring(its),
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
        if len(table.answers) == len(self.answers):
            table._last = self._last  # noqa: SLF001 - its own
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
