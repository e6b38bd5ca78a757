"""What must be true at every step, by what the models know, not by what the core believes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from extender.cluster.decisions import DECISION_ANNOTATION
from extender.cluster.holdings import ModelState
from extender.cluster.ledger import FINISHED
from extender.cluster.view import View
from extender.kube.objects import KubeObject, Node, Pod
from extender.kube.quantity import parse_quantity
from extender.verbs.bind import BindOutcome, Bound
from extender.verbs.doubt import Doubt
from extender.wire import BindArgs, FilterResult, Victims
from simulation.apiserver import Apiserver
from simulation.law import BrokenLawError, Law
from simulation.loaders import LEASE_SECONDS
from simulation.scenario import Ask, Scenario

if TYPE_CHECKING:
    from simulation.extender import Extender

GIB = 2**30
CLOCK_SLACK_SECONDS = 450.0
"""By how much clocks are set back, all together, and by how much forward."""

_THERE = (ModelState.READY, ModelState.STALE)

PATIENCE_SECONDS = 10.0
"""A pod that could run is bound after so long, once nothing is wrong any more."""


class Room(msgspec.Struct, frozen=True):
    """The only node where pods were let be evicted for one, and until when it is expected there.

    ``before`` is where it was told to be nominated to by then.
    """

    node: str
    until: float
    before: str


class Laws:
    """The laws of one world. Each broken one raises BrokenLawError."""

    def __init__(self, scenario: Scenario, api: Apiserver) -> None:
        self.asks: dict[str, Ask] = {}
        self._reported = scenario.reported
        self._loaders_in = scenario.loaders[0].metadata.namespace
        self._grace = scenario.policy.stale_grace
        self.set_back = self.set_forward = 0.0
        """By how many seconds clocks were set, all together. What is timed by them may take so much
        longer or end so much sooner; nothing else may."""
        self._api = api
        self._effects: set[tuple[str, str]] = set()
        self._could_run: dict[str, float] = {}
        self._followed: list[Extender] = []
        self._agreed: dict[Extender, dict[object, list[Any]]] = {}
        """What was told and what is known of it, where the two agreed."""
        self._gone: dict[str, float] = {}
        """When pods went, by UID."""
        self._rooms: dict[tuple[Extender, str], Room] = {}
        """What was made room for last, by whom that was told and the pod's UID."""
        api.listeners.append(self._happened)

    def follow(self, extender: Extender) -> None:
        """Watch over an extender for as long as it runs."""
        self._followed = [other for other in self._followed if other.running]
        self._agreed = {one: self._agreed.get(one, {}) for one in self._followed}
        self._followed.append(extender)

    def demand(self, pod: Pod) -> int:
        """Return the bytes that a pod can take; a loader's pod takes none."""
        ask = self.asks.get(pod.metadata.uid)
        return ask.demand if ask else 0

    # -- after every step ------------------------------------------------------------------------

    def check(self) -> None:
        """Compare everything that is known with everything that was told."""
        for extender in self._followed:
            if extender.running:
                view = extender.state.view()
                self._check_known(extender, view)
                self._check_nominations(extender, view)
                self._check_ledger(extender, view)
                self._check_models(extender, view)

    def _check_known(self, extender: Extender, view: View) -> None:
        """See that what is known is what was told, and that nothing else is known.

        What agreed once agrees for as long as all of it is the same objects. What a loader's pod
        reports is kept apart from the pod, in what makes the inventory.
        """
        state, told = extender.state, extender.witness
        pods = {facts.uid: facts for facts in state.pods()}
        if pods.keys() != told.pods.keys():
            self._broken(Law.KNOWN, f"pods {sorted(pods.keys() ^ told.pods.keys())}")
        nodes = {name for kind, name in told.others if kind is Node}
        if view.nodes.keys() != nodes:
            self._broken(Law.KNOWN, f"nodes {sorted(view.nodes.keys() ^ nodes)}")
        known: list[tuple[object, Any, object, object]] = [
            (uid, pod, pods[uid], view.inventory if pod.metadata.owner_references else None)
            for uid, pod in told.pods.items()
        ]
        known += [(key, obj, state.known(obj), None) for key, obj in told.others.items()]
        agreed = self._agreed.setdefault(extender, {})
        for key, *now in known:
            before = agreed.get(key)
            if before is None or any(one is not two for one, two in zip(before, now, strict=True)):
                obj = now[0]
                if state.differs(obj):
                    self._broken(Law.KNOWN, f"{type(obj).__name__} {obj.metadata.name}")
                agreed[key] = now

    def _check_ledger(self, extender: Extender, view: View) -> None:
        on: dict[str, int] = defaultdict(int)
        for pod in extender.witness.pods.values():
            on[_place(pod)] += self.demand(pod)
        for name, node in view.nodes.items():
            reserved = 0
            for entry in node.reserved:
                reserved += entry.bytes
                told = extender.witness.pods.get(entry.uid)
                if told is not None and told.spec.node_name:
                    self._broken(Law.COUNTS_ONCE, f"{told.metadata.name} on {name}")
                gone = self._gone.get(entry.uid, inf)
                if gone < extender.witness.listed_at and not extender.sending[entry.uid, name]:
                    self._broken(Law.KEPT_FOR_SOMEBODY, f"{entry.uid} on {name}")
                left = round(entry.expires - self._api.now, 3)
                if left > extender.context.reservation_seconds:
                    self._broken(Law.EXPIRES, f"{entry.uid} on {name} in {left:.0f} s")
            if node.promised != on[name] + reserved:
                self._broken(
                    Law.LEDGER,
                    f"{name} has {node.promised / GIB:.1f} GiB promised,"
                    f" {on[name] / GIB:.1f} on it and {reserved / GIB:.1f} reserved",
                )

    def _check_nominations(self, extender: Extender, view: View) -> None:
        """See that a node has the pods that were told to be nominated to it, as if told just now.

        One for which memory is kept somewhere is left out: it counts there.
        """
        told: defaultdict[str, set[str]] = defaultdict(set)
        expected = self._expected(extender)
        for uid, pod in extender.witness.pods.items():
            name = pod.status.nominated_node_name
            known = view.nodes.get(name)
            if known is None or pod.spec.node_name or pod.status.phase in FINISHED:
                continue
            room = expected.get(uid)
            if not self._is_kept_somewhere(view, uid, besides=room.node if room else ""):
                told[name].add(uid)
        for name, node in view.nodes.items():
            known_as = {one.uid for one in node.nominated}
            awaited = {uid for uid, room in expected.items() if room.node == name}
            if not told[name] <= known_as <= told[name] | awaited:
                odd = sorted(known_as ^ told[name])
                self._broken(Law.NOMINATIONS, f"{odd} on {name}")

    def _is_kept_somewhere(self, view: View, uid: str, *, besides: str) -> bool:
        """Tell whether memory is kept for a pod on any node, known or not."""
        for name in view.own.get(uid, ()):
            node = view.nodes.get(name)
            if node is None and name != besides:
                return True
            if node is not None and any(entry.uid == uid for entry in node.reserved):
                return True
        return False

    def _expected(self, extender: Extender) -> dict[str, Room]:
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
            if nominated != room.before or (pod is not None and _place(pod)):
                del self._rooms[told_by, uid]
            else:
                standing[uid] = room
        return standing

    def _check_models(self, extender: Extender, view: View) -> None:
        """See that what loaders report is neither forgotten nor believed for ever."""
        if not self._reported:
            return
        witness = extender.witness
        fresh = self._grace - self.set_forward
        held = view.inventory.lookup(self._reported, self._loaders_in).nodes
        for name in view.nodes:
            state = held[name].state if name in held else ModelState.ABSENT
            if witness.vouched(name) < fresh and state not in _THERE:
                self._broken(Law.NOT_ABSENT, f"{name}: {state}")
            if witness.silent(name) > LEASE_SECONDS + self.set_back and state is _THERE[0]:
                self._broken(Law.NOT_FOR_EVER, f"{name}: {state}")

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        if isinstance(before, Pod) and now is None:
            self._gone[before.metadata.uid] = self._api.now

    # -- the verbs -------------------------------------------------------------------------------

    def filtered(
        self,
        extender: Extender,
        pod: Pod,
        names: Sequence[str],
        result: FilterResult,
        *,
        changed: bool,
    ) -> None:
        """Look at an answer of filter."""
        if changed:
            self._broken(Law.FILTER_CHANGES_NOTHING, pod.metadata.name)
        if not set(names) >= set(result.names):
            self._broken(Law.FILTER_ANSWERS, f"{result.names} of {names}")
        if not result.names and set(result.unresolvable) != set(names) and not result.error:
            self._broken(Law.FILTER_SAYS_WHY, f"{result.unresolvable} of {names}")
        if result.names and self._uncertain(extender, pod):
            self._broken(Law.OLD_KNOWLEDGE, f"{pod.metadata.name}: {result.names}")

    def prioritized(self, names: Sequence[str], scores: Sequence[tuple[str, int]]) -> None:
        """Look at an answer of prioritize."""
        if sorted(names) != sorted(name for name, _ in scores):
            self._broken(Law.ALL_SCORED, f"{scores} of {names}")
        if any(not 0 <= score <= 10 for _, score in scores):
            self._broken(Law.SCORES, str(scores))

    def preempted(
        self,
        extender: Extender,
        pod: Pod,
        candidates: Mapping[str, Victims],
        kept: Mapping[str, Victims],
    ) -> None:
        """Look at an answer of preempt: what is kept must help, as far as it was told."""
        ask = self.asks[pod.metadata.uid]
        view, expected = extender.state.view(), self._expected(extender)
        for name, victims in kept.items():
            if victims != candidates.get(name):
                self._broken(Law.VICTIMS, f"{name}: {victims.uids}")
            if self._uncertain(extender, pod):
                self._broken(Law.OLD_KNOWLEDGE_EVICTS_NOBODY, f"{victims.uids} on {name}")
            if extender.stale():
                continue
            node = view.nodes.get(name)
            if node is None:
                continue
            rest = [p for p in extender.witness.on(name) if p.metadata.uid not in victims.uids]
            taken = ask.demand + sum(self.demand(p) for p in rest)
            gone = {pod.metadata.uid, *victims.uids}
            taken += sum(entry.bytes for entry in node.reserved if entry.uid not in gone)
            for uid, room in expected.items():
                other = extender.witness.pods.get(uid)
                ahead = other is not None and _priority(other) >= _priority(pod)
                counted = self._is_kept_somewhere(view, uid, besides="")
                if room.node == name and ahead and not counted and uid != pod.metadata.uid:
                    taken += self.asks[uid].demand
            if ask.demand and taken > node.allocatable:
                self._broken(
                    Law.EVICTIONS_HELP, f"{victims.uids} on {name} for {pod.metadata.name}"
                )
            if ask.needs_model and extender.witness.vouched(name) > self._longest:
                self._broken(Law.EVICTIONS_HELP, f"{pod.metadata.name} has no model on {name}")

        self._rooms.pop((extender, pod.metadata.uid), None)
        if len(kept) == 1:
            told = extender.witness.pods.get(pod.metadata.uid)
            self._rooms[extender, pod.metadata.uid] = Room(
                node=next(iter(kept)),
                until=self._api.now + extender.context.hold_seconds,
                before="" if told is None else told.status.nominated_node_name,
            )

    def sending(self, extender: Extender, args: BindArgs, annotations: Mapping[str, str]) -> None:
        """Look at a Binding that was decided, before anything is waited for."""
        if extender.locked():
            self._broken(Law.UNLOCKED, args.name)
        decided = msgspec.json.decode(annotations[DECISION_ANNOTATION])
        if decided["node"] != args.node:
            self._broken(Law.DECISION, str(decided))
        ask = self.asks[args.uid]
        if self._uncertain(extender, ask.pod):
            self._broken(Law.OLD_KNOWLEDGE, f"{args.name} -> {args.node}")
        if ask.needs_model and extender.witness.vouched(args.node) > self._longest:
            self._broken(Law.MODEL, f"{args.name} -> {args.node}")

    def bound(self, args: BindArgs) -> None:
        """Look at the truth once a Binding has taken effect."""
        self._effects.add((args.uid, args.node))
        node = self._api.get(Node, args.node)
        if node is None:
            return
        there = (pod for pod in self._api.all(Pod) if _place(pod) == args.node)
        has, taken = allocatable(node), sum(map(self.demand, there))
        if taken > has and self.asks[args.uid].demand:
            self._broken(
                Law.MEMORY,
                f"{args.node} holds {taken / GIB:.1f} GiB of {has / GIB:.0f}",
            )

    def answered(self, extender: Extender, args: BindArgs, bound: Bound) -> None:
        """Look at an answer of bind."""
        yes = bound.outcome is BindOutcome.BOUND
        if yes == bool(bound.error):
            self._broken(Law.BIND_SAYS_WHY, f"{bound.outcome}: {bound.error!r}")
        sent = args.uid, args.node
        if yes and sent not in self._effects:
            self._broken(Law.BIND_SAYS_YES, f"{args.name} -> {args.node}")
        if yes:
            extender.promised.add(sent)
        self._check_kept(extender, args.uid, args.node)

    def settled(self, extender: Extender, doubt: Doubt) -> None:
        """Look at the memory of a Binding that is in doubt no more."""
        if self._is_on(doubt.uid, doubt.node):
            extender.promised.add((doubt.uid, doubt.node))
        self._check_kept(extender, doubt.uid, doubt.node)

    def _check_kept(self, extender: Extender, uid: str, name: str) -> None:
        """See that memory is kept for a pod where it may come, and nowhere else."""
        node, told = extender.state.view().nodes.get(name), extender.witness.pods.get(uid)
        if node is None or (told is not None and told.spec.node_name):
            return
        kept = any(entry.firm and entry.uid == uid for entry in node.reserved)
        what = f"{self.asks[uid].pod.metadata.name} on {name}"
        sending = bool(extender.sending[uid, name])
        doubted = any((doubt.uid, doubt.node) == (uid, name) for doubt in extender.doubts.open())
        if kept and not (sending or doubted or (uid, name) in self._effects):
            self._broken(Law.KEPT_FOR_SOMEBODY, what)
        comes = (uid, name) in extender.promised and self._is_on(uid, name)
        if (sending or comes) and not kept:
            self._broken(Law.HAS_MEMORY, what)

    def _is_on(self, uid: str, node: str) -> bool:
        pod = self._api.get(Pod, self.asks[uid].pod.metadata.name, uid)
        return pod is not None and _place(pod) == node

    def nominated(self, extender: Extender, uid: str, node: str) -> None:
        """Look at a nomination that is about to be written."""
        known = extender.state.view().nodes.get(node)
        held = () if known is None else known.reserved
        what = f"{self.asks[uid].pod.metadata.name} on {node}"
        if all(entry.uid != uid for entry in held):
            self._broken(Law.NOMINATED_HELD, what)
        now = extender.state.steady()
        other, until = extender.given.get(node, ("", now))
        if (other != uid and now < until) or (known is not None and known.nominated):
            self._broken(Law.GIVEN_ONCE, what)

    # -- at rest ---------------------------------------------------------------------------------

    def nobody_waits(self, now: float, could_run: Iterable[str]) -> None:
        """Take the pods that could run at a moment; none may be among them for long."""
        present = set(could_run)
        self._could_run = {u: t for u, t in self._could_run.items() if u in present}
        for uid in sorted(present):
            since = self._could_run.setdefault(uid, now)
            if now - since > PATIENCE_SECONDS:
                name = self.asks[uid].pod.metadata.name
                self._broken(Law.NOBODY_WAITS, f"{name} for {now - since:.0f} s")

    def at_rest(self) -> None:
        """See that nothing is kept for pods that are where they are going."""
        for extender in self._followed:
            kept = extender.state.reserved() if extender.running else 0
            if kept:
                self._broken(Law.EXPIRES, f"{kept} pods have memory kept at rest")

    @property
    def _longest(self) -> float:
        """Return for how many seconds at most what a loader left is good for anything."""
        return self._grace + self.set_back

    def _uncertain(self, extender: Extender, pod: Pod) -> bool:
        ask = self.asks[pod.metadata.uid]
        certain = ask.needs_model or ask.demand > ask.request
        return certain and bool(extender.stale())

    def _broken(self, law: Law, text: str) -> NoReturn:
        raise BrokenLawError(law, text)


def _place(pod: Pod) -> str:
    """Return where a pod takes memory, empty where it takes none."""
    return "" if pod.status.phase in FINISHED else pod.spec.node_name


def _priority(pod: Pod) -> int:
    return pod.spec.priority or 0


def allocatable(node: Node) -> int:
    """Return a node's allocatable memory in bytes."""
    return parse_quantity(node.status.allocatable["memory"])
