"""A seeded simulation: the real core, driven by a simulated apiserver, scheduler and kubelets.

Everything happens on a virtual clock and in an order that a seed draws: watch events come late, a
scheduler with several pods in flight binds them in any order, answers to bindings are lost before
or after they took effect, pods end, loaders become Ready and fail, the extender restarts. After
every step the invariants are checked; ``trace`` is what happened, to read a failing seed.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

import msgspec

from extender.cluster.state import ClusterState
from extender.kube.decode import convert
from extender.kube.objects import KubeObject, Pod
from extender.placement.policy import Policy
from extender.verbs.bind import Answer, BindOutcome, Sent, bind
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.verbs.preempt import preempt
from extender.verbs.prioritize import prioritize_nodes
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.wake import Waker
from extender.wire import BindArgs, ExtenderArgs, PreemptArgs, Victims
from tests.builders import LOADING, READY, loader, loader_pod, node, tmpfs, vllm

GIB = 2**30
NODES = 4
NODE_GIB = 64
MAX_PODS = 40
STEP_SECONDS = 0.05
LATE_BINDING_STEPS = 200


class BrokenLawError(AssertionError):
    """An invariant does not hold; the message has the seed, the step and what happened last."""


class Apiserver:
    """The truth: every object, and what the extender has not been told yet."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.others: dict[str, KubeObject] = {}
        self.untold: deque[tuple[str, KubeObject]] = deque()

    def put(self, obj: KubeObject) -> None:
        table: dict[str, Any] = self.pods if isinstance(obj, Pod) else self.others
        table[obj.metadata.uid or obj.metadata.name] = obj
        self.untold.append(("put", obj))

    def delete(self, uid: str) -> None:
        self.untold.append(("delete", self.pods.pop(uid)))

    def bind(self, uid: str, to: str) -> bool:
        """Bind a pod as the apiserver does: only one that is there and not bound yet."""
        pod = self.pods.get(uid)
        if pod is None or pod.spec.node_name:
            return False
        self.put(_on(pod, to))
        return True

    def tell(self, state: ClusterState, number: int) -> None:
        """Deliver the next watch events."""
        for _ in range(min(number, len(self.untold))):
            what, obj = self.untold.popleft()
            if what == "put":
                state.upsert(obj)
            else:
                state.delete(obj)


