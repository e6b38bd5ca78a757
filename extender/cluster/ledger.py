"""The memory ledger: each node, the pods on it and nominated to it, and what is reserved there.

Not safe to use from threads: the cluster state guards it. Changes are gathered, and a node's view
is rebuilt once when they are settled, however many of its pods they touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain, islice

import msgspec

from extender.cluster.awaited import Awaited, AwaitedNominations
from extender.cluster.memory import MemoryDemand
from extender.cluster.nested import Nested
from extender.cluster.numbers import Numbers
from extender.cluster.overlaid import Kept
from extender.cluster.requests import Amounts
from extender.cluster.reservations import Reservation, Reservations
from extender.cluster.templates import Reading
from extender.cluster.view import Changes, NodeView, Nominated, PodFacts
from extender.cluster.warmth import Opening, WarmKey, openings
from extender.cluster.zones import Zones
from extender.kube.lives import condition_of, is_ready, makes_way_by, statuses
from extender.kube.objects import Condition, Node, Pod

ZONE_LABEL = "topology.kubernetes.io/zone"
FINISHED = frozenset({"Succeeded", "Failed"})
_OF_ONE_NODE = frozenset({"DaemonSet", "Node"})
"""Owners whose pods belong to one node; ``Node`` is that of a kubelet's static pods."""
OPEN_LATELY = 2
"""So many models are remembered of those that were open last on a node. Beyond that its page cache
is a guess: ``bench tune-full`` tries others."""

OVERDUE_SECONDS = 30.0
"""So long after its grace period a pod that makes way may still be there. Its containers are killed
by then, what is left takes its kubelet seconds; a node that is not heard of ends none at all."""

KEPT_CHANGES = 50_000
"""So many changes of nodes are remembered at least: a minute of a very busy cluster."""

_GATED = "SchedulingGated"
"""``PodReasonSchedulingGated`` in k8s.io/api/core/v1/types.go."""

_LONGEST_WORD = 1000
"""Of kube-scheduler's: one line for each reason, however many nodes."""


