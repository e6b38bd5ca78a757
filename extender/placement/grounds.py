"""What the answers about nodes rest on, for one kind of pod, besides the nodes themselves.

Whoever keeps answers keeps this with them, and learns from it which nodes have to be judged again.
What the clock alone changes is not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import msgspec

from extender.cluster.holdings import Holding
from extender.cluster.inventory import Answer
from extender.placement.verdict import Judge
from extender.workload.model import ModelReference, Workload


class Grounds(msgspec.Struct, frozen=True):
    """What was known when a judge answered.

    ``changes`` counts what had changed in the cluster by then, ``claims`` is what was known of the
    pod's claims. The ``workload`` is kept alive for the kind of pod that has its identity.
    """

    workload: Workload
    changes: int
    answers: Mapping[ModelReference, Answer]
    claims: tuple[object, ...]

    @classmethod
    def of(cls, judge: Judge) -> Self:
        """Return what a judge's answers rest on."""
        return cls(judge.asked.workload, judge.view.changes.count, judge.answers, judge.claims)

    def are_of(self, judge: Judge) -> bool:
        """Tell whether the inventory's answers are the very same."""
        return all(judge.answers[ref] is said for ref, said in self.answers.items())

    def changed(self, judge: Judge) -> set[str] | None:
        """Return the nodes whose answer may be another one now; None where all may be."""
        if self.claims != judge.claims:
            return None
        if not all(_alike(judge.answers[ref], said) for ref, said in self.answers.items()):
            return None
        changed = judge.view.changes.since(self.changes)
        if changed is not None:
            for reference, before in self.answers.items():
                now = judge.answers[reference]
                if now is not before:
                    changed |= _held_otherwise(before.nodes, now.nodes)
                    changed |= before.untold ^ now.untold
        return changed


def _alike(now: Answer, before: Answer) -> bool:
    """Tell whether two answers can only differ node by node."""
    return (now.known, now.namespaces) == (before.known, before.namespaces)


def _held_otherwise(before: Mapping[str, Holding], now: Mapping[str, Holding]) -> set[str]:
    """Return the nodes that hold a model otherwise than before."""
    changed = {name for name, holding in now.items() if before.get(name) != holding}
    return changed | (before.keys() - now.keys())
