"""Which nodes that fit are offered to kube-scheduler, where they are many.

kube-scheduler by itself stops looking once it has found enough nodes, blindly; it scores those and
no other. This program is asked about all of them, so that no node that holds a model is missed, and
would have all of them scored. It offers as many as kube-scheduler looks for at least, and knows
which: those that it would score highest, and of nodes that are equal a share of each zone, drawn by
lot. Of a hundred nodes drawn by lot the best is among the best twentieth of all in 994 cases of
1,000, however many there are.

Every check of kube-scheduler itself comes before, so a node that is left out costs no pod its
place. What is lost is the choice among the nodes left out, by what kube-scheduler prefers; hence a
pod that says what it prefers is offered all, and so is one that is placed together with others. A
node that is offered may still turn out wrong (the Binding fails, another extender refuses it):
hence a pod that is asked about again is offered all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, islice

import msgspec

from extender.cluster.view import View
from extender.kube.objects import Pod

THE_LEAST = 0
"""The percentage that stands for as few nodes as kube-scheduler ever looks for."""

ALL = 100

Draw = Callable[[int], int]
"""Returns a number from 0 to below another one, by chance (``random.Random.randrange``)."""

_LEAST = 100
_ANYWAY = "ScheduleAnyway"


Select = Callable[[Iterator[str]], Iterator[str]]
"""Returns some of these names, one after the other as they are asked for."""


class Rank(msgspec.Struct, frozen=True):
    """Nodes that kube-scheduler is told to be equal: ``size`` of them, made by ``nodes`` in order.

    ``select`` tells which of others are of them; where they are many, only some are ever looked at.

    ``beaten``: they score nothing where others score all there is. With the weight of
    config/scheduler-config.yaml that is 1,500 points of kube-scheduler's, and its own scores make
    up no more than 1,300 for a pod that does not say itself what it prefers (2 x 100 for topology,
    2 x 100 for other pods, 3 x 100 for taints, 2 x 100 for devices, 100 each for two of resources,
    images and volumes; kubernetes/pkg/scheduler/apis/config/v1/default_plugins.go).
    """

    size: int
    nodes: Callable[[], Iterable[str]]
    select: Select
    beaten: bool = False


def enough(nodes: int, percentage: int) -> int:
    """Return how many nodes are offered of so many that a cluster has.

    Never fewer than 100, which is the least that kube-scheduler looks for whatever its
    ``percentageOfNodesToScore`` (kubernetes/pkg/scheduler/schedule_one.go,
    ``minFeasibleNodesToFind``).
    """
    return max(_LEAST, nodes * percentage // 100)


def the_first(_: int) -> int:
    """Begin at the same place every time, for whoever leaves nothing to chance."""
    return 0


def prefers_nodes(pod: Pod) -> bool:
    """Tell whether kube-scheduler's own scores may matter for a pod more than for others.

    In a gang the nodes of one pod decide about those of the others.
    """
    spec = pod.spec
    affinities = (spec.affinity.node_affinity, spec.affinity.pod_affinity,
                  spec.affinity.pod_anti_affinity)  # fmt: skip
    return (
        spec.scheduling_group is not None
        or any(one.preferred_during_scheduling_ignored_during_execution for one in affinities)
        or any(one.when_unsatisfiable == _ANYWAY for one in spec.topology_spread_constraints)
    )


def narrowed(
    passed: AbstractSet[str], ranks: Iterable[Rank], room: int, view: View, draw: Draw
) -> Sequence[str]:
    """Return about ``room`` of the nodes that passed, those of the first ranks.

    Of the last rank that has a place among them each zone has its share, and one node at least.
    Nodes that are beaten anyway are not offered beside better ones: where the best is alone,
    kube-scheduler takes it without any scoring.
    """
    kept: list[str] = []
    for rank in ranks:
        left = room - len(kept)
        if left <= 0 or (kept and rank.beaten):
            break
        if rank.size <= left:
            kept += filter(passed.__contains__, rank.nodes())
        else:
            kept += _drawn(passed, rank, left, view, draw)
    return kept


def _drawn(
    passed: AbstractSet[str], rank: Rank, room: int, view: View, draw: Draw
) -> Iterable[str]:
    """Return about so many nodes of a rank; fewer only where no more of them passed."""
    zones = [
        (len(names), _from(names, draw(len(names)), passed, rank)) for names in view.zones.nodes
    ]
    kept: list[str] = []
    while zones:
        left, nodes = room - len(kept), sum(size for size, _ in zones)
        found = [list(islice(zone, max(1, left * size // nodes))) for size, zone in zones]
        kept += chain.from_iterable(found)
        # What one zone lacks of its share the others have.
        zones = [zone for zone, some in zip(zones, found, strict=True) if some]
        if room - len(kept) < len(zones):
            break
    return kept


def _from(names: Sequence[str], first: int, passed: AbstractSet[str], rank: Rank) -> Iterator[str]:
    """Yield those of a zone's nodes that may be offered, beginning at the ``first``."""
    places = chain(range(first, len(names)), range(first))
    return filter(passed.__contains__, rank.select(map(names.__getitem__, places)))
