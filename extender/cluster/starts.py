"""Starts that happened, beside what had been estimated: bound -> Ready, as the watch shows it.

A start is taken from a pod that carries this program's decision: from its condition PodScheduled,
which the apiserver sets with the binding, to its condition Ready, which the kubelet sets. Both are
whole seconds of two clocks.

Pods without a probe have no such start: they are Ready as soon as their process runs, long before
it serves.

Nothing is stored. At a start of this program the pods that are Ready already are read like any
other, except those with a restart behind them, whose last turn to Ready says nothing of the first.
They correct estimates; only starts seen to happen are counted in the histograms, which would else
count them anew after every restart.

Not safe to use from threads: the cluster state guards it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

import msgspec
from cachetools import LRUCache

from extender.cluster.corrections import KEPT_RATIOS, Basis, Corrections, corrections
from extender.cluster.decisions import decision_on
from extender.kube.lives import tells_when_it_serves
from extender.kube.objects import Pod
from extender.kube.times import unix_time
from extender.workload.model import Strategy

KEPT_STARTS = 2048

START_BOUNDS = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0)
"""Seconds: from an engine that maps its weights to a large model over a slow link."""
DIFFERENCE_BOUNDS = (-300.0, -100.0, -30.0, -10.0, -3.0, 0.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Seconds that a start took longer than estimated; negative where it was sooner."""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """One start. ``estimated`` and ``actual`` are seconds; ``ready_at`` is UNIX time."""

    uid: str
    namespace: str
    pod: str
    node: str
    model: str | None
    basis: Basis
    estimated: float
    correction: float
    actual: float
    ready_at: float


class Spread:
    """Counts by upper bound (the last one is without), and their sum, as a histogram has them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def mean(self) -> float | None:
        """Return the mean; None of nothing."""
        number = sum(self.counts)
        return self.sum / number if number else None

    def copy(self) -> Spread:
        """Return what does not change any more."""
        other = Spread(self.bounds)
        other.counts, other.sum = list(self.counts), self.sum
        return other


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The starts on one basis since this program started, in seconds."""

    actual: Spread = msgspec.field(default_factory=lambda: Spread(START_BOUNDS))
    difference: Spread = msgspec.field(default_factory=lambda: Spread(DIFFERENCE_BOUNDS))


class Starts:
    """The table. ``learn`` says whether later estimates are corrected by it."""

    def __init__(self, *, learn: bool = True) -> None:
        self.corrections = Corrections()
        self._learn = learn
        self._counted: set[str] = set()
        self._recent: LRUCache[str, Started] = LRUCache(KEPT_STARTS)
        self._ratios: dict[Basis, deque[float]] = {}
        self._seen: dict[Basis, Seen] = {}

    def put(self, start: Started, *, waited: bool, restarted: bool) -> None:
        """Take the start that a pod tells of; the first one counts.

        ``waited``: the pod was known before and not Ready, so that its start was seen to happen.
        ``restarted``: a container of it was, so that it may have been Ready before.
        """
        uid = start.uid
        if uid in self._counted:
            return
        self._counted.add(uid)
        if not waited and restarted:
            return
        self._recent[uid] = start
        if waited:
            seen = self._seen.setdefault(start.basis, Seen())
            seen.actual.add(start.actual)
            seen.difference.add(start.actual - start.estimated)
        self._ratios.setdefault(start.basis, deque(maxlen=KEPT_RATIOS)).append(
            start.actual * start.correction / start.estimated
        )
        if self._learn:
            self.corrections = corrections(self._ratios)

    def forget(self, uid: str) -> None:
        """Let go of a pod that is gone; what its start told stays."""
        self._counted.discard(uid)

    def recent(self) -> dict[str, Started]:
        """Return the latest starts by UID, the newest first."""
        ordered = sorted(self._recent.values(), key=lambda one: one.ready_at, reverse=True)
        return {one.uid: one for one in ordered}

    def seen(self) -> dict[Basis, Seen]:
        """Return what was seen to happen."""
        return {
            basis: Seen(actual=seen.actual.copy(), difference=seen.difference.copy())
            for basis, seen in self._seen.items()
        }

    def samples(self) -> dict[Basis, int]:
        """Return how many starts each correction rests on."""
        return {basis: len(ratios) for basis, ratios in self._ratios.items()}


def started(uid: str, pod: Pod) -> Started | None:
    """Return a pod's start; None while it is not Ready, or where it cannot be told."""
    decided = decision_on(pod)
    if decided is None or not tells_when_it_serves(pod):
        return None
    times = {
        condition.type: unix_time(condition.last_transition_time)
        for condition in pod.status.conditions
        if condition.status == "True"
    }
    bound, ready = times.get("PodScheduled"), times.get("Ready")
    estimated, strategy = decided.estimated_start_seconds, decided.strategy
    if bound is None or ready is None or ready < bound or estimated is None:
        return None
    if strategy is None or strategy is Strategy.NONE or decided.tier is None:
        return None
    return Started(
        uid=uid,
        namespace=pod.metadata.namespace,
        pod=pod.metadata.name,
        node=pod.spec.node_name,
        model=decided.model,
        basis=Basis(strategy=strategy, evidence=decided.evidence, tier=decided.tier),
        estimated=estimated,
        correction=decided.correction,
        actual=ready - bound,
        ready_at=ready,
    )


def restarted(pod: Pod) -> bool:
    """Tell whether a container of a pod was restarted: its Ready may not be the first."""
    return any(status.restart_count for status in pod.status.container_statuses)
