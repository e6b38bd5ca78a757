"""Which nodes that fit are offered to kube-scheduler, where they are more than it would look for.

kube-scheduler by itself stops looking once it has found enough nodes, blindly; it scores those and
no other. This program is asked about all of them, so that no node that holds a model is missed, and
would have all of them scored. It offers as many as kube-scheduler looks for, and knows which: those
that it would score highest, and of nodes that are equal a share of each zone, drawn by lot.

Every check of kube-scheduler itself comes before, so a node that is left out costs no pod its
place. What is lost is the choice among the nodes left out, by what kube-scheduler prefers; hence a
pod that says what it prefers is offered all, and so is one that is placed together with others. A
node that is offered may still turn out wrong (the Binding fails, another extender refuses it):
hence a pod that is asked about again is offered all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import compress, repeat
from operator import attrgetter

from extender.cluster.view import NodeView, View
from extender.kube.objects import Pod

AS_KUBE_SCHEDULER = 0
"""The percentage that stands for kube-scheduler's own: the smaller, the more nodes there are."""

ALL = 100

Draw = Callable[[list[str], int], list[str]]
"""Takes so many of some nodes, by chance (``random.Random.sample``)."""

_LEAST, _LEAST_PERCENT = 100, 5
_ANYWAY = "ScheduleAnyway"
_UNKNOWN = NodeView(name="")
_zone = attrgetter("zone")


def enough(nodes: int, percentage: int) -> int:
    """Return how many nodes that fit kube-scheduler looks for in a cluster of so many.

    ``percentage`` is what its ``percentageOfNodesToScore`` would be; never fewer than 100
    (kubernetes/pkg/scheduler/schedule_one.go, ``numFeasibleNodesToFind``).
    """
    if percentage == AS_KUBE_SCHEDULER:
        percentage = max(_LEAST_PERCENT, 50 - nodes // 125)
    return max(_LEAST, nodes * percentage // 100)


def the_first(names: list[str], number: int) -> list[str]:
    """Take the same nodes every time, for whoever leaves nothing to chance."""
    return names[:number]


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
    names: Sequence[str], scores: Sequence[int], room: int, view: View, draw: Draw
) -> Sequence[str]:
    """Return about ``room`` of the nodes, those of the highest scores (``scores``, one a name).

    Of the lowest score among them each zone has its share, and one node at least.
    """
    kept: list[str] = []
    for score in sorted(set(scores), reverse=True):
        equal = list(compress(names, map(score.__eq__, scores)))
        left = room - len(kept)
        if len(equal) > left:
            return [*kept, *_drawn(equal, left, view, draw)] if left else kept
        kept += equal
    return kept


def _drawn(names: Sequence[str], room: int, view: View, draw: Draw) -> Sequence[str]:
    nodes = map(view.nodes.get, names, repeat(_UNKNOWN))
    zones: defaultdict[str, list[str]] = defaultdict(list)
    for zone, name in zip(map(_zone, nodes), names, strict=True):
        zones[zone].append(name)
    kept: list[str] = []
    for zone in zones.values():
        kept += draw(zone, max(1, room * len(zone) // len(names)))
    return kept
