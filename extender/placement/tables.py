"""What is found of every node for one kind of pod: worked out once, renewed where nodes changed.

Pods of one workload ask again and again, and between two questions a few nodes of thousands have
changed. So the answer of each node is kept for each kind of pod, and only the nodes that changed
are judged again. What is reserved on a node for one pod, or nominated to it, is that pod's own
business: its answer there is laid over the table and not kept.

A table is never changed, it is replaced, so that a reader may hold on to it; what is derived from
one is derived once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any, Generic, Self, TypeVar

import msgspec
from cachetools import LRUCache

from extender.cluster.holdings import LEAVING_SECONDS, ModelState
from extender.cluster.memory import MemoryDemand
from extender.placement.grounds import Grounds
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge
from extender.workload.model import Need

LOOK_AT_THE_CLOCK_EVERY = 256
"""Nodes that are judged between two looks: about a millisecond."""

MAX_ANSWERS = 400_000
"""Answers of nodes that are kept in all: 80 kinds of pods at 5,000 nodes. Each takes some 100 bytes
and, as part of the last answer of prioritize, 40 more."""

KIND_ANSWERS = 200
"""So many answers a kind counts for besides. Where nodes are few, what is kept of a kind takes more
room than its answers (some 3 KB), and those are worked out anew in no time."""

T = TypeVar("T")


class Table(Generic[T]):
    """The answer of every known node."""

    def __init__(self, answers: Mapping[str, T]) -> None:
        self.answers = answers

    def replaced(self, answers: Mapping[str, T]) -> Self:
        """Return a table in which some nodes answer differently, or are new."""
        return type(self)({**self.answers, **answers})


Tab = TypeVar("Tab", bound=Table[Any])


class Kind(msgspec.Struct, frozen=True):
    """Pods of the same kind get the same answers, but where something is kept for one of them.

    ``workload`` is its identity in memory.
    """

    workload: int
    namespace: str
    demand: MemoryDemand
    priority: int
    impatient: bool
    stale: tuple[str, ...]


def kind_of(request: PodRequest, *, impatient: bool, stale: tuple[str, ...] = ()) -> Kind:
    """Return a pod's kind; ``impatient`` and ``stale`` are those of its judge."""
    return Kind(
        workload=id(request.workload),
        namespace=request.namespace,
        demand=request.demand,
        priority=request.priority,
        impatient=impatient,
        stale=stale,
    )


class _Kept(msgspec.Struct, Generic[Tab], frozen=True):
    """A table with all that it rests on.

    Between the UNIX times ``after`` and ``until`` no answer changes by itself.
    """

    table: Tab
    grounds: Grounds
    after: float
    until: float
    besides: object


class Tables(Generic[Tab]):
    """The tables of one question. Safe to use from threads.

    ``ask`` is the question to one node, ``make`` makes a table of the answers. ``besides``
    tells what else all of them rest on.
    """

    def __init__(
        self,
        make: Callable[[Mapping[str, Any]], Tab],
        ask: Callable[[Judge, str], Any],
        besides: Callable[[Judge], object] = lambda _: None,
    ) -> None:
        self._make = make
        self._ask = ask
        self._besides = besides
        self._kept: LRUCache[Kind, _Kept[Tab]] = LRUCache(
            MAX_ANSWERS, getsizeof=lambda kept: KIND_ANSWERS + len(kept.table.answers)
        )
        self._lock = Lock()

    def of(self, judge: Judge, late: Callable[[], bool]) -> Tab | None:
        """Return the answers of all known nodes for a pod; None where they would come too late."""
        kind = kind_of(judge.asked, impatient=judge.impatient, stale=judge.stale)
        with self._lock:
            kept = self._kept.get(kind)
        table = None
        if kept is not None and _still_stands(kept, judge, self._besides(judge)):
            changed = kept.grounds.changed(judge)
            if not changed and changed is not None and kept.grounds.are_of(judge):
                return self._with_own(kept.table, judge)
            table = None if changed is None else self._renewed(kept.table, judge, changed)
        if table is None:
            table = self._worked_out(judge.of_its_kind(), late)
        if table is None:
            return None
        with self._lock:
            self._kept[kind] = _keep(table, judge, self._besides(judge))
        return self._with_own(table, judge)

    def _worked_out(self, judge: Judge, late: Callable[[], bool]) -> Tab | None:
        answers: dict[str, Any] = {}
        for index, name in enumerate(judge.view.nodes):
            if index % LOOK_AT_THE_CLOCK_EVERY == 0 and late():
                return None
            answers[name] = self._ask(judge, name)
        return self._make(answers)

    def _renewed(self, table: Tab, judge: Judge, changed: set[str]) -> Tab:
        """Ask the nodes that changed since, and forget those that are gone."""
        nodes = judge.view.nodes
        gone = {name for name in changed if name not in nodes and name in table.answers}
        if gone:
            answers = table.answers
            table = self._make({name: answers[name] for name in answers if name not in gone})
        return self._asked(table, judge.of_its_kind(), changed & nodes.keys())

    def _with_own(self, table: Tab, judge: Judge) -> Tab:
        own = judge.own_nodes()
        return self._asked(table, judge, own) if own else table

    def _asked(self, table: Tab, judge: Judge, names: Iterable[str]) -> Tab:
        answers = table.answers
        new = {name: self._ask(judge, name) for name in names}
        differ = {
            name: answer
            for name, answer in new.items()
            if name not in answers or answers[name] != answer
        }
        return table.replaced(differ) if differ else table


def _keep(table: Tab, judge: Judge, besides: object) -> _Kept[Tab]:
    view = judge.view
    ends = _ends_of_grace(judge)
    return _Kept(
        table=table,
        grounds=Grounds.of(judge),
        besides=besides,
        after=max((end for end in ends if end < view.now), default=float("-inf")),
        until=min((end for end in ends if end >= view.now), default=float("inf")),
    )


def _still_stands(kept: _Kept[Tab], judge: Judge, besides: object) -> bool:
    """Tell whether neither the clock nor what is besides has changed answers."""
    return kept.after < judge.view.now <= kept.until and kept.besides == besides


def _ends_of_grace(judge: Judge) -> list[float]:
    """Return when stale and leaving holdings stop to pass: all that the clock alone changes."""
    required = [
        said for reference, said in judge.answers.items() if reference.need is Need.REQUIRED
    ]
    stale = (
        holding.since + judge.policy.stale_grace
        for said in required
        for holding in said.nodes.values()
        if holding.state is ModelState.STALE and holding.since is not None
    )
    leaving = (
        holding.leaves_at - LEAVING_SECONDS
        for said in required
        for holding in said.nodes.values()
        if holding.leaves_at is not None
    )
    return [*stale, *leaving]
