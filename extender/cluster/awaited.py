"""Nominations that are awaited: between an answer of preempt and the watch.

Where preempt leaves one candidate, kube-scheduler evicts there and nominates the pod to that node.
Until the watch tells of it nobody else would know: a second pod, milliseconds later, would be told
that the same victims make room for it, too, and others would be evicted for nothing. So the
nomination counts from the answer on, for a while: kube-scheduler may yet fail to evict. Where
preempt leaves several, kube-scheduler chooses; it counts nowhere, but is known to be on its way.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from extender.cluster.view import Nominated, PodFacts


class Awaited(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A pod that is about to be nominated to one of ``nodes``, awaited until ``expires``.

    That is a time of the state's steady clock. ``before`` is where it was nominated to when the
    answer was given, mostly nowhere.
    """

    nominated: Nominated
    nodes: frozenset[str]
    expires: float
    before: str = ""

    def is_over(self, pod: PodFacts) -> bool:
        """Tell whether the watch shows that this has happened, or something else has."""
        return not pod.has_no_place or pod.nominated != self.before


class AwaitedNominations:
    """The table, one entry a pod. Not safe to use from threads: the cluster state guards it."""

    def __init__(self) -> None:
        self._of_pod: dict[str, Awaited] = {}

    def on(self, node: str) -> Iterator[Awaited]:
        """Yield those that can only come to one node."""
        return (entry for entry in self._of_pod.values() if entry.nodes == {node})

    def undecided(self, node: str) -> Iterator[Awaited]:
        """Yield those that come to this node or to another one."""
        entries = self._of_pod.values()
        return (entry for entry in entries if len(entry.nodes) > 1 and node in entry.nodes)

    def where(self, uid: str) -> set[str]:
        """Return the node where one pod counts, if it does anywhere."""
        entry = self._of_pod.get(uid)
        return set(entry.nodes) if entry is not None and len(entry.nodes) == 1 else set()

    def nodes(self) -> Iterator[tuple[str, set[str]]]:
        """Yield each pod's UID with the node where it counts, if it does anywhere."""
        for uid in self._of_pod:
            yield uid, self.where(uid)

    def put(self, entry: Awaited) -> set[str]:
        """Keep an entry in place of the pod's last one; return the nodes that this changes."""
        changed = self.drop(entry.nominated.uid)
        self._of_pod[entry.nominated.uid] = entry
        return changed | self.where(entry.nominated.uid)

    def drop(self, uid: str) -> set[str]:
        """Await a pod no longer; return the nodes that this changes."""
        changed = self.where(uid)
        self._of_pod.pop(uid, None)
        return changed

    def see(self, pod: PodFacts) -> set[str]:
        """Take a pod as the watch shows it; return the nodes that this changes."""
        entry = self._of_pod.get(pod.uid)
        return self.drop(pod.uid) if entry is not None and entry.is_over(pod) else set()

    def expire(self, now: float) -> set[str]:
        """Forget what is past its time; return the nodes that this changes."""
        expired = [uid for uid, entry in self._of_pod.items() if entry.expires <= now]
        return {node for uid in expired for node in self.drop(uid)}
