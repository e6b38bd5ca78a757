"""The waiting pods: refused everywhere by filter, not bound since.

Bounded, safe to use from threads. A pod is forgotten once the watch shows it bound or gone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from math import inf
from threading import Lock

import msgspec
from cachetools import LRUCache

from extender.cluster.state import ClusterState
from extender.cluster.view import NodeView, PodFacts
from extender.kube.times import unix_time
from extender.placement.evictions import NoEviction
from extender.placement.request import PodRequest
from extender.waiting.apart import Apart
from extender.waiting.asked import AskedNodes, asked_nodes
from extender.waiting.evictions import RefusedEvictions, refused_evictions
from extender.waiting.lost import LostNominations
from extender.waiting.shares import Shares

MAX_WAITING = 20_000
ROOM_AGAIN = 0.9
"""Those that were forgotten are taken in again once no more than this share of the room is used."""

_KEPT_NODE_SETS = 1024

UNSEEN_SECONDS = 300.0
"""A refused pod that a fresh watch does not show after so long was deleted: longer than a watch can
be behind (a half-open socket) without counting as stale."""


class WaitingPod(msgspec.Struct, frozen=True, kw_only=True):
    """One refused pod.

    ``refused`` counts nodes by reason; ``examples`` has a detail for each. ``asked`` has the nodes
    that filter refused, None where they are not known (after a restart): then every node counts,
    and it is woken once. It waits ``since`` the first refusal, and was last woken ``touched_at``,
    both in UNIX seconds; ``refused_steady`` and ``touched_steady`` are the last refusal and the
    last waking by the clock that nobody sets. ``created`` is RFC 3339, as in the pod.
    ``touches`` counts the times that it was woken since the last refusal: none, where only
    ``touched_at`` is set, which is when it could not be told; ``opened``: a node has come to have a
    place for it since, which had none; ``misses`` counts the times that the
    apiserver would not take it. ``again_at`` is when it is woken in any case, by the clock that
    nobody sets: what was in the way of an eviction for it is decided by then, or not known.
    ``once_fresh``: it is woken, too, when knowledge is fresh.
    ``right_node`` is the only node that has a place for it when it is woken, empty where there are
    several.
    ``seen``: the watch has shown it.
    """

    request: PodRequest
    asked: AskedNodes | None
    refused: Mapping[str, int]
    examples: Mapping[str, str] = {}
    created: str
    since: float
    refused_steady: float
    touched_at: float | None = None
    touched_steady: float | None = None
    touches: int = 0
    opened: bool = False
    misses: int = 0
    again_at: float | None = None
    once_fresh: bool = False
    right_node: str = ""
    seen: bool = False

    @property
    def order(self) -> tuple[bool, int, str, str]:
        """Return what sorts the pods to wake: the highest priority first, then the oldest.

        Those that could not be told come last: each may take seconds again.
        """
        return self.misses > 0, -self.request.priority, self.created, self.request.uid


class WaitingPods:
    """The set. ``size`` bounds it: the namespace with the most pods loses one of its own first.

    That is the one that was refused or woken longest ago.
    """

    def __init__(self, size: int = MAX_WAITING) -> None:
        self._size = size
        self._pods: Shares[WaitingPod] = Shares(size)
        self._node_sets: LRUCache[AskedNodes, AskedNodes] = LRUCache(_KEPT_NODE_SETS)
        self._evictions = refused_evictions()
        self.lost = LostNominations()
        self.apart = Apart()
        """Judges each of them apart, for whoever looks at all of them."""
        self._lock = Lock()
        self.refusals = 0
        """How many pods were added so far, again and again the same ones: what has changed."""
        self.forgotten = 0
        """How many pods were forgotten so far, for want of room, while they waited."""
        self.crowded = ""
        """The namespace that lost the last of them; empty once they are to be taken in again."""

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, uid: str) -> bool:
        return uid in self._pods

    def add(self, pod: WaitingPod) -> None:
        """Keep a pod that was refused (again); it waits since the first time."""
        with self._lock:
            self.refusals += 1
            before = self._pods.get(pod.request.uid)
            self._evictions.pop(pod.request.uid, None)
            self._put(
                msgspec.structs.replace(
                    pod,
                    since=before.since if before is not None else pod.since,
                    asked=None if pod.asked is None else self._shared(pod.asked),
                    seen=before is not None and before.seen,
                )
            )

    def _put(self, pod: WaitingPod) -> None:
        """Keep a pod as it waits now. Whoever calls has the lock."""
        left = self._pods.put(pod.request.namespace, pod.request.uid, pod)
        if left is not None:
            self.forgotten += 1
            self.crowded, uid = left
            self._evictions.pop(uid, None)

    def has_room_again(self) -> bool:
        """Tell whether those that were forgotten are to be taken in again (``recover``)."""
        return bool(self.crowded) and len(self) <= ROOM_AGAIN * self._size

    def _shared(self, asked: AskedNodes) -> AskedNodes:
        """Return the one object for a set: pods of a workload are often asked about on the same."""
        return self._node_sets.setdefault(asked, asked)

    def _change(self, uid: str, change: Callable[[WaitingPod], WaitingPod]) -> None:
        """Change a pod, if it waits."""
        with self._lock:
            pod = self._pods.get(uid)
            if pod is not None:
                self._put(change(pod))

    def get(self, uid: str) -> WaitingPod | None:
        """Return a pod as it waits now."""
        with self._lock:
            return self._pods.get(uid)

    def evictions(self, uid: str) -> RefusedEvictions | None:
        """Return the evictions that were not worth it for a pod when it was refused last."""
        with self._lock:
            return self._evictions.get(uid)

    def refuse(
        self,
        request: PodRequest,
        *,
        asked: Iterable[str],
        nodes: Mapping[str, NodeView],
        refused: Mapping[str, int],
        examples: Mapping[str, str],
        created: str,
        now: float,
        steady: float,
    ) -> None:
        """Keep a pod that filter has just refused on all nodes that it was asked about.

        ``nodes`` are those that are known.
        """
        self.add(
            WaitingPod(
                request=request,
                asked=asked_nodes(asked, nodes),
                refused=refused,
                examples=examples,
                created=created,
                since=now,
                refused_steady=steady,
            )
        )

    def refuse_preemption(self, none: NoEviction, *, nodes: Mapping[str, NodeView]) -> None:
        """Note that no eviction was worth it for a pod that filter has refused: it waits for these.

        Where filter was not asked, because no node at all passed in-tree, kube-scheduler heeds its
        own plugins' events alone (pkg/scheduler/backend/queue, isPodWorthRequeuing): nothing that
        may be written to such a pod has it tried again, so it is not kept.
        """
        uid = none.request.uid
        if none.lost:
            self.lost.put(none.request, none.lost, in_doubt=none.in_doubt)
        if uid not in self:
            return
        also, refused = asked_nodes(none.victims, nodes), RefusedEvictions(none.victims)

        def joined(pod: WaitingPod) -> WaitingPod:
            if refused.size <= self._evictions.maxsize:
                self._evictions[uid] = refused
            both = None if pod.asked is None else self._shared(pod.asked.and_these(also))
            return msgspec.structs.replace(
                pod, asked=both, again_at=none.again_at, once_fresh=none.once_fresh
            )

        self._change(uid, joined)

    def recover(
        self,
        state: ClusterState,
        schedulers: Container[str],
        request_of: Callable[[PodFacts], PodRequest],
    ) -> None:
        """After a restart, take every pod that waits for these schedulers for a refused one.

        It waits since it was made: who refused it first, and when, is forgotten. So is whom it
        could have evicted: one that goes before any pod of a node, and may evict, is woken to ask
        anew. The same goes for those that were forgotten for want of room.
        """
        self.crowded = ""
        now, steady, pods = state.now(), state.steady(), state.pods()
        least = min((facts.priority for facts in pods if facts.node and facts.counts), default=inf)
        for facts in pods:
            waits = facts.may_be_bound and facts.scheduler in schedulers
            if not waits or facts.uid in self:
                continue
            request = self.apart.judge(facts, partial(request_of, facts), None)
            may_evict = facts.evicts and facts.priority > least
            if request is not None:
                self.add(
                    WaitingPod(
                        request=request,
                        asked=None,
                        refused={},
                        created=facts.created,
                        since=unix_time(facts.created) or now,
                        refused_steady=steady,
                        again_at=steady if may_evict else None,
                    )
                )

    def renew(self) -> None:
        """Take every pod for one that was refused nobody knows when, as after a restart.

        Another one may have led meanwhile, whose kube-scheduler asked about other nodes.
        """
        with self._lock:
            for pod in list(self._pods.values()):
                self._put(
                    msgspec.structs.replace(
                        pod, asked=None, touched_at=None, touched_steady=None, touches=0, misses=0
                    )
                )

    def touched(self, uid: str, state: ClusterState) -> None:
        """Note that a pod was woken just now."""
        now, steady = state.now(), state.steady()
        self._change(
            uid,
            lambda pod: msgspec.structs.replace(
                pod, touched_at=now, touched_steady=steady, touches=pod.touches + 1, opened=False
            ),
        )

    def opened(self, pod: WaitingPod) -> WaitingPod:
        """Note that a node has come to have a place for a pod that was woken before; return it."""
        self._change(pod.request.uid, lambda one: msgspec.structs.replace(one, opened=True))
        return msgspec.structs.replace(pod, opened=True)

    def missed(self, uid: str, state: ClusterState, *, reached: bool) -> None:
        """Note that a pod could not be told: it is woken again after the shortest wait.

        ``reached``: the apiserver is there and would not take it. Then it waits longer each time.
        """
        now, steady = state.now(), state.steady()
        self._change(
            uid,
            lambda pod: msgspec.structs.replace(
                pod,
                touched_at=now,
                touched_steady=steady,
                touches=0,
                misses=pod.misses + 1 if reached else pod.misses,
            ),
        )

    def retried_by(self, uid: str) -> str | None:
        """Return who has a pod tried again, ``woken`` or ``scheduler``; None for one not refused.

        kube-scheduler tries refused pods by itself too, at every event that might help them.
        """
        pod = self.get(uid)
        if pod is None:
            return None
        return "woken" if pod.touches else "scheduler"

    def drop(self, uid: str) -> None:
        """Forget a pod, which goes somewhere or is gone: a nomination leads nowhere no more."""
        self.lost.drop_of(uid)
        with self._lock:
            self._pods.pop(uid)
            self._evictions.pop(uid, None)

    def clear(self) -> None:
        """Forget all pods."""
        self.lost.clear()
        with self._lock:
            self._pods.clear()
            self._evictions.clear()

    def present(self, state: ClusterState, *, blind: bool = False) -> list[WaitingPod]:
        """Return the pods that still wait, in the order in which they are woken (see ``prune``)."""
        self.prune(state, blind=blind)
        return self.all()

    def prune(self, state: ClusterState, *, blind: bool = False) -> None:
        """Forget the pods that are bound, finished, being deleted or gone.

        One that the watch has not shown yet may well be there, while the watch is ``blind`` above
        all; one that it has shown before is gone.
        """
        steady = state.steady()
        with self._lock:
            pods = list(self._pods.values())
        for pod in pods:
            uid = pod.request.uid
            facts = state.pod(uid)
            if facts is not None:
                over = not facts.has_no_place
            else:
                over = pod.seen or (not blind and steady - pod.refused_steady > UNSEEN_SECONDS)
            if over:
                self.drop(uid)
            elif facts is not None and not pod.seen:
                self._change(uid, lambda one: msgspec.structs.replace(one, seen=True))

    def all(self) -> list[WaitingPod]:
        """Return the pods in the order in which they are woken."""
        with self._lock:
            return sorted(self._pods.values(), key=lambda pod: pod.order)
