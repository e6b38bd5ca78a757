"""What starts that happened teach about later ones: bounded factors, robust and slow to move.

For each strategy the middle (median) of actual / estimated over its latest starts is damped: with
``n`` starts it moves n / (n + 8) of the way, on a logarithmic scale. Each basis moves from there
towards its own middle, as far as it has starts of its own. Below five starts nothing moves, and no
factor leaves 0.5 to 2.

A basis without starts has its strategy's factor, not 1. Else slow engines would be held against
the nodes that pods were sent to, and the ones with nothing on them would look better for it: where
starts of a single basis are known, all nodes are corrected alike and none is preferred for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from statistics import median

import msgspec

from extender.cluster.holdings import Evidence
from extender.cluster.tiers import Tier
from extender.workload.model import Strategy

KEPT_RATIOS = 64
"""Starts that count for one basis: the latest, so that a cluster that changed is learnt again."""
MIN_STARTS = 5
DAMPING = 8
BOUNDS = (0.5, 2.0)
PLAUSIBLE = (0.1, 10.0)
"""A start beyond is one of an image pull or of a clock, and counts as if it were here."""


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """What an estimate rests on."""

    strategy: Strategy
    evidence: Evidence | None
    tier: Tier


class Corrections(msgspec.Struct, frozen=True, kw_only=True):
    """Factors of estimates: by basis, and by strategy for every other one."""

    by_basis: Mapping[Basis, float] = {}
    by_strategy: Mapping[Strategy, float] = {}

    def factor(self, strategy: Strategy, evidence: Evidence | None, tier: Tier | None) -> float:
        """Return the factor of an estimate; 1 where nothing is known of its strategy."""
        if not self.by_strategy:
            return 1.0
        other = self.by_strategy.get(strategy, 1.0)
        if tier is None:
            return other
        return self.by_basis.get(Basis(strategy=strategy, evidence=evidence, tier=tier), other)

    def largest(self, strategy: Strategy) -> float:
        """Return the factor beyond which no estimate of a strategy is raised."""
        own = [factor for basis, factor in self.by_basis.items() if basis.strategy is strategy]
        return max([*own, self.by_strategy.get(strategy, 1.0)])


def corrections(ratios: Mapping[Basis, Collection[float]]) -> Corrections:
    """Make factors of actual / uncorrected estimate, by basis."""
    by_strategy, by_basis = {}, {}
    for strategy in {basis.strategy for basis in ratios}:
        own = {basis: kept for basis, kept in ratios.items() if basis.strategy is strategy}
        everything = [ratio for kept in own.values() for ratio in kept]
        if len(everything) < MIN_STARTS:
            continue
        middle = _middle(everything)
        common = _weight(everything) * middle
        by_strategy[strategy] = _bounded(common)
        for basis, kept in own.items():
            if len(kept) >= MIN_STARTS:
                by_basis[basis] = _bounded(common + _weight(kept) * (_middle(kept) - middle))
    return Corrections(by_basis=by_basis, by_strategy=by_strategy)


def _middle(ratios: Collection[float]) -> float:
    """Return the middle, as a logarithm."""
    low, high = PLAUSIBLE
    return math.log(min(high, max(low, median(ratios))))


def _weight(ratios: Collection[float]) -> float:
    return len(ratios) / (len(ratios) + DAMPING)


def _bounded(logarithm: float) -> float:
    low, high = BOUNDS
    return min(high, max(low, math.exp(logarithm)))
