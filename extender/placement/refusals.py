"""Which nodes refuse a kind of pod, and why: the table behind filter."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property

from extender.placement.reasons import TEXTS, Reason
from extender.placement.tables import Table, Tables
from extender.placement.verdict import Judge


class Refusals(Table[Reason | None]):
    """The reason of every known node, None where the pod may go there."""

    def among(self, asked: AbstractSet[str], judge: Judge) -> Refusals:
        """Return a table that has every node asked about, also those that are not known."""
        if asked <= self._names:
            return self
        unknown = asked - self._names
        return self.replaced({name: judge.reason(name) for name in unknown})

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.answers)

    @cached_property
    def passing(self) -> frozenset[str]:
        """Return the nodes that pass."""
        return frozenset(name for name, reason in self.answers.items() if reason is None)

    def refused(self, asked: AbstractSet[str]) -> Mapping[Reason, AbstractSet[str]]:
        """Return the nodes among those asked about that refuse the pod, by reason."""
        if len(asked) == len(self.answers):
            return self._groups
        among = {reason: nodes & asked for reason, nodes in self._groups.items()}
        return {reason: nodes for reason, nodes in among.items() if nodes}

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
