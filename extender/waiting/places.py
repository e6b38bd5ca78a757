"""Where pods that ask for the same could go, though each was asked about on other nodes.

What a node answers does not depend on who else was asked about: it is judged once for all of them.
A set of nodes without a place is only looked at again on the nodes that have changed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator

import msgspec

from extender.placement.grounds import Grounds
from extender.placement.verdict import Judge
from extender.waiting.asked import AskedNodes
from extender.waiting.slots import slots


class Hopeless(msgspec.Struct, frozen=True):
    """The sets of nodes that had no place for a group of pods, and what that rests on."""

    grounds: Grounds
    sets: Container[AskedNodes | None]


class Places:
    """The places for a group of pods with one ``judge``.

    ``taken`` counts the places on each node that are given away and that the view does not show.
    """

    def __init__(self, judge: Judge, before: Hopeless | None) -> None:
        self.judge = judge
        self.taken: Counter[str] = Counter()
        self._slots: dict[str, int] = {}
        self._choices: dict[AskedNodes | None, Choice] = {}
        self._without: Container[AskedNodes | None] = ()
        changed = before.grounds.changed(judge) if before is not None else None
        if before is not None and changed is not None:
            self._without = before.sets
            nodes = judge.view.nodes
            self._opened = [nodes[name] for name in changed if name in nodes and self.slots(name)]

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

    def hopeless(self) -> Hopeless:
        """Return what need not be looked at again before something changes."""
        without = {asked for asked, choice in self._choices.items() if not choice.any}
        return Hopeless(Grounds.of(self.judge), without)

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

    def next(self) -> str:
        """Return a node with a place that is not given away; empty where there is none left."""
        places = self.places
        while self._first < len(self._found) or self._more():
            name = self._found[self._first]
            if places.slots(name) > places.taken[name]:
                return name
            self._first += 1
        return ""

    def stands(self, judge: Judge) -> bool:
        """Tell whether one of the nodes still has a place, as far as they were looked for."""
        return any(judge.reason(name) is None for name in self._found)

    def close(self) -> None:
        """Have no place any more."""
        self._found, self._fitting, self._first = [], iter(()), 0

    def _more(self) -> bool:
        name = next(self._fitting, None)
        if name is not None:
            self._found.append(name)
        return name is not None
