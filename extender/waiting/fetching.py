"""Fetching on demand: which node's loader is asked for what a waiting pod needs.

A pod that no node takes because its model is absent, though catalogs allow it, would wait for ever.
So loaders are asked to fetch it, on the nodes that could run the pod in every other way, soonest
first by the same estimate that places pods. What was asked for stays asked for until the pod is
placed or gone, and is read back from the Leases: no choice is kept here.

Bounded: so many models at once on a node and in the cluster, and for each model only as many nodes
as its waiting pods need, by the memory and the GPUs that are free there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial

import msgspec

from extender.cluster.holdings import Holding, ModelState
from extender.cluster.state import ClusterState
from extender.cluster.view import Key, View
from extender.kube.times import time_text, unix_time
from extender.placement.estimate import model_bytes
from extender.placement.patience import impatient
from extender.placement.policy import Policy
from extender.placement.progress import bytes_left
from extender.placement.request import PodRequest
from extender.placement.tables import Kind, kind_of
from extender.placement.verdict import Judge
from extender.report import WISH_SECONDS, WantedModel
from extender.waiting.apart import Apart
from extender.waiting.asked import AskedNodes
from extender.waiting.pods import WaitingPod
from extender.waiting.shares import in_turn
from extender.waiting.slots import slots, slots_beside_memory
from extender.workload.model import ModelReference, Need

RENEW_SECONDS = 60.0
"""A wish that has less left is renewed."""

UNASKED_SECONDS = 60.0
"""kube-scheduler is made to ask about a pod again so long after that came to nothing."""

Wishes = dict[Key, tuple[WantedModel, ...]]
"""What loaders are asked for, by their namespace and node."""

_UNDER_WAY = frozenset({ModelState.ABSENT, ModelState.LOADING})


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much is fetched at once: models on a node and in the cluster, and nodes for one model.

    The first two are for the loaders of one namespace: those of a tenant, who may offer models that
    nobody ever fetches, take nothing from others. Beyond ``in_cluster``, one pod of each namespace
    is fetched for where nothing is for others of them. ``reserve`` is the share of a cache's disk
    that a model leaves free.
    """

    per_node: int = 2
    in_cluster: int = 20
    copies: int = 3
    reserve: float = 0.05


