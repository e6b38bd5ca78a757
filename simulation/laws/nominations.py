"""The laws of nominations: a node is given once, with its memory, and for as long as it helps.

Where a nomination leads is judged by ``truth``, and only while whoever would have to see to it is
told of everything. It has a bounded time from the moment on from which all of that has been so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf
from typing import TYPE_CHECKING

from extender.kube.objects import Pod
from simulation.apiserver import Apiserver
from simulation.law import Law, broken
from simulation.scenario import Ask

if TYPE_CHECKING:
    from simulation.extender import Extender

_PATIENCE_SECONDS = 15.0
"""A nomination that leads nowhere is over after so long: kube-scheduler tries its pod, for whom
others may still seem to leave (then it is tried again after five seconds), and what was refused is
taken back in the next round."""

_SOON_SECONDS = 6.0
"""The same beyond the wait after a write that failed: a few rounds, one a second at least."""

_LAST_WAIT_SECONDS = 60.0


class Nominations:
    """What was said of nominations, and what becomes of those that lead nowhere."""

    def __init__(self, api: Apiserver, asks: Mapping[str, Ask]) -> None:
        self._api = api
        self._asks = asks
        self._vain: dict[tuple[str, str], float] = {}
        """Since when a nomination is seen to lead nowhere, by the pod's UID and the node."""
        self._missed: dict[tuple[str, str], tuple[int, float]] = {}
        """How often one could not be taken back, and when that was the last time."""
        self._meant: dict[tuple[Extender, str], frozenset[str]] = {}
        """Where a pod may go or have others make way, by whom it was told last and the UID."""

    def meant(self, extender: Extender, pod: Pod, nodes: Collection[str]) -> None:
        """Take the answer of a verb: the nodes that it leaves to a pod."""
        self._meant[extender, pod.metadata.uid] = frozenset(nodes)

    def nominated(self, extender: Extender, uid: str, node: str) -> None:
        """Look at a nomination that is about to be written."""
        known = extender.state.view().nodes.get(node)
        held = () if known is None else known.reserved
        what = f"{self._asks[uid].pod.metadata.name} on {node}"
        if all(entry.uid != uid for entry in held):
            broken(Law.NOMINATED_HELD, what)
        now = extender.state.steady()
        other, until = extender.given.get(node, ("", now))
        if (other != uid and now < until) or (known is not None and known.nominated):
            broken(Law.GIVEN_ONCE, what)

    def taking_back(self, extender: Extender, uid: str, node: str) -> None:
        """Look at a nomination that is about to be taken back."""
        if node in self._meant.get((extender, uid), ()):
            broken(Law.STAYS, f"{uid} on {node}")

    def missed(self, uid: str, node: str) -> None:
        """Take it that a nomination could not be taken back, or nobody knows: it is tried again."""
        times, _ = self._missed.get((uid, node), (0, 0.0))
        self._missed[uid, node] = times + 1, self._api.now

    def in_vain(self, pods: Collection[tuple[Pod, str]]) -> None:
        """Take the pods whose nomination to a node leads nowhere at this moment: all of them."""
        now, before = self._api.now, self._vain
        self._vain = {}
        for pod, node in pods:
            one = pod.metadata.uid, node
            since = self._vain[one] = before.get(one, now)
            if now > self._end(one, since):
                broken(Law.NOT_IN_VAIN, f"{pod.metadata.name} to {node} for {now - since:.0f} s")

    def _end(self, one: tuple[str, str], since: float) -> float:
        """Return until when a nomination may stay that has led nowhere for some time."""
        times, at = self._missed.get(one, (0, -inf))
        end = at + min(_LAST_WAIT_SECONDS, 2.0 ** (times - 1)) + _SOON_SECONDS
        return end if at >= since else max(end, since + _PATIENCE_SECONDS)
