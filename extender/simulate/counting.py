"""The pods of a workload one by one, in the order in which they are placed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from extender.cluster.view import NodeView
from extender.errors import UsageError
from extender.placement.in_tree import fixed_objection
from extender.workload.counts import Asked, groups_of
from extender.workload.manifest import Part, object_name

MOST_PODS = 10_000


class Replica(msgspec.Struct, frozen=True):
    """One pod to place; ``node`` is the only one that it may go to, empty where any will do."""

    part: Part
    node: str = ""


def replicas_of(
    manifest: Any,
    parts: Sequence[Part],
    nodes: Mapping[str, NodeView],
    wished: int | None = None,
) -> tuple[list[Replica], str]:
    """Return the pods that a workload asks for, and the field that says how many.

    ``wished`` is how many are to be placed whatever it asks for: of a workload with several parts
    so many of its (first) groups. Raises UsageError for a number that is none, and for more pods
    than ``MOST_PODS``.
    """
    by_name = {part.name: part for part in parts}
    if manifest.get("kind") == "DaemonSet":
        return _on_every_node(manifest, parts[0], nodes, wished), "matching nodes"
    asked = groups_of(manifest, parts)
    if wished is not None:
        asked = [msgspec.structs.replace(asked[0], groups=wished, said="--replicas"), *asked[1:]]
    found = list(islice(_in_order(asked, by_name), MOST_PODS + 1))
    if len(found) > MOST_PODS:
        raise UsageError(
            f"{object_name(manifest)}: {asked[0].said} asks for more than {MOST_PODS} pods, the "
            "most that are simulated; give less with --replicas"
        )
    return found, asked[0].said


def _in_order(asked: Sequence[Asked], parts: Mapping[str, Part]) -> Iterator[Replica]:
    """Yield the pods group by group, each with its parts in order."""
    for workload in asked:
        for _ in range(workload.groups):
            for name, number in workload.each.items():
                yield from (Replica(parts[name]) for _ in range(number))


def _on_every_node(
    manifest: Any, part: Part, nodes: Mapping[str, NodeView], wished: int | None
) -> list[Replica]:
    """Return one pod for each node that a DaemonSet's controller makes one for.

    It looks at taints, selector and affinity, and not at what is left there
    (``NodeShouldRunDaemonPod`` in kubernetes/pkg/controller/daemon/daemon_controller.go).
    """
    if wished is not None:
        raise UsageError(
            f"{object_name(manifest)}: has one pod on each node that matches; leave out --replicas"
        )
    ours = (name for name in sorted(nodes) if fixed_objection(nodes[name], part.asked) is None)
    return [Replica(part, name) for name in ours]
