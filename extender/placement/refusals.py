"""Which nodes refuse a kind of pod, and why: the table behind filter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Self

import msgspec

from extender.placement.reasons import TEXTS, Reason
from extender.placement.tables import Table, Tables
from extender.placement.verdict import Judge


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a table says of the nodes that were asked about.

    ``passed`` are those that the pod may go to, ``refused`` counts the others, ``examples`` has one
    node of each reason. ``table`` has every one of them, also those that are not known.
    """

    passed: AbstractSet[str]
    names: Sequence[str]
    refused: Mapping[Reason, int]
    examples: Mapping[Reason, str]
    table: Refusals


class Refusals(Table[Reason | None]):
    """The reason of every known node, None where the pod may go there."""

    _last: tuple[AbstractSet[str], Found] | None = None

    def find(self, names: Sequence[str], asked: AbstractSet[str], judge: Judge) -> Found:
        """Look up the nodes asked about; ``asked`` is the set of these ``names``.

        Where it is the same object as the last time, so is what was found.
        """
        last = self._last
        if last is not None and last[0] is asked:
            return last[1]
        table = self._among(asked, judge)
        found = table._look(names, asked)  # noqa: SLF001 - its own
        if table is self:
            self._last = asked, found
        return found

    def _among(self, asked: AbstractSet[str], judge: Judge) -> Self:
        """Return a table that has every node asked about."""
        if asked <= self._names:
            return self
        unknown = asked - self._names
        return self.replaced({name: judge.reason(name) for name in unknown})

    def _look(self, names: Sequence[str], asked: AbstractSet[str]) -> Found:
        if asked <= self._passing:
            return Found(passed=asked, names=names, refused={}, examples={}, table=self)
        among = {reason: nodes & asked for reason, nodes in self._groups.items()}
        refused = {reason: nodes for reason, nodes in among.items() if nodes}
        passed = self._passing & asked
        return Found(
            passed=passed,
            names=tuple(filter(passed.__contains__, names)),
            refused={reason: len(nodes) for reason, nodes in refused.items()},
            examples={r: next(filter(nodes.__contains__, names)) for r, nodes in refused.items()},
            table=self,
        )

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.answers)

    @cached_property
    def _passing(self) -> frozenset[str]:
        return frozenset(name for name, reason in self.answers.items() if reason is None)

    @cached_property
    def _groups(self) -> Mapping[Reason, frozenset[str]]:
        groups: dict[Reason, set[str]] = {}
        for name, reason in self.answers.items():
            if reason is not None:
                groups.setdefault(reason, set()).add(name)
        return {reason: frozenset(names) for reason, names in groups.items()}

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        return {name: TEXTS[reason] for name, reason in self.answers.items() if reason is not None}

    def texts(self, asked: Collection[str]) -> Mapping[str, str]:
        """Return what is said of each refused node among those asked about."""
        if len(asked) == len(self.answers):
            return self._texts
        return {name: text for name, text in self._texts.items() if name in asked}


def refusals() -> Tables[Refusals]:
    """Return tables of refusals, empty."""
    return Tables(Refusals, Judge.reason)
