"""One consistent view of the cluster, as a verb reads it. Nothing in it changes any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from extender.cluster.claims import ClaimFacts, JobFacts, JobState, claim_facts
from extender.cluster.corrections import Corrections
from extender.cluster.holdings import Holding
from extender.cluster.inventory import Answer, Inventory
from extender.cluster.memory import MemoryDemand
from extender.cluster.requests import Amounts
from extender.cluster.reservations import Reservation
from extender.cluster.warmth import Opening, WarmKey
from extender.cluster.zones import NO_ZONES, Zones
from extender.kube.objects import PersistentVolume, PersistentVolumeClaim, StorageClass, Taint
from extender.report import Disk, Progress, Renewal, Transfer, Wanted, WantedModel
from extender.workload.model import DeclaredModel, Workload

Key = tuple[str, str]
"""Namespace and name."""


class Nominated(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A waiting pod that kube-scheduler means for a node; ``bytes`` of memory it would take.

    From the answer of preempt on that leaves it no other (``awaited``).
    """

    uid: str
    priority: int
    bytes: int


class NodeView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of one node. ``allocatable`` and ``promised`` are bytes of memory.

    ``zone`` is the one that its labels name, empty for none.

    ``promised`` adds up the demands of the pods bound to the node that are not finished (those that
    are being deleted still count) and what is ``reserved`` there; ``requested`` is what the pods
    request, as kube-scheduler counts. What is ``nominated`` is not part of it: it counts against
    pods of no higher priority only. ``warm`` is what Ready pods on it have open, ``opening`` what
    those have open that are not Ready yet, ``lately`` what was open on it last, the latest first:
    its page cache may hold that, though the pods are gone. ``images`` maps image names to bytes. A
    cordoned node is not ``schedulable``. ``room`` is what it has beside memory. ``number`` is its
    own for as long as it is known, and when it comes back by its name soon: numbers stay below the
    most nodes that there ever were and those that are remembered (``numbers``).
    """

    name: str
    number: int = 0
    labels: Mapping[str, str] = {}
    zone: str = ""
    allocatable: int = 0
    promised: int = 0
    requested: int = 0
    reserved: tuple[Reservation, ...] = ()
    nominated: tuple[Nominated, ...] = ()
    warm: frozenset[WarmKey] = frozenset()
    opening: tuple[Opening, ...] = ()
    lately: tuple[Opening, ...] = ()
    images: Mapping[str, int] = {}
    schedulable: bool = True
    taints: tuple[Taint, ...] = ()
    room: Amounts = {}

    @property
    def own(self) -> tuple[object, ...]:
        """Return what the node says of itself, without what is on it."""
        return (
            self.labels,
            self.allocatable,
            self.images,
            self.schedulable,
            self.taints,
            self.room,
        )

    @property
    def free(self) -> int:
        """Return what is left of allocatable memory, in bytes; negative where over-committed."""
        return self.allocatable - self.promised

    def free_for(self, uid: str, priority: int) -> int:
        """Return what is left for one pod: its own reservation counts for it, not against it."""
        own = sum(entry.bytes for entry in self.reserved if entry.uid == uid)
        ahead = sum(p.bytes for p in self.nominated if p.uid != uid and p.priority >= priority)
        return self.free + own - ahead

    def unreserved_for(self, uid: str) -> int:
        """Return what is left for one pod if nothing were there but what is reserved for others."""
        return self.allocatable - sum(entry.bytes for entry in self.reserved if entry.uid != uid)


class PodFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of one pod.

    ``nominated`` is the node that kube-scheduler means for it, ``created`` an RFC 3339 time.
    ``evicts``: others may be evicted for it, those of lower priority.
    ``restarted``: a container of it has failed before. ``requests`` are those beside memory,
    ``claims`` those that its volumes name, ``daemon_set`` the one that made it, if one did.
    ``unscheduled`` is what kube-scheduler says of why it has no node, empty where it has not tried
    yet, and ``unscheduled_reason`` the token for that, for people alone.
    ``comes_back``: where it is evicted another one comes to the same node, as of a DaemonSet or of
    the kubelet itself. ``leaving``: it is being deleted, which frees nothing yet;
    ``makes_way_by``: until this time (UNIX seconds), because kube-scheduler evicts it for another
    one, None where it does not. ``gated``: scheduling gates hold it back.
    """

    uid: str
    namespace: str
    name: str
    node: str
    scheduler: str
    priority: int
    evicts: bool
    demand: MemoryDemand
    nominated: str
    created: str
    counts: bool
    ready: bool
    restarted: bool
    comes_back: bool
    leaving: bool
    makes_way_by: float | None
    gated: bool
    workload: Workload
    requests: Amounts = {}
    claims: tuple[str, ...] = ()
    daemon_set: str = ""
    unscheduled: str = ""
    unscheduled_reason: str = ""

    @property
    def has_no_place(self) -> bool:
        """Tell whether it is to have a node and has none; one that is being deleted gets none.

        kube-scheduler tries it no more (pkg/scheduler/schedule_one.go, skipPodSchedule) and the
        apiserver refuses its Binding, as long as a finalizer keeps it.
        """
        return self.counts and not self.node and not self.leaving

    @property
    def may_be_bound(self) -> bool:
        """Tell whether it waits for a node: one that is held back gets none before its gates go.

        kube-scheduler does not try it until then (plugins/schedulinggates), and the apiserver
        refuses its Binding (pkg/registry/core/pod/storage). One that kube-scheduler asks about has
        no gates any more, whatever the watch has told so far.
        """
        return self.has_no_place and not self.gated


