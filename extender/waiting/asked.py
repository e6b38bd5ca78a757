"""The nodes that filter was asked about, kept small: pods wait by the thousand.

kube-scheduler leaves out what cannot take the pod by its own rules, so that nearly every pod has a
set of its own. As names, one of 5,000 nodes takes most of a megabyte; here it is a byte a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from extender.cluster.view import NodeView


class AskedNodes(msgspec.Struct, frozen=True):
    """``flags`` has a 1 at the number of each, ``others`` the names of those not known then.

    A node that comes later may have the number of one that is gone, and count as asked about.
    """

    flags: bytes
    others: frozenset[str] = frozenset()

    def has(self, node: NodeView) -> bool:
        """Tell whether filter was asked about a node."""
        return self._is_flagged(node) or node.name in self.others

    def _is_flagged(self, node: NodeView) -> bool:
        number = node.number
        return self.flags[number : number + 1] == b"\x01"

    def and_these(self, other: AskedNodes) -> AskedNodes:
        """Return the nodes of both."""
        length = max(len(self.flags), len(other.flags))
        both = (int.from_bytes(one.flags.ljust(length, b"\0"), "big") for one in (self, other))
        flags = (next(both) | next(both)).to_bytes(length, "big")
        return AskedNodes(flags, self.others | other.others)

    def among(self, nodes: Mapping[str, NodeView]) -> Iterator[str]:
        """Yield the names, each once: those of known nodes first."""
        flags = self.flags
        for name, node in nodes.items():
            number = node.number
            if number < len(flags) and flags[number]:
                yield name
        for name in sorted(self.others):
            if name not in nodes or not self._is_flagged(nodes[name]):
                yield name


def asked_nodes(names: Iterable[str], nodes: Mapping[str, NodeView]) -> AskedNodes:
    """Return the nodes of these names, of which ``nodes`` are known."""
    known, others = [], []
    nodes = dict(nodes.items())  # in which thousands are looked up sooner than in a picture
    for name in names:
        node = nodes.get(name)
        if node is None:
            others.append(name)
        else:
            known.append(node.number)
    flags = bytearray(max(known, default=-1) + 1)
    for number in known:
        flags[number] = 1
    return AskedNodes(bytes(flags), frozenset(others))
