"""The laws of preempt: what is kept must help, what would help is kept, and a room is made once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from extender.cluster.ledger import OVERDUE_SECONDS
from extender.cluster.view import NodeView, View
from extender.kube.objects import Pod
from extender.kube.times import unix_time
from extender.wire import FilterResult, Victims
from simulation.apiserver import Apiserver
from simulation.kubelet import is_evicted
from simulation.law import Law, broken
from simulation.laws.clocks import Clocks
from simulation.laws.nominations import Nominations
from simulation.scenario import Ask
from simulation.truth import place, priority

if TYPE_CHECKING:
    from simulation.extender import Extender


class Room(msgspec.Struct, frozen=True):
    """The only node where pods were let be evicted for one, and until when it is expected there.

    ``before`` is where it was told to be nominated to by then.
    """

    node: str
    until: float
    before: str


class Evictions:
    """What was said of evictions, and what is expected of it."""

    def __init__(
        self,
        api: Apiserver,
        asks: Mapping[str, Ask],
        *,
        clocks: Clocks,
        nominations: Nominations,
    ) -> None:
        self._api = api
        self._asks = asks
        self._clocks = clocks
        self._nominations = nominations
        self._rooms: dict[tuple[Extender, str], Room] = {}
        """What was made room for last, by whom that was told and the pod's UID."""
        self._refused: dict[Extender, Pod] = {}
        """The pod that was last refused where it is nominated, as it was then, by whom."""

    def filtered(
        self, extender: Extender, pod: Pod, names: Sequence[str], result: FilterResult
    ) -> None:
        """Take an answer of filter."""
        nominated = pod.status.nominated_node_name
        if nominated and nominated in names and nominated not in result.names:
            self._refused[extender] = pod

    def expected(self, extender: Extender) -> dict[str, Room]:
        """Return for whom room was made that the extender was told nothing else of since.

        What was told once is over for good: a nomination that is cleared again is no news.
        """
        now, witness = self._api.now, extender.witness
        self._rooms = {key: room for key, room in self._rooms.items() if room.until > now}
        standing = {}
        for (told_by, uid), room in list(self._rooms.items()):
            if told_by is not extender:
                continue
            pod = witness.pods.get(uid)
            nominated = pod.status.nominated_node_name if pod is not None else room.before
            over = pod is not None and (place(pod) or pod.metadata.deletion_timestamp)
            if nominated != room.before or over:
                del self._rooms[told_by, uid]
            else:
                standing[uid] = room
        return standing

    def answered(
        self,
        extender: Extender,
        pod: Pod,
        candidates: Mapping[str, Victims],
        kept: Mapping[str, Victims],
        *,
        decided: bool,
    ) -> None:
        """Look at an answer of preempt, as far as could be known of what was told.

        Where nothing was decided, in time that is, none has to be kept.
        """
        if kept and self._asks[pod.metadata.uid].needs_certainty and extender.stale():
            broken(Law.OLD_KNOWLEDGE_EVICTS_NOBODY, f"{pod.metadata.name} on {sorted(kept)}")
        self._nominations.meant(extender, pod, kept)
        view, made_way = extender.state.view(), False
        for name, victims in kept.items():
            if victims != candidates.get(name):
                broken(Law.VICTIMS, f"{name}: {victims.uids}")
        if not extender.stale():
            nominated = view.nodes.get(pod.status.nominated_node_name)
            made_way = nominated is not None and self._makes_way(extender, nominated, pod)
            for name, victims in candidates.items():
                node = view.nodes.get(name)
                if node is None:
                    continue
                if name in kept:
                    self._see_that_it_helps(extender, node, pod, victims)
                elif decided and not made_way and self._would_help(extender, node, pod, victims):
                    broken(Law.HELP_IS_KEPT, f"{victims.uids} on {name} for {pod.metadata.name}")
            if kept and nominated is not None:
                self._see_that_nobody_leaves(extender, nominated, pod)
        if decided:
            self._expect(extender, pod, kept, made_way=made_way)

    def _see_that_nobody_leaves(self, extender: Extender, node: NodeView, pod: Pod) -> None:
        """See that others are not on their way out where a pod is nominated, and make it room.

        kube-scheduler asks about more evictions only where filter has refused that node just now.
        """
        if self._refused.get(extender) is not pod:
            return
        now = self._api.now + extender.skew
        leave = [
            other.metadata.uid
            for other in self._evicted(extender, node, pod)
            if now < (unix_time(other.metadata.deletion_timestamp) or 0.0) + OVERDUE_SECONDS
        ]
        if self._would_help(extender, node, pod, Victims(uids=tuple(leave), pdb_violations=0)):
            broken(Law.NOBODY_ELSE_EVICTED, f"{leave} leave {node.name} for {pod.metadata.name}")

    def _see_that_it_helps(
        self, extender: Extender, node: NodeView, pod: Pod, victims: Victims
    ) -> None:
        ask, view = self._asks[pod.metadata.uid], extender.state.view()
        what = f"{victims.uids} on {node.name} for {pod.metadata.name}"
        taken = ask.demand + self._others(extender, node, pod, victims)
        for uid, room in self.expected(extender).items():
            other = extender.witness.pods.get(uid)
            ahead = other is not None and priority(other) >= priority(pod)
            counted = is_kept_somewhere(view, uid, besides="")
            if room.node == node.name and ahead and not counted and uid != pod.metadata.uid:
                taken += self._asks[uid].demand
        if ask.demand and taken > node.allocatable:
            broken(Law.EVICTIONS_HELP, what)
        if ask.needs_model and extender.witness.vouched(node.name) > self._clocks.grace[1]:
            broken(Law.EVICTIONS_HELP, f"{what}: there is no model")

    def _would_help(self, extender: Extender, node: NodeView, pod: Pod, victims: Victims) -> bool:
        """Tell whether the pod could run for sure once its victims are gone."""
        ask = self._asks[pod.metadata.uid]
        if not self.has_room(extender, node, pod, victims):
            return False
        witness, believed = extender.witness, self._clocks.silence[0]
        vouched = not witness.vouched(node.name) and witness.silent(node.name) < believed
        return vouched or not ask.needs_model

    def _makes_way(self, extender: Extender, node: NodeView, pod: Pod) -> bool:
        """Tell whether a node has the memory once those are gone that were evicted for the pod."""
        evicted = (other.metadata.uid for other in self._evicted(extender, node, pod))
        return self.has_room(extender, node, pod, Victims(uids=tuple(evicted), pdb_violations=0))

    def _evicted(self, extender: Extender, node: NodeView, pod: Pod) -> Iterator[Pod]:
        return (
            other
            for other in extender.witness.on(node.name)
            if is_evicted(other) and priority(other) < priority(pod)
        )

    def has_room(self, extender: Extender, node: NodeView, pod: Pod, victims: Victims) -> bool:
        """Tell whether a node has the memory for a pod once its victims are gone."""
        demand, own = self._asks[pod.metadata.uid].demand, pod.metadata.uid
        ahead = sum(
            one.bytes for one in node.nominated if one.uid != own and one.priority >= priority(pod)
        )
        taken = demand + ahead + self._others(extender, node, pod, victims)
        return not demand or taken <= node.allocatable

    def _others(self, extender: Extender, node: NodeView, pod: Pod, victims: Victims) -> int:
        """Return the bytes that a node's pods have, there or on their way, but for the victims."""
        gone = {*victims.uids, pod.metadata.uid}
        on_way = sum(entry.bytes for entry in node.reserved if entry.uid not in gone)
        return on_way + sum(
            self._asks[other.metadata.uid].demand_of(other)
            for other in extender.witness.on(node.name)
            if other.metadata.uid in self._asks and other.metadata.uid not in gone
        )

    def _expect(
        self, extender: Extender, pod: Pod, kept: Mapping[str, Victims], *, made_way: bool
    ) -> None:
        """Expect a pod where room is made for it: as before where others make way there already."""
        before = self._rooms.get((extender, pod.metadata.uid))
        if made_way and before is not None and before.node == pod.status.nominated_node_name:
            return
        self._rooms.pop((extender, pod.metadata.uid), None)
        if len(kept) == 1:
            told = extender.witness.pods.get(pod.metadata.uid)
            self._rooms[extender, pod.metadata.uid] = Room(
                node=next(iter(kept)),
                until=self._api.now + extender.context.hold_seconds,
                before="" if told is None else told.status.nominated_node_name,
            )


def is_kept_somewhere(view: View, uid: str, *, besides: str) -> bool:
    """Tell whether memory is kept for a pod on any node, known or not."""
    for name in view.own.get(uid, ()):
        node = view.nodes.get(name)
        if node is None and name != besides:
            return True
        if node is not None and any(entry.uid == uid for entry in node.reserved):
            return True
    return False