class LoaderLease(msgspec.Struct, frozen=True, kw_only=True):
    """What the Lease of one node's loader says, and what it was asked for there.

    ``wanted_since`` is when each wish was first seen as it is, in UNIX seconds by the clock of
    whoever sees it: the one that wrote it may go by another.
    """

    progress: Progress = Progress()
    wanted: Wanted = Wanted()
    wanted_since: Mapping[Renewal, float] = {}


class Changes(msgspec.Struct, frozen=True):
    """The latest changes of nodes, of what is on them or said of them, in the order they came.

    A node that was removed has changed too.

    ``names`` begins with the change number ``first`` and may have grown since this was made, when
    there had been ``count`` of them in all.
    """

    names: list[str]
    first: int
    count: int

    def since(self, count: int) -> set[str] | None:
        """Return what has changed since there were so many; None where that is long ago."""
        if count < self.first:
            return None
        return set(self.names[count - self.first : self.count - self.first])


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster at one moment. ``now`` is UNIX time in seconds.

    ``changes`` tells which nodes have changed since another view. ``own`` has, by a pod's UID, the
    nodes where something is reserved for it or which it is nominated to, or about to be.
    ``gone`` names nodes that were deleted lately.
    ``leases`` has the loaders' Leases by namespace and node.
    """

    now: float
    nodes: Mapping[str, NodeView]
    zones: Zones = NO_ZONES
    gone: frozenset[str] = frozenset()
    changes: Changes
    own: Mapping[str, tuple[str, ...]]
    inventory: Inventory
    claims: Mapping[Key, PersistentVolumeClaim]
    volumes: Mapping[str, PersistentVolume]
    classes: Mapping[str, StorageClass]
    jobs: Mapping[str, JobFacts]
    completed_writes: Mapping[str, frozenset[tuple[str, str, str]]]
    leases: Mapping[Key, LoaderLease] = {}
    corrections: Corrections = Corrections()

    def transfer(self, holding: Holding, node: str) -> Transfer | None:
        """Return the download of a model that is under way on a node, if its loader tells of it."""
        lease = self.leases.get((holding.namespace, node))
        if lease is None or not holding.entry:
            return None
        return next((t for t in lease.progress.transfers if t.path == holding.entry), None)

    def wish(self, holding: Holding, node: str) -> WantedModel | None:
        """Return what a node's loader was asked for, if it is this model."""
        lease = self.leases.get((holding.namespace, node))
        if lease is None or not holding.entry:
            return None
        return next((w for w in lease.wanted.models if w.path == holding.entry), None)

    def disk(self, answer: Answer, node: str) -> Disk | None:
        """Return the cache disk of a node, if a loader that owns what was asked for tells of it."""
        leases = (self.leases.get((namespace, node)) for namespace in answer.namespaces)
        return next((x.progress.disk for x in leases if x and x.progress.disk), None)

    def transfers(self, answer: Answer, node: str) -> Iterator[Transfer]:
        """Yield the downloads on a node of the loaders that own what was asked for."""
        for namespace in answer.namespaces:
            lease = self.leases.get((namespace, node))
            if lease is not None:
                yield from lease.progress.transfers

    def claim(self, namespace: str, name: str) -> ClaimFacts | None:
        """Return a claim joined with its volume and class; None where there is none."""
        claim = self.claims.get((namespace, name))
        return None if claim is None else claim_facts(claim, self.volumes, self.classes)

    def writers(self, namespace: str, claim: str) -> Iterator[tuple[JobFacts, DeclaredModel]]:
        """Yield the Jobs that have not completed yet and what they write into a claim.

        A path that some Job completed once is left out: whatever rewrites it now, it was there.
        """
        completed = self.completed_writes.get(namespace, ())
        for job in self.jobs.values():
            if job.namespace != namespace or job.state is JobState.COMPLETE:
                continue
            for write in job.writes:
                key = (namespace, claim, write.model.path)
                if write.claim == claim and key not in completed:
                    yield job, write.model
