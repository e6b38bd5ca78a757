"""The laws of nominations: none stays that leads nowhere, and none is taken back that does not.

Where a nomination leads is judged by ``truth``, and only while whoever would have to see to it is
told of everything. It has a bounded time from the moment on from which all of that has been so.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from extender.kube.objects import Pod
from simulation.apiserver import Apiserver
from simulation.law import Law, broken

if TYPE_CHECKING:
    from simulation.extender import Extender

_PATIENCE_SECONDS = 15.0
"""A nomination that leads nowhere is over after so long: kube-scheduler tries its pod, for whom
others may still seem to leave (then it is tried again after five seconds), and what was refused is
taken back in the next round."""

_SOON_SECONDS = 6.0
"""The same beyond the wait after a write that failed: a few rounds, one a second at least."""

_LAST_WAIT_SECONDS = 60.0


class Vain(msgspec.Struct):
    """A nomination that leads nowhere, since when, and how long it has from then on.

    ``misses`` counts how often it could not be taken back.
    """

    node: str
    since: float
    patience: float = _PATIENCE_SECONDS
    misses: int = 0


class Nominations:
    """What was said of nominations, and what becomes of those that lead nowhere."""

    def __init__(self, api: Apiserver) -> None:
        self._api = api
        self._vain: dict[str, Vain] = {}
        self._meant: dict[tuple[Extender, str], frozenset[str]] = {}
        """Where a pod may go or have others make way, by whom it was told last and the UID."""

    def meant(self, extender: Extender, pod: Pod, nodes: Collection[str]) -> None:
        """Take the answer of a verb: the nodes that it leaves to a pod."""
        self._meant[extender, pod.metadata.uid] = frozenset(nodes)

    def taking_back(self, extender: Extender, uid: str, node: str) -> None:
        """Look at a nomination that is about to be taken back."""
        if node in self._meant.get((extender, uid), ()):
            broken(Law.STAYS, f"{uid} on {node}")

    def missed(self, uid: str) -> None:
        """Take it that a nomination could not be taken back, or nobody knows: it is tried again."""
        vain = self._vain.get(uid)
        if vain is not None:
            vain.since, vain.misses = self._api.now, vain.misses + 1
            wait = min(_LAST_WAIT_SECONDS, 2.0 ** (vain.misses - 1))
            vain.patience = wait + _SOON_SECONDS

    def in_vain(self, pods: Collection[tuple[Pod, str]]) -> None:
        """Take the pods whose nomination to a node leads nowhere at this moment: all of them."""
        now, before = self._api.now, self._vain
        self._vain = {}
        for pod, node in pods:
            uid = pod.metadata.uid
            vain = before.get(uid)
            if vain is None or vain.node != node:
                vain = Vain(node=node, since=now)
            self._vain[uid] = vain
            if now - vain.since > vain.patience:
                broken(
                    Law.NOT_IN_VAIN,
                    f"{pod.metadata.name} to {node} for {now - vain.since:.0f} s",
                )