class Ledger:
    """Nodes by name and pods by UID, with the sums that a node's pods make.

    ``open_lately`` models are remembered of those that were open last on a node.
    """

    def __init__(self, *, open_lately: int = OPEN_LATELY) -> None:
        self._open_lately = open_lately
        self._nodes: Kept[NodeView] = Kept()
        self.nodes: Mapping[str, NodeView] = self._nodes.values
        self.pods: dict[str, PodFacts] = {}
        self._on_node: Nested[PodFacts] = Nested()
        self._nominated: Nested[PodFacts] = Nested()
        self._reservations = Reservations()
        self._awaited = AwaitedNominations()
        self.numbers = Numbers()
        self._zones: Zones | None = None
        self._changed: set[str] = set()
        self._readied: set[str] = set()
        """Nodes of pods that became Ready or stopped to be, and are as they were in all else."""
        self._log: list[str] = []
        self._forgotten = 0

    def settle(self) -> None:
        """Renew the nodes that changed, and note that they have.

        Which of its pods are Ready changes a node only where they open models.
        """
        for name in (self._changed | self._readied) & self.nodes.keys():
            node = self._added_up(self.nodes[name])
            if name in self._changed or node != self.nodes[name]:
                self._nodes.put(name, node)
                self.note(name)
        self._changed.clear()
        self._readied.clear()

    def note(self, name: str) -> None:
        """Note that a node has changed, or what is known of it and not kept here."""
        self._log.append(name)
        if len(self._log) > 2 * KEPT_CHANGES:
            # A new list: views that were made before keep the old one.
            self._forgotten += len(self._log) - KEPT_CHANGES
            self._log = self._log[-KEPT_CHANGES:]

    def changes(self) -> Changes:
        """Return the changes so far."""
        return Changes(self._log, self._forgotten, self._forgotten + len(self._log))

    def zones(self) -> Zones:
        """Return the nodes by zone; made anew where nodes came or went."""
        if self._zones is None:
            self._zones = Zones({name: node.zone for name, node in self.nodes.items()})
        return self._zones

    def picture(self) -> Mapping[str, NodeView]:
        """Return the nodes as they are now, for good."""
        return self._nodes.picture()

    # -- nodes and pods --------------------------------------------------------------------------

    def put_node(self, node: NodeView) -> bool:
        """Keep a node that was added or modified; its sums are made when it is settled.

        False where it is as before, as after the heartbeats of its kubelet.
        """
        before = self.nodes.get(node.name)
        if before is None or before.zone != node.zone:
            self._zones = None
        if before is None:
            number = self.numbers.take(node.name)
            self._nodes.put(node.name, msgspec.structs.replace(node, number=number))
        elif node.own == before.own:
            return False
        else:
            kept = msgspec.structs.replace(node, number=before.number, lately=before.lately)
            self._nodes.put(node.name, kept)
        self._changed.add(node.name)
        return True

    def forget_node(self, name: str, *, deleted: bool) -> None:
        """Forget a node; its pods are still known, for one that comes back.

        One that is there in a form that cannot be read is not ``deleted``, though a list that it
        is no part of may have said so just before.
        """
        node = self._nodes.pop(name)
        if node is not None:
            self._zones = None
            self.numbers.delete(name, node.number)
        thought_gone = not deleted and self.numbers.free(name)
        if node is not None or thought_gone:
            self.note(name)

    def put_pod(self, facts: PodFacts) -> bool:
        """Keep a pod that was added or modified; once on a node it needs no reservation.

        False where no node has to be added up again, as after most lists.
        """
        before = self.pods.get(facts.uid)
        self.pods[facts.uid] = facts
        readied = False
        if before is not None and self.places(facts):
            same = msgspec.structs.replace(
                before,
                unscheduled=facts.unscheduled,
                unscheduled_reason=facts.unscheduled_reason,
                leaving=facts.leaving if facts.node else before.leaving,
                makes_way_by=facts.makes_way_by,
            )
            if facts == same:
                return False
            readied = facts == msgspec.structs.replace(
                same, ready=facts.ready, restarted=facts.restarted
            )
        if before is not None and before.node and before.node != facts.node:
            self._on_node.pop(before.node, facts.uid)
            self._changed.add(before.node)
        self._nominate(before, facts)
        self._changed |= self._awaited.see(facts)
        if facts.node:
            self._on_node.put(facts.node, facts.uid, facts)
            (self._readied if readied else self._changed).add(facts.node)
            self._changed |= self._reservations.drop(facts.uid)
        return True

    def places(self, facts: PodFacts) -> bool:
        """Tell whether a pod is among those of its node, or of the one that it is nominated to."""
        on, nominated = facts.node, facts.nominated if facts.may_be_bound else ""
        return (not on or facts.uid in self._on_node.of(on)) and (
            not nominated or facts.uid in self._nominated.of(nominated)
        )

    def recount(self, name: str) -> bool:
        """Add a node's pods up again when it is settled, if that makes a difference."""
        node = self.nodes.get(name)
        if node is None or self._added_up(node) == node:
            return False
        self._changed.add(name)
        return True

    def forget_pod(self, uid: str) -> None:
        """Forget a pod and what was reserved for it."""
        facts = self.pods.pop(uid, None)
        self._nominate(facts, None)
        self._changed |= self._awaited.drop(uid)
        self._changed |= self._reservations.drop(uid)
        if facts is not None and facts.node:
            self._on_node.pop(facts.node, uid)
            self._changed.add(facts.node)

    def pods_on(self, name: str) -> list[PodFacts]:
        """Return the pods that are on a node."""
        return list(self._on_node.of(name).values())

    def making_way(self, name: str, below: int, now: float) -> list[str]:
        """Return the UIDs of a node's pods that are evicted for one of this priority, or may be.

        Those that should be gone by ``now`` (UNIX seconds) are not expected to go any more.
        """
        pods = (self.pods[uid] for uid in self._on_node.of(name))
        return [
            pod.uid
            for pod in pods
            if pod.makes_way_by is not None
            and now < pod.makes_way_by + OVERDUE_SECONDS
            and pod.priority < below
        ]

    def _nominate(self, before: PodFacts | None, now: PodFacts | None) -> None:
        """Note where an unbound pod is about to go once its victims are gone."""
        for facts in (before, now):
            if facts is not None and facts.nominated:
                self._nominated.pop(facts.nominated, facts.uid)
                self._changed.add(facts.nominated)
        if now is not None and now.nominated and now.may_be_bound:
            self._nominated.put(now.nominated, now.uid, now)

    def await_nomination(
        self, nominated: Nominated, nodes: AbstractSet[str], expires: float
    ) -> None:
        """Await a pod on one of these nodes; where it is one, it counts there (see ``awaited``)."""
        facts = self.pods.get(nominated.uid)
        entry = Awaited(
            nominated=nominated,
            nodes=frozenset(nodes),
            expires=expires,
            before=facts.nominated if facts is not None else "",
        )
        self._changed |= self._awaited.put(entry)

    def stop_awaiting(self, uid: str) -> bool:
        """Await no nomination of a pod; false where none was awaited."""
        changed = self._awaited.drop(uid)
        self._changed |= changed
        return bool(changed)

    def awaits_nomination(self, names: Iterable[str]) -> float | None:
        """Return until when a nomination to one of these nodes is awaited, None where none is."""
        return max(
            (entry.expires for name in names for entry in self._awaited.on(name)), default=None
        )

    def undecided(self, name: str, uid: str, priority: int) -> int:
        """Return the bytes of pods that go before this one and come to this node or to another."""
        others = (one.nominated for one in self._awaited.undecided(name))
        return sum(one.bytes for one in others if one.uid != uid and one.priority >= priority)

    # -- reservations ----------------------------------------------------------------------------

    def reserve(self, entry: Reservation) -> bool:
        """Keep memory for a pod; false where it counts already, by itself or a reservation."""
        facts = self.pods.get(entry.uid)
        if facts is not None and facts.node:
            return False
        changed = self._reservations.put(entry)
        self._kept_changed(entry.uid, changed)
        return bool(changed)

    def release(self, uid: str, node: str, claim: int) -> None:
        """Give back what was kept for a pod on a node for one claim."""
        self._kept_changed(uid, self._reservations.drop(uid, node, claim))

    def let_go(self, uid: str) -> bool:
        """Give back what is held for a pod by a guess; false where nothing is."""
        changed = self._reservations.let_go(uid)
        self._kept_changed(uid, changed)
        return bool(changed)

    def expire(self, now: float, *, blind: Callable[[], bool]) -> bool:
        """Forget what is kept or awaited past its time; true where there was any."""
        expired = self._reservations.expire(now, blind=blind)
        awaited = self._awaited.expire(now)
        for entry in expired:
            self._kept_changed(entry.uid, {entry.node})
        self._changed |= awaited
        return bool(expired or awaited)

    def _kept_changed(self, uid: str, nodes: set[str]) -> None:
        """Note the nodes where what is kept for a pod has changed.

        The node that it is nominated to is another one of them: there it counts as long as nothing
        is kept for it anywhere.
        """
        facts = self.pods.get(uid)
        if nodes and facts is not None and facts.nominated:
            self._changed.add(facts.nominated)
        if nodes:
            self._changed |= self._awaited.where(uid)
        self._changed |= nodes

    def has_reservation(self, uid: str) -> bool:
        """Tell whether bind has reserved memory for a pod anywhere."""
        return self._reservations.reserved(uid)

    def reserved(self) -> int:
        """Return how many pods have memory kept for them."""
        return len(self._reservations)

    def reserved_for(self) -> set[str]:
        """Return the UIDs of the pods that have memory kept for them."""
        return {uid for uid, _ in self._reservations.by_pod()}

    def own(self) -> dict[str, tuple[str, ...]]:
        """Return the nodes where a pod has something kept or is expected, by its UID."""
        table = {uid: set(nodes) for uid, nodes in self._reservations.by_pod()}
        for node, pods in self._nominated.items():
            for uid in pods:
                table.setdefault(uid, set()).add(node)
        for uid, counts_on in self._awaited.nodes():
            table.setdefault(uid, set()).update(counts_on)
        return {uid: tuple(nodes) for uid, nodes in table.items()}

    # -- sums ------------------------------------------------------------------------------------

    def _added_up(self, node: NodeView) -> NodeView:
        """Return a node with what its pods add up to."""
        name = node.name
        promised = requested = 0
        opened: dict[WarmKey, Opening] = {}
        opening: list[Opening] = []
        for pod in self._on_node.of(name).values():
            if not pod.counts:
                continue
            promised += pod.demand.on(node.allocatable)
            requested += pod.demand.request
            opens = openings(pod.uid, pod.workload, pod.namespace)
            if pod.ready:
                opened.update((one.key, one) for one in opens)
            elif not pod.restarted:
                opening.extend(opens)
        reserved = tuple(self._reservations.on(name))
        for entry in reserved:
            opening.extend(entry.opens)
        nominated = {
            p.uid: Nominated(uid=p.uid, priority=p.priority, bytes=p.demand.on(node.allocatable))
            for p in self._nominated.of(name).values()
        } | {entry.nominated.uid: entry.nominated for entry in self._awaited.on(name)}
        return msgspec.structs.replace(
            node,
            promised=promised + sum(entry.bytes for entry in reserved),
            requested=requested,
            reserved=reserved,
            nominated=tuple(one for uid, one in nominated.items() if uid not in self._reservations),
            warm=frozenset(opened),
            opening=tuple(opening),
            lately=_lately(opened, node.lately, self._open_lately),
        )


