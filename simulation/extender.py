"""The extender under test: the real state, reservations, verbs and waking, wired as in serving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.verbs.bind import Answer, BindOutcome, Bound, Sent, bind
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.verbs.preempt import preempt
from extender.verbs.prioritize import prioritize_nodes
from extender.waiting.nominate import Nominations
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.wake import Waker
from extender.wire import BindArgs, ExtenderArgs, FilterResult, PreemptArgs, Victims
from simulation.apiserver import KINDS, Apiserver
from simulation.choices import Choices
from simulation.faults import Fate, Faults
from simulation.laws import Laws
from simulation.scenario import Scenario
from simulation.timeline import Timeline
from simulation.watch import Watch
from simulation.witness import Witness

STALE_SECONDS = 120.0
REQUEUED_ANNOTATION = "modelcache.dev/requeued-at"
_TICK_SECONDS = 1.0
_GATHER_SECONDS = 0.02
_LATE_SECONDS = (0.1, 20.0)
_NESTED_EVENTS = 4
_ANSWER_SECONDS = 2.0


class Extender:
    """One process. Its wall clock is ``skew`` seconds ahead of the timeline."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        api: Apiserver,
        timeline: Timeline,
        choices: Choices,
        faults: Faults,
        laws: Laws,
        say: Callable[[str], None],
        skew: float = 0.0,
    ) -> None:
        self.skew = skew
        self.running = True
        self.outcomes: Counter[BindOutcome] = Counter()
        self._api = api
        self._timeline = timeline
        self._choices = choices
        self._faults = faults
        self._laws = laws
        self._say = say
        self._late: dict[int, Callable[[], None]] = {}
        self._sent = 0
        self._looking = False
        self._recovered = False
        self._changes = 0
        self.state = ClusterState(clock=lambda: timeline.now + self.skew)
        self.context = Context(state=self.state, policy=scenario.policy, stale=self.stale)
        self.waiting = WaitingPods()
        self.waker = Waker(self.state, self.waiting, scenario.policy, stale=self.stale)
        self.nominations = Nominations(self.state, scenario.policy, stale=self.stale)
        self.witness = Witness(self.state, timeline)
        self.watches = [
            Watch(
                kind,
                api=api,
                sink=self.witness,
                timeline=timeline,
                choices=choices,
                delay=scenario.delays.watch,
            )
            for kind in KINDS
        ]
        self.state.subscribe(self._changed)
        laws.follow(self)
        self._tick()

    def stale(self) -> tuple[str, ...]:
        """Name the kinds that were not heard of for too long."""
        return tuple(w.kind.__name__ for w in self.watches if w.age() > STALE_SECONDS)

    def locked(self) -> bool:
        """Tell whether this thread is inside the state's lock."""
        # Nothing but the lock itself can tell.
        return bool(self.state._lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001

    def end(self) -> None:
        """End the process: its connections break, and what it had sent is decided."""
        self.running = False
        for watch in self.watches:
            watch.close()
        for binding in list(self._late.values()):
            if self._choices.chance(50):
                binding()
        self._late.clear()

    # -- the verbs, as kube-scheduler calls them -------------------------------------------------

    def filter(self, pod: Pod, names: tuple[str, ...]) -> FilterResult:
        """Answer filter, and note who waits as the service does."""
        args = ExtenderArgs(pod=pod, names=names, nodes=None)
        self.state.view()  # what has expired so far is no change that filter makes
        before = self._changes
        result, made = filter_nodes(args, self.context)
        self._laws.filtered(pod, names, result, changed=self._changes != before)
        if made is None:
            return result
        request = self.context.remembered(made.uid)
        if made.passed or not made.asked:
            self.waiting.drop(made.uid)
        elif request is not None:
            self.waiting.refuse(
                request,
                asked=names,
                refused=made.refused,
                examples=made.examples,
                created=pod.metadata.creation_timestamp,
                now=made.time,
            )
            self._look_soon()
        return result

    def prioritize(self, pod: Pod, names: tuple[str, ...]) -> list[tuple[str, int]]:
        """Answer prioritize."""
        args = ExtenderArgs(pod=pod, names=names, nodes=None)
        ranking, _ = prioritize_nodes(args, self.context)
        scores = list(ranking)
        self._laws.prioritized(names, scores)
        return scores

    def preempt(self, pod: Pod, candidates: dict[str, Victims]) -> dict[str, Victims]:
        """Answer preempt."""
        kept, _ = preempt(PreemptArgs(pod=pod, candidates=candidates), self.context)
        self._laws.preempted(pod, candidates, kept)
        return kept

    def bind(self, pod: Pod, node: str) -> Bound:
        """Answer bind."""
        metadata = pod.metadata
        args = BindArgs(
            namespace=metadata.namespace, name=metadata.name, uid=metadata.uid, node=node
        )
        bound = bind(args, self.context, self)
        self.outcomes[bound.outcome] += 1
        self._say(f"bind {metadata.name} -> {node}: {bound.outcome} {bound.error}".rstrip())
        self._laws.answered(args, bound)
        return bound

    # -- the apiserver, as bind sees it ----------------------------------------------------------

    def create(self, args: BindArgs, annotations: dict[str, str]) -> Answer:
        """Send a Binding; meanwhile other things happen."""
        self._laws.sending(args, annotations)
        fate = self._faults.fate()
        self._say(f"Binding {args.name} -> {args.node}: {fate}")
        for _ in range(self._choices.below(_NESTED_EVENTS) if self._faults.on else 0):
            self._timeline.next(within=_ANSWER_SECONDS)
        if fate is Fate.REFUSED:
            return Answer(Sent.REFUSED, "too many requests")
        if fate is Fate.LOST_LATE:
            self._later(lambda: self._take_effect(args, annotations))
        if fate in {Fate.DONE, Fate.LOST_DONE} and not self._take_effect(args, annotations):
            return Answer(Sent.CONFLICT, "conflict")
        return Answer(Sent.DONE if fate is Fate.DONE else Sent.LOST, "no answer")

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        """Look a pod up."""
        if self._faults.happens(20):
            return f"no answer for {namespace}/{name}"
        return self._api.get(Pod, name)

    def _later(self, binding: Callable[[], object]) -> None:
        self._sent += 1
        number = self._sent

        def happen() -> None:
            if self._late.pop(number, None) is not None:
                binding()

        self._late[number] = happen
        self._timeline.after(self._choices.between(*_LATE_SECONDS), happen)

    def _take_effect(self, args: BindArgs, annotations: dict[str, str]) -> bool:
        done = self._api.bind(args.name, args.uid, args.node, annotations)
        if done:
            self._laws.bound(args)
        return done

    # -- waking ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.running:
            self._look_soon()
            self._timeline.after(_TICK_SECONDS, self._tick)

    def _changed(self) -> None:
        self._changes += 1
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            self._timeline.after(_GATHER_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = False
        if not self.running:
            return
        if not self._recovered:
            self._recovered = True
            self.waiting.recover(self.state, {""}, self.context.request_of)
        for pod in self.waker.due():
            self._touch(pod)

    def _touch(self, waiting: WaitingPod) -> None:
        """Nominate the pod where one node is right, and else mark it, as the service does."""
        request = waiting.request
        node = self.nominations.take(waiting)
        self.waiting.touched(request.uid, self.state.now())
        if self._faults.happens(10):
            return
        pod = self._api.get(Pod, request.name, request.uid)
        if pod is None:
            self.waiting.drop(request.uid)
        elif node and not pod.spec.node_name and not pod.status.nominated_node_name:
            self._say(f"{request.name} nominated to {node}")
            status = msgspec.structs.replace(pod.status, nominated_node_name=node)
            self._api.put(msgspec.structs.replace(pod, status=status))
        else:
            if node:
                self.nominations.undo(waiting)
            self._say(f"{request.name} woken")
            annotations = {**pod.metadata.annotations, REQUEUED_ANNOTATION: self._api.stamp()}
            metadata = msgspec.structs.replace(pod.metadata, annotations=annotations)
            self._api.put(msgspec.structs.replace(pod, metadata=metadata))
