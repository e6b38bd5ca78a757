"""Where pods that ask for the same could go, though each was asked about on other nodes.

What a node answers does not depend on who else was asked about: it is judged once for all of them.
A set of nodes without a place is only looked at again on the nodes that have changed since, and so
are the evictions that were not worth it for a pod.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator

import msgspec

from extender.cluster.view import NodeView
from extender.placement.evictions import PodOf, refused_eviction
from extender.placement.grounds import Grounds
from extender.placement.verdict import Judge
from extender.waiting.asked import AskedNodes
from extender.waiting.evictions import RefusedEvictions
from extender.waiting.slots import slots


class Hopeless(msgspec.Struct, frozen=True):
    """The sets of nodes that had no place for a group of pods, and what that rests on.

    And the ``evictions`` that were not worth it for one of them. ``fitting`` are those nodes that
    are known to have had a place.
    """

    grounds: Grounds
    sets: Container[AskedNodes | None]
    evictions: Container[RefusedEvictions]
    fitting: frozenset[str]


class Places:
    """The places for a group of pods with one ``judge``.

    ``taken`` counts the places on each node that are given away and that the view does not show.
    """

    def __init__(self, judge: Judge, before: Hopeless | None, pod_of: PodOf) -> None:
        self.judge = judge
        self.pod_of = pod_of
        self.taken: Counter[str] = Counter()
        self._slots: dict[str, int] = {}
        self._choices: dict[AskedNodes | None, Choice] = {}
        self._without: Container[AskedNodes | None] = ()
        self._not_worth_it: Container[RefusedEvictions] = ()
        self._in_vain: set[RefusedEvictions] = set()
        self._changed: set[str] = set()
        self._opened: list[NodeView] = []
        self._fitted: frozenset[str] = frozenset()
        changed = before.grounds.changed(judge) if before is not None else None
        if before is not None and changed is not None:
            self._without = before.sets
            self._not_worth_it, self._changed = before.evictions, changed
            nodes = judge.view.nodes
            order = sorted(changed & nodes.keys())  # a set's own differs from process to process
            self._opened = [nodes[name] for name in order if self.slots(name)]
            self._fitted = before.fitting

    def slots(self, name: str) -> int:
        """Return how many of these pods a node has room for; 0 where it refuses them."""
        found = self._slots.get(name)
        if found is None:
            judge = self.judge
            fits = judge.reason(name) is None
            found = self._slots[name] = slots(judge.asked, judge.view, name) if fits else 0
        return found

    def choice(self, asked: AskedNodes | None) -> Choice:
        """Return what those have that were asked about on these nodes; None for all."""
        found = self._choices.get(asked)
        if found is None:
            found = self._choices[asked] = Choice(self, asked, self._fitting(asked))
        return found

    def opens_for(self, asked: AskedNodes | None) -> bool:
        """Tell whether one of these nodes has a place now, and had none that was known before."""
        return asked is not None and any(
            asked.has(node) for node in self._opened if node.name not in self._fitted
        )

    def eviction(self, refused: RefusedEvictions) -> Choice:
        """Return the nodes on which evictions are worth it now that were not."""
        found = Eviction(self, refused, self._worth_it(refused))
        if not found.any:
            self._in_vain.add(refused)
        return found

    def lets_evict(self, judge: Judge, name: str, refused: RefusedEvictions) -> bool:
        """Tell whether a judge finds evictions on a node worth it."""
        victims = refused.victims[name]
        return refused_eviction(judge, name, victims, self.pod_of) is None

    def hopeless(self) -> Hopeless:
        """Return what need not be looked at again before something changes."""
        without = {asked for asked, choice in self._choices.items() if not choice.any}
        fitting = (name for name, places in self._slots.items() if places)
        fitted = self._fitted - self._changed
        return Hopeless(Grounds.of(self.judge), without, self._in_vain, fitted.union(fitting))

    def _worth_it(self, refused: RefusedEvictions) -> Iterator[str]:
        names: Iterable[str] = refused.victims
        if refused in self._not_worth_it:
            names = (name for name in names if name in self._changed)
        return (name for name in names if self.lets_evict(self.judge, name, refused))

    def _fitting(self, asked: AskedNodes | None) -> Iterator[str]:
        if asked in self._without:
            return (node.name for node in self._opened if asked is None or asked.has(node))
        nodes = self.judge.view.nodes
        names: Iterable[str] = nodes if asked is None else asked.among(nodes)
        return (name for name in names if self.slots(name))


class Choice:
    """The nodes of one set that have a place, looked for no further than is needed."""

    def __init__(self, places: Places, asked: AskedNodes | None, fitting: Iterator[str]) -> None:
        self.places = places
        self._asked = asked
        self._fitting = fitting
        self._found: list[str] = []
        self._first = 0
        self.any = self._more()

    @property
    def right_node(self) -> str:
        """Return the only node that has a place, empty where there are several."""
        if self._asked is None or (len(self._found) == 1 and self._more()):
            return ""
        return self._found[0] if len(self._found) == 1 else ""

    @property
    def first(self) -> str:
        """Return the first node that was found to have a place; empty where none was."""
        return self._found[0] if self._found else ""

    def next(self) -> str:
        """Return a node with a place that is not given away; empty where there is none left."""
        while self._first < len(self._found) or self._more():
            name = self._found[self._first]
            if self._left(name) > 0:
                return name
            self._first += 1
        return ""

    def stands(self, judge: Judge) -> bool:
        """Tell whether one of the nodes still has a place, as far as they were looked for."""
        return any(self._lets_go(judge, name) for name in self._found)

    def close(self) -> None:
        """Have no place any more."""
        self._found, self._fitting, self._first = [], iter(()), 0

    def _left(self, name: str) -> int:
        return self.places.slots(name) - self.places.taken[name]

    def _lets_go(self, judge: Judge, name: str) -> bool:
        return judge.reason(name) is None

    def _more(self) -> bool:
        name = next(self._fitting, None)
        if name is not None:
            self._found.append(name)
        return name is not None


class Eviction(Choice):
    """The nodes on which one pod would be made room now: one pod at a time for each.

    Only kube-scheduler can tell whom it would evict by now, and how many come in for that.
    """

    def __init__(self, places: Places, refused: RefusedEvictions, fitting: Iterator[str]) -> None:
        self._evictions = refused
        super().__init__(places, None, fitting)

    def _left(self, name: str) -> int:
        return 1 - self.places.taken[name]

    def _lets_go(self, judge: Judge, name: str) -> bool:
        return self.places.lets_evict(judge, name, self._evictions)