class World:
    """One run. ``step`` does one random thing and checks the laws."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 1_000_000.0
        self.steps = 0
        self.trace: deque[str] = deque(maxlen=60)
        self.binds: dict[BindOutcome, int] = {}
        self.made = 0
        self.events = 0
        self.api = Apiserver()
        self._late: list[tuple[int, str, str]] = []
        self._in_flight: list[tuple[Pod, str]] = []
        self._queue: list[str] = []
        self._refused_uids: set[str] = set()
        self.names = [f"node-{number}" for number in range(NODES)]
        for name in self.names:
            self.api.put(node(name, memory=f"{NODE_GIB}Gi"))
        self.api.put(loader())
        self._start()

    # -- the extender ----------------------------------------------------------------------------

    def _start(self) -> None:
        """Start the extender: it knows what a list tells, and nothing of the time before."""
        self.state = ClusterState(clock=lambda: self.now)
        self.context = Context(state=self.state, policy=Policy(), hold_seconds=5.0)
        self.waiting = WaitingPods()
        self.waker = Waker(self.state, self.waiting, self.context.policy, stale=tuple)
        self.api.untold.clear()
        for obj in (*self.api.others.values(), *self.api.pods.values()):
            self.state.upsert(obj)
        for facts in self.state.pods():
            if not facts.node and facts.uid in self._refused_uids:
                self._wait(self.context.request_of(facts), None)

    def _wait(self, request: Any, asked: frozenset[str] | None) -> None:
        self.waiting.add(
            WaitingPod(
                request=request,
                asked=asked,
                refused={},
                created="",
                since=self.now,
                refused_at=self.now,
            )
        )

    # -- bindings, with every fate that an answer can have -----------------------------------------

    def create(self, args: BindArgs, annotations: dict[str, str]) -> Answer:
        assert annotations
        fate = self.random.choices(
            ("done", "lost-done", "lost-late", "lost-never", "refused"), (70, 8, 8, 7, 7)
        )[0]
        self._say(f"binding {args.uid} -> {args.node}: {fate}")
        if fate == "refused":
            return Answer(Sent.REFUSED, "429")
        if fate == "lost-late":
            due = self.steps + self.random.randrange(1, LATE_BINDING_STEPS)
            self._late.append((due, args.uid, args.node))
        if fate in {"done", "lost-done"} and not self.api.bind(args.uid, args.node):
            return Answer(Sent.CONFLICT, "conflict")
        return Answer(Sent.DONE if fate == "done" else Sent.LOST, fate)

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        assert namespace
        if self.random.random() < 0.2:
            return "the apiserver does not answer"
        return next((p for p in self.api.pods.values() if p.metadata.name == name), None)

    # -- one step --------------------------------------------------------------------------------

    def step(self) -> None:
        self.steps += 1
        self.events += 1
        self.now += STEP_SECONDS * self.random.random() * 2
        for entry in [entry for entry in self._late if entry[0] <= self.steps]:
            self._late.remove(entry)
            if self.api.bind(entry[1], entry[2]):
                self._say(f"late binding took effect: {entry[1]} -> {entry[2]}")
        actions = (
            (self._create_pod, 12),
            (self._schedule, 30),
            (self._bind_one, 28),
            (self._tell, 30),
            (self._wake, 10),
            (self._end_pod, 7),
            (self._change_loader, 5),
            (self._preempt, 4),
            (self._jump, 1),
            (self._restart, 0.3),
        )
        chosen = self.random.choices([a for a, _ in actions], [w for _, w in actions])[0]
        chosen()
        self.check()

    def check(self) -> None:
        """No node holds more than it has, as the apiserver sees it and as the ledger does."""
        taken: dict[str, int] = dict.fromkeys(self.names, 0)
        for pod in self.api.pods.values():
            if pod.spec.node_name:
                taken[pod.spec.node_name] += self._demand(pod)
        for name, number in taken.items():
            if number > NODE_GIB * GIB:
                self._broken(f"{name} holds {number / GIB:.1f} GiB of {NODE_GIB}")

    def _demand(self, pod: Pod) -> int:
        return self.state.demand(pod, self.state.templates.workload(pod)).bytes

    def settle(self) -> None:
        """Let everything come to rest, then see that no pod waits that could run."""
        for _ in range(400):
            self.now += 1.0
            self.steps += LATE_BINDING_STEPS
            self._late.clear()
            self._tell(len(self.api.untold))
            self._wake()
            while self._queue or self._in_flight:
                self._schedule()
                self._bind_one(honest=True)
                self._tell(len(self.api.untold))
            self.check()
        for pod in self.api.pods.values():
            if pod.spec.node_name or pod.metadata.uid in self._queue:
                continue
            names = tuple(self.names)
            result, _ = filter_nodes(ExtenderArgs(pod=pod, names=names, nodes=None), self.context)
            if result.names:
                self._broken(f"{pod.metadata.uid} waits though it could go to {result.names}")
        if self.state.reserved():
            self._broken(f"{self.state.reserved()} pods still have memory reserved")

    # -- what can happen ---------------------------------------------------------------------------

    def _create_pod(self) -> None:
        if len(self.api.pods) >= MAX_PODS + NODES:
            return
        self.made += 1
        name = f"pod-{self.made}"
        if self.random.random() < 0.75:
            size = self.random.choice((4, 8, 16, 20, 40))
            pod = tmpfs(name, size=f"{size}Gi", memory="1Gi")
        else:
            pod = vllm(name, memory=f"{self.random.choice((1, 8))}Gi")
        self.api.put(pod)
        self._queue.append(f"uid-{name}")

    def _schedule(self) -> None:
        """One scheduling cycle: filter, prioritize, and the choice; bind comes some time later."""
        if not self._queue:
            return
        uid = self._queue.pop(self.random.randrange(len(self._queue)))
        pod = self.api.pods.get(uid)
        if pod is None or pod.spec.node_name:
            return
        args = ExtenderArgs(pod=pod, names=tuple(self.names), nodes=None)
        result, _ = filter_nodes(args, self.context)
        request = self.context.remembered(uid)
        if not result.names:
            self._say(f"{uid} refused everywhere")
            self._refused_uids.add(uid)
            self._wait(request, frozenset(args.names))
            return
        self.waiting.drop(uid)
        chosen = result.names[0]
        if len(result.names) > 1:
            asked = ExtenderArgs(pod=pod, names=tuple(result.names), nodes=None)
            scores, _ = prioritize_nodes(asked, self.context)
            top = max(score for _, score in scores)
            best = [name for name, score in scores if score == top]
            # Other plugins have their say too.
            chosen = self.random.choice(best if self.random.random() < 0.8 else result.names)
        self._say(f"{uid} chosen for {chosen}")
        self._in_flight.append((pod, chosen))

    def _bind_one(self, *, honest: bool = False) -> None:
        if not self._in_flight:
            return
        pod, to = self._in_flight.pop(self.random.randrange(len(self._in_flight)))
        uid = pod.metadata.uid
        args = BindArgs(namespace=pod.metadata.namespace, name=pod.metadata.name, uid=uid, node=to)
        bound = bind(args, self.context, _Honest(self.api) if honest else self)
        self.binds[bound.outcome] = self.binds.get(bound.outcome, 0) + 1
        self._say(f"bind {uid} -> {to}: {bound.outcome.value} {bound.error}")
        truth = self.api.pods.get(uid)
        if bound.outcome is BindOutcome.BOUND and (truth is None or truth.spec.node_name != to):
            self._broken(f"bind said yes for {uid}, which is not on {to}")
        if bound.error and truth is not None and not truth.spec.node_name:
            self._queue.append(uid)  # kube-scheduler tries again after its back-off

    def _tell(self, number: int | None = None) -> None:
        self.api.tell(self.state, number or self.random.randrange(1, 6))

    def _wake(self) -> None:
        for pod in list(self.waker.due()):
            uid = pod.request.uid
            self.waiting.touched(uid, self.now)
            if uid in self.api.pods and uid not in self._queue:
                self._say(f"{uid} woken")
                self._queue.append(uid)

    def _end_pod(self) -> None:
        """A pod ends: deleted wherever it is, as evictions and scale-downs do."""
        uids = [uid for uid in self.api.pods if uid.startswith("uid-")]
        if uids:
            uid = self.random.choice(uids)
            self._say(f"{uid} deleted")
            self.api.delete(uid)

    def _change_loader(self) -> None:
        name = self.random.choice(self.names)
        ready = self.random.random() < 0.7
        self._say(f"loader on {name} {'ready' if ready else 'loading'}")
        self.api.put(loader_pod(name, READY if ready else LOADING))

    def _preempt(self) -> None:
        """Ask which evictions would help; what is kept must help, as far as can be known."""
        bound = [pod for pod in self.api.pods.values() if pod.metadata.uid.startswith("uid-")]
        asks = [pod for pod in bound if not pod.spec.node_name]
        if not asks or self.api.untold or self.state.reserved():
            return
        pod = self.random.choice(asks)
        candidates = {}
        for name in self.names:
            there = [p.metadata.uid for p in bound if p.spec.node_name == name]
            chosen = self.random.sample(there, self.random.randint(0, len(there)))
            candidates[name] = Victims(uids=tuple(chosen), pdb_violations=0)
        kept, _ = preempt(PreemptArgs(pod=pod, candidates=candidates), self.context)
        for name, victims in kept.items():
            rest = [
                p
                for p in self.api.pods.values()
                if p.spec.node_name == name and p.metadata.uid not in victims.uids
            ]
            taken = sum(self._demand(p) for p in (*rest, pod))
            if taken > NODE_GIB * GIB:
                self._broken(f"evicting {victims.uids} on {name} leaves no room for the pod")
            if victims != candidates[name]:
                self._broken(f"other victims came back for {name}: {victims.uids}")

    def _jump(self) -> None:
        """Time passes with nothing happening, or the clock is set back."""
        self.now += self.random.choice((1.0, 6.0, 30.0, -2.0, -20.0))

    def _restart(self) -> None:
        """The process ends: its connections break, what it had sent is decided, another starts."""
        self._say("extender restarted")
        for _, uid, to in self._late:
            if self.random.random() < 0.5:
                self.api.bind(uid, to)
        self._late.clear()
        for pod, _ in self._in_flight:
            self._queue.append(pod.metadata.uid)
        self._in_flight.clear()
        self._start()

    def _say(self, text: str) -> None:
        self.trace.append(f"{self.steps}: {text}")

    def _broken(self, law: str) -> None:
        happened = "\n  ".join(self.trace)
        raise BrokenLawError(f"seed {self.seed}, step {self.steps}: {law}\n  {happened}")


class _Honest:
    """An apiserver without faults, to come to rest with."""

    def __init__(self, api: Apiserver) -> None:
        self._api = api

    def create(self, args: BindArgs, annotations: dict[str, str]) -> Answer:
        assert annotations
        done = self._api.bind(args.uid, args.node)
        return Answer(Sent.DONE if done else Sent.CONFLICT, "conflict")

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        assert namespace
        return next((p for p in self._api.pods.values() if p.metadata.name == name), None)


def _on(pod: Pod, to: str) -> Pod:
    """Return a pod as it is once bound."""
    metadata = {
        "name": pod.metadata.name,
        "namespace": pod.metadata.namespace,
        "uid": pod.metadata.uid,
    }
    bound = convert({"metadata": metadata, "status": {"phase": "Running"}}, Pod)
    return msgspec.structs.replace(bound, spec=msgspec.structs.replace(pod.spec, node_name=to))