class _Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One node where a pod could run once its missing models are there."""

    node: str
    missing: tuple[Holding, ...]
    crowded: bool
    seconds: float

    @property
    def order(self) -> tuple[bool, float, str]:
        """Sort those with room on the disk first: elsewhere the loader has to make it."""
        return self.crowded, self.seconds, self.node


class Wishing:
    """Works out what should be asked for now, over one view of a state."""

    def __init__(
        self,
        state: ClusterState,
        view: View,
        policy: Policy,
        bounds: Bounds,
        *,
        asked: Iterable[Key],
        apart: Apart,
    ) -> None:
        """Begin with what is asked for already, of the loaders in ``asked``.

        A wish for a pod that is on no node yet is kept, if only until it runs out, where it is not
        known yet what the pod waits for. No other pod is asked for, one that was deleted before the
        watch showed it among them.
        """
        self._state = state
        self._view = view
        self._pending = {f"{p.namespace}/{p.name}" for p in state.pods() if p.has_no_place}
        self._apart = apart
        self._policy = policy
        self._bounds = bounds
        self.unasked: list[WaitingPod] = []
        self._wishes: dict[tuple[Key, str], WantedModel] = {}
        self._old: dict[tuple[Key, str], WantedModel] = {}
        for key in asked:
            lease = view.leases[key]
            for model in lease.wanted.models:
                seen = lease.wanted_since.get(model.renewal, view.now)
                if model.pod in self._pending and view.now - seen < WISH_SECONDS:
                    self._old[key, model.path] = model
        self._of_loader = Counter(key for key, _ in self._old)
        self._of_namespace = Counter(namespace for (namespace, _), _ in self._old)
        self._served = {model.pod.partition("/")[0] for model in self._old.values()}

    def wishes(self, waiting: Iterable[WaitingPod]) -> Wishes:
        """Return what every loader should be asked for; those asked for nothing are left out.

        Where nobody has asked about a kind of pods since this program started, it is not known
        which nodes could run them: one of each kind is then among the ``unasked``.
        """
        judged: set[str] = set()
        for request, asked, pods in self._groups(waiting):
            wish = partial(self._wish_for, request, asked, pods)
            judged |= self._apart.judge(request, wish, frozenset[str]())
        for place, model in self._old.items():
            if model.pod not in judged:
                self._wishes.setdefault(place, model)
        found: dict[Key, list[WantedModel]] = {}
        for (key, _), model in sorted(self._wishes.items()):
            found.setdefault(key, []).append(model)
        return {key: tuple(models) for key, models in found.items()}

    def _groups(
        self, waiting: Iterable[WaitingPod]
    ) -> Iterator[tuple[PodRequest, AskedNodes | None, list[WaitingPod]]]:
        """Yield pods that ask for the same together, of all namespaces in turn."""
        table: dict[tuple[Kind, int], list[WaitingPod]] = {}
        for pod in waiting:
            if f"{pod.request.namespace}/{pod.request.name}" not in self._pending:
                continue
            hurried = impatient(pod.request, self._policy, self._view.now)
            key = kind_of(pod.request, impatient=hurried), id(pod.asked)
            table.setdefault(key, []).append(pod)
        for pods in in_turn(table.values(), lambda pods: pods[0].request.namespace):
            yield pods[0].request, pods[0].asked, pods

    def _wish_for(
        self, request: PodRequest, asked: AskedNodes | None, pods: list[WaitingPod]
    ) -> frozenset[str]:
        """Return the names of pods that ask for the same, where what they need is decided."""
        if asked is None:  # what is asked for stands until it is asked about
            if self._may_be_fetched(request) and not self._asked_lately(pods):
                self.unasked.append(pods[0])
            return frozenset()
        self._wish(request, tuple(asked.among(self._view.nodes)), pods)
        return frozenset(f"{pod.request.namespace}/{pod.request.name}" for pod in pods)

    def _may_be_fetched(self, request: PodRequest) -> bool:
        return bool(self._fetched_for(Judge(request, self._view, self._policy)))

    def _asked_lately(self, pods: list[WaitingPod]) -> bool:
        """Tell whether kube-scheduler was just made to ask about one of them."""
        touched = (pod.touched_at for pod in pods if pod.touched_at is not None)
        since = self._view.now - max(touched, default=float("-inf"))
        return abs(since) < UNASKED_SECONDS  # clocks are set back

    def _fetched_for(self, judge: Judge) -> list[ModelReference]:
        """Return what a pod requires and some loader fetches, or is asked for."""
        return [
            reference
            for reference, answer in judge.answers.items()
            if reference.need is Need.REQUIRED
            and any(
                held.on_demand or self._place(held, name) in self._old
                for name, held in answer.nodes.items()
            )
        ]

    def _wish(self, request: PodRequest, asked: tuple[str, ...], pods: list[WaitingPod]) -> None:
        judge = Judge(request, self._view, self._policy)
        references = self._fetched_for(judge)
        if not references or any(judge.reason(name) is None for name in asked):
            return  # nobody can be asked, or a node takes it and it is being woken
        candidates = sorted(self._candidates(judge, references, asked), key=lambda one: one.order)
        begun = [one for one in candidates if self._is_begun(one)]
        room, copies = 0, 0
        for one in (*begun, *(c for c in candidates if c not in begun)):
            if room >= len(pods) or copies >= self._bounds.copies:
                return
            if self._ask(one, pods[min(room, len(pods) - 1)]):
                room += self._slots(request, one.node)
                copies += 1

    def _slots(self, request: PodRequest, name: str) -> int:
        """Return how many such pods a node has room for, by all that they request."""
        pod, node = self._state.pod(request.uid), self._view.nodes[name]
        wanted = pod.requests if pod is not None else {}
        beside = slots_beside_memory(wanted, node, self._state.pods_on(name))
        return min(slots(request, self._view, name), beside)

    def _candidates(
        self, judge: Judge, references: list[ModelReference], asked: Iterable[str]
    ) -> Iterator[_Candidate]:
        """Yield the nodes that nothing but absent models keeps from taking the pod."""
        without = Judge(_preferring(judge.request, references), self._view, self._policy)
        for name in asked:
            node = self._view.nodes.get(name)
            if node is None or not node.schedulable or without.reason(name) is not None:
                continue
            held = {reference: judge.holding(reference, name) for reference in references}
            missing = {r: h for r, h in held.items() if h and h.state in _UNDER_WAY}
            now = self._view.now
            if not missing or not all(_may_come(one, now) for one in held.values()):
                continue
            crowded = self._crowded(missing, name)
            if crowded is not None:
                yield _Candidate(
                    node=name,
                    missing=tuple(missing.values()),
                    crowded=crowded,
                    seconds=without.start(node).seconds,
                )

    def _crowded(self, missing: Mapping[ModelReference, Holding], node: str) -> bool | None:
        """Tell whether room would have to be made; None where nobody can be asked, or for nothing.

        A disk that its loader does not tell of may have room.
        """
        leases = [self._view.leases.get((held.namespace, node)) for held in missing.values()]
        lease = leases[0]
        if lease is None or None in leases:
            return None
        disk = lease.progress.disk
        if disk is None:
            return True
        wanted = sum(
            model_bytes(reference, holding.bytes, self._policy)
            for reference, holding in missing.items()
            if holding.state is ModelState.ABSENT
        )
        reserve = int(disk.total_bytes * self._bounds.reserve)
        if wanted + reserve > disk.total_bytes:
            return None
        coming = sum(bytes_left(transfer) for transfer in lease.progress.transfers)
        return wanted + coming + reserve > disk.free_bytes

    def _is_begun(self, one: _Candidate) -> bool:
        return all(
            holding.state is ModelState.LOADING or self._is_known(self._place(holding, one.node))
            for holding in one.missing
        )

    def _is_known(self, place: tuple[Key, str]) -> bool:
        return place in self._wishes or place in self._old

    def _place(self, holding: Holding, node: str) -> tuple[Key, str]:
        return (holding.namespace, node), holding.entry

    def _ask(self, one: _Candidate, pod: WaitingPod) -> bool:
        """Ask for all that is missing on a node, unless that is too much at once."""
        places = [self._place(holding, one.node) for holding in one.missing]
        places = [
            place
            for place, holding in zip(places, one.missing, strict=True)
            if holding.on_demand or self._is_known(place)
        ]
        new = {place for place in places if not self._is_known(place)}
        namespace = pod.request.namespace
        if not self._bears(new, served=namespace in self._served):
            return False
        self._served.add(namespace)
        self._of_loader.update(key for key, _ in new)
        self._of_namespace.update(namespace for (namespace, _), _ in new)
        for place in places:
            self._wishes.setdefault(place, self._model(place, pod))
        return True

    def _bears(self, new: Collection[tuple[Key, str]], *, served: bool) -> bool:
        """Tell whether loaders may be asked for these models beside those that they know of.

        Pods of a namespace for which nothing is fetched yet do not wait for those of others.
        """
        of_loader = Counter(key for key, _ in new)
        of_namespace = Counter(namespace for (namespace, _), _ in new)
        return all(
            self._of_loader[key] + more <= self._bounds.per_node for key, more in of_loader.items()
        ) and all(
            not served or self._of_namespace[namespace] + more <= self._bounds.in_cluster
            for namespace, more in of_namespace.items()
        )

    def _model(self, place: tuple[Key, str], pod: WaitingPod) -> WantedModel:
        """Return the wish as it is, as long as it is for a pod that waits and has time left."""
        name = f"{pod.request.namespace}/{pod.request.name}"
        now, old = self._view.now, self._old.get(place)
        if old is not None and old.pod == name and self._lasts(place[0], old) > RENEW_SECONDS:
            return old
        return WantedModel(
            path=place[1],
            until=time_text(now + WISH_SECONDS),
            pod=name,
            asked_at=old.asked_at if old is not None else time_text(now),
        )

    def _lasts(self, key: Key, wish: WantedModel) -> float:
        """Return for how many seconds more a wish is not forgotten, at least.

        It may have been there before this program's first look: then its own words count, unless
        they promise more than any wish lasts, as those of a clock that is ahead do.
        """
        seen = self._view.leases[key].wanted_since.get(wish.renewal, self._view.now)
        return min(seen + WISH_SECONDS, unix_time(wish.until) or 0.0) - self._view.now


def _may_come(holding: Holding | None, now: float) -> bool:
    """Tell whether a model is on a node, or would be fetched there when it is asked for."""
    if holding is None or holding.leaves_soon(now):
        return False
    if holding.state is ModelState.ABSENT:
        return holding.on_demand
    return holding.state is not ModelState.FAILED


def _preferring(request: PodRequest, references: Collection[ModelReference]) -> PodRequest:
    """Return a request as if these models did not have to be there."""
    changed = tuple(
        msgspec.structs.replace(reference, need=Need.PREFERRED)
        if reference in references
        else reference
        for reference in request.workload.references
    )
    workload = msgspec.structs.replace(request.workload, references=changed)
    return msgspec.structs.replace(request, workload=workload)