def _lately(
    opened: Mapping[WarmKey, Opening], before: Iterable[Opening], most: int
) -> tuple[Opening, ...]:
    """Return what is open of a node's disk, then what was. A claim's pages go with its mount."""
    now = (one for key, one in opened.items() if key[0] == "hostPath")
    return tuple(islice(chain(now, (one for one in before if one.key not in opened)), most))


def node_view(node: Node, allocatable: int, room: Amounts) -> NodeView:
    """Return a node without its pods; ``allocatable`` is its memory in bytes."""
    return NodeView(
        name=node.metadata.name,
        labels=node.metadata.labels,
        zone=node.metadata.labels.get(ZONE_LABEL, ""),
        allocatable=allocatable,
        images={name: image.size_bytes for image in node.status.images for name in image.names},
        schedulable=not node.spec.unschedulable,
        taints=node.spec.taints,
        room=room,
    )


def pod_facts(uid: str, pod: Pod, demand: MemoryDemand, reading: Reading) -> PodFacts:
    """Reduce a pod to what is kept of it."""
    owner = pod.metadata.controller()
    said = None if pod.spec.node_name else _said_of_no_node(pod)
    daemons = owner.name if owner is not None and owner.kind == "DaemonSet" else ""
    return PodFacts(
        uid=uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        node=pod.spec.node_name,
        scheduler=pod.spec.scheduler_name,
        priority=pod.spec.priority or 0,
        evicts=pod.spec.preemption_policy != "Never",
        demand=demand,
        nominated=pod.status.nominated_node_name,
        created=pod.metadata.creation_timestamp,
        counts=pod.status.phase not in FINISHED,
        ready=is_ready(pod),
        restarted=any(status.restart_count for status in statuses(pod)),
        comes_back=owner is not None and owner.kind in _OF_ONE_NODE,
        leaving=bool(pod.metadata.deletion_timestamp),
        makes_way_by=makes_way_by(pod),
        gated=bool(pod.spec.scheduling_gates),
        workload=reading.workload,
        requests=reading.requests or {},
        claims=reading.claims,
        daemon_set=sys.intern(daemons),
        unscheduled=_tried(said)[:_LONGEST_WORD] if said else "",
        unscheduled_reason=sys.intern(said.reason) if said else "",
    )


def _said_of_no_node(pod: Pod) -> Condition | None:
    """Return the condition ``PodScheduled`` where a pod has no node: kube-scheduler writes it.

    Of a pod that is made behind scheduling gates the apiserver does, once and for all.
    """
    condition = condition_of(pod, "PodScheduled")
    return condition if condition is not None and condition.status == "False" else None


def _tried(said: Condition) -> str:
    """Say why no node would do when it was last tried; empty where it was not tried yet."""
    return "" if said.reason == _GATED else said.message or said.reason
