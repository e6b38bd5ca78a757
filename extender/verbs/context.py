"""What every verb needs: the state, the policy, and how fresh the knowledge is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from itertools import count
from threading import Lock
from typing import Generic, TypeVar

import msgspec
from cachetools import LRUCache

from extender.cluster.reservations import HOLD
from extender.cluster.state import ClusterState
from extender.cluster.view import PodFacts
from extender.kube.objects import Pod
from extender.kube.times import unix_time
from extender.placement import narrowing
from extender.placement.policy import Policy
from extender.placement.refusals import Refusals, refusals
from extender.placement.request import PodRequest
from extender.placement.starts import Starts, starts
from extender.placement.tables import Tables
from extender.placement.verdict import Judge

T = TypeVar("T")


class ListRejected(StrEnum):
    """When filter lists the nodes that it refuses, with their reasons.

    kube-scheduler reads the reasons only where no node is left, and takes a node that is left out
    for unschedulable and unresolvable: short answers make it faster. ``always`` is for a chain of
    extenders, where another one may refuse the rest.
    """

    WHEN_NONE_PASS = "whenNonePass"  # noqa: S105 - not a password
    ALWAYS = "always"


class Recent(Generic[T]):
    """Something of each of the pods that were asked about last, by UID; bounded, thread-safe."""

    def __init__(self, size: int = 8192) -> None:
        self._kept: LRUCache[str, T] = LRUCache(size)
        self._lock = Lock()

    def put(self, uid: str, kept: T) -> None:
        """Keep it in place of what was kept of the pod before."""
        with self._lock:
            self._kept[uid] = kept

    def get(self, uid: str) -> T | None:
        """Return what is kept of a pod, if it still is."""
        with self._lock:
            return self._kept.get(uid)

    def drop(self, uid: str) -> None:
        """Keep nothing of a pod any more."""
        with self._lock:
            self._kept.pop(uid, None)


_READ = 16
"""Pods that are kept whole: kube-scheduler asks about one at a time."""

TOO_LATE = "model-cache-extender is overloaded: this answer would come too late"


def not_listed(unsynced: tuple[str, ...]) -> str:
    """Say why nothing is decided before the first lists."""
    return f"model-cache-extender has not listed yet: {', '.join(unsynced)}"


Late = Callable[[], bool]
"""Tells whether an answer would come after the scheduler stopped waiting for it."""


def never() -> bool:
    """Tell that there is time."""
    return False


def _nothing() -> tuple[str, ...]:
    return ()


def _claims() -> Iterator[int]:
    return count(HOLD + 1)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """``unsynced`` names resources not listed yet, ``stale`` those not heard of for too long.

    ``schedulers`` are the names of the schedulers that ask this program, for explanations.

    ``fence`` says why nothing may be bound now, empty where it may; ``term`` tells the time for
    which it does from any other, which may have come between.
    ``hold_seconds``: how long prioritize keeps memory where it expects a pod to be bound, and how
    long preempt expects a nomination.
    ``reservation_seconds``: how long bind does, if the watch never shows the pod there; ``claims``
    numbers the Bindings that it does so for.
    ``recent`` has what was read of pods, ``read`` the last of them as they came, for prioritize,
    which is asked about the pod that filter was. ``refused_nominations`` has the nodes that pods
    are nominated to where filter has just refused them, and which version of the pod that was
    about.
    ``pause`` lets so many seconds pass, or none where nothing is worth waiting for.
    ``offered_percentage`` is how many of the nodes filter offers at most (``narrowing.enough``),
    ``draw`` tells where to begin among equal ones.
    """

    state: ClusterState
    policy: Policy = Policy()
    list_rejected: ListRejected = ListRejected.WHEN_NONE_PASS
    offered_percentage: int = narrowing.ALL
    draw: narrowing.Draw = narrowing.the_first
    schedulers: tuple[str, ...] = ("model-cache-scheduler",)
    unsynced: Callable[[], tuple[str, ...]] = _nothing
    stale: Callable[[], tuple[str, ...]] = _nothing
    hold_seconds: float = 5.0
    reservation_seconds: float = 300.0
    fence: Callable[[], str] = str
    term: Callable[[], str | None] = str
    pause: Callable[[float], None] | None = None
    claims: Iterator[int] = msgspec.field(default_factory=_claims)
    recent: Recent[PodRequest] = msgspec.field(default_factory=Recent)
    read: Recent[tuple[Pod, PodRequest]] = msgspec.field(default_factory=partial(Recent, _READ))
    refused_nominations: Recent[tuple[str, str]] = msgspec.field(default_factory=Recent)
    refusals: Tables[Refusals] = msgspec.field(default_factory=refusals)
    starts: Tables[Starts] = msgspec.field(default_factory=starts)

    def now(self) -> float:
        """Return the state's time: UNIX seconds."""
        return self.state.now()

    def remembered(self, uid: str) -> PodRequest | None:
        """Return what was read of a pod when it was last asked about."""
        return self.recent.get(uid)

    def request(self, pod: Pod) -> PodRequest:
        """Read what a pod asks for; once, where it is the very same that was read lately."""
        uid = pod.metadata.uid
        read = self.read.get(uid)
        if read is not None and read[0] is pod:
            request = read[1]
        else:
            request = self._read(pod)
            self.read.put(uid, (pod, request))
        counted = self.state.pod(uid)
        node = counted.node if counted is not None and counted.counts else ""
        if request.node != node:
            request = msgspec.structs.replace(request, node=node)
        if uid:
            self.recent.put(uid, request)
        return request

    def _read(self, pod: Pod) -> PodRequest:
        metadata = pod.metadata
        workload = self.state.templates.workload(pod)
        return PodRequest(
            uid=metadata.uid,
            namespace=metadata.namespace,
            name=metadata.name or metadata.generate_name,
            workload=workload,
            demand=self.state.demand(pod, workload),
            priority=pod.spec.priority or 0,
            created=unix_time(metadata.creation_timestamp),
        )

    def request_of(self, facts: PodFacts) -> PodRequest:
        """Return what a known pod asks for."""
        return PodRequest(
            uid=facts.uid,
            namespace=facts.namespace,
            name=facts.name,
            workload=facts.workload,
            demand=facts.demand,
            priority=facts.priority,
            created=unix_time(facts.created),
        )

    def judge(self, pod: Pod) -> Judge:
        """Prepare the answers for one pod over the view of this moment."""
        return Judge(self.request(pod), self.state.view(), self.policy, stale=self.stale())
