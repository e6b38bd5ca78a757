"""The laws of waking: who was refused is remembered, who gets no node is left alone, nobody waits.

Nobody, that is, who could run for all that is known: for longer than a moment, once it is calm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from extender.kube.objects import Pod
from extender.wire import FilterResult
from simulation.apiserver import Apiserver, may_be_bound
from simulation.law import Law, broken
from simulation.scenario import Ask

if TYPE_CHECKING:
    from simulation.extender import Extender

_PATIENCE_SECONDS = 10.0
"""A pod that could run is bound after so long, once nothing is wrong any more."""


class Waiting:
    """Who was refused, who is told that it can be tried again, and who waits in vain."""

    def __init__(self, api: Apiserver, asks: Mapping[str, Ask]) -> None:
        self._api = api
        self._asks = asks
        self._could: dict[tuple[Law, str], float] = {}
        """Since when a pod waits that need not, by law and UID."""
        self._refused: set[str] = set()
        """The UIDs of pods that filter refused everywhere, to the present kube-scheduler."""
        self._asked: Extender | None = None
        """Whom that asks."""

    def filtered(self, pod: Pod, result: FilterResult) -> None:
        """Take an answer of filter."""
        if result.names:
            self._refused.discard(pod.metadata.uid)
        elif not result.error:
            self._refused.add(pod.metadata.uid)

    def told(self, extender: Extender, uid: str) -> None:
        """Look at a pod that kube-scheduler is about to be told of.

        Who asks for one has seen before us that its gates are gone.
        """
        pod = extender.witness.pods.get(uid)
        if pod is not None and (pod.metadata.deletion_timestamp or self._is_gated(pod)):
            broken(Law.LEFT_ALONE, pod.metadata.name)

    def _is_gated(self, pod: Pod) -> bool:
        present = self._api.get(Pod, pod.metadata.name, pod.metadata.uid)
        return present is not None and bool(present.spec.scheduling_gates)

    def leads(self, extender: Extender) -> None:
        """Take it that a new kube-scheduler leads, which asks this one about all who wait."""
        self._refused.clear()
        self.goes_on(extender)

    def goes_on(self, extender: Extender) -> None:
        """Take it that kube-scheduler asks this one from now on."""
        self._asked = extender

    def remembered(self, extender: Extender) -> None:
        """See that who was refused, by a process that has ended, too, and waits would be woken.

        Who is held back by gates was never refused.
        """
        for told in extender.witness.pods.values():
            if told.metadata.uid in extender.waiting and self._is_gated(told):
                broken(Law.LEFT_ALONE, told.metadata.name)
        for uid in sorted(self._refused) if extender is self._asked else ():
            name = self._asks[uid].pod.metadata.name
            pod = self._api.get(Pod, name, uid)
            if pod is None or pod.spec.node_name or not may_be_bound(pod):
                self._refused.discard(uid)
            elif uid not in extender.waiting:
                broken(Law.REMEMBERED, name)

    def nobody_waits(self, could: Mapping[Law, Iterable[str]]) -> None:
        """Take the pods that wait at a moment and need not, by the law that says so.

        None may be among them for long.
        """
        present = {(law, uid) for law, uids in could.items() for uid in uids}
        now = self._api.now
        self._could = {one: since for one, since in self._could.items() if one in present}
        for law, uid in sorted(present):
            since = self._could.setdefault((law, uid), now)
            if now - since > _PATIENCE_SECONDS:
                broken(law, f"{self._asks[uid].pod.metadata.name} for {now - since:.0f} s")
