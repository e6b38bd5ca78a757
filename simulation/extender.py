"""The extender under test: the real state, reservations, verbs and waking, wired as in serving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from extender.cluster.state import ClusterState
from extender.kube.objects import LeaseSpec, Pod
from extender.placement.request import PodRequest
from extender.verbs.bind import Answer, BindOutcome, Bound, bind
from extender.verbs.context import Context
from extender.verbs.doubt import UNCLEAR_SECONDS, Doubt, Doubts
from extender.verbs.filter import filter_nodes
from extender.verbs.preempt import no_eviction, preempt
from extender.verbs.prioritize import prioritize_nodes
from extender.waiting.nominate import NOMINATION_SECONDS
from extender.waiting.pods import WaitingPods
from extender.waiting.rounds import Rounds
from extender.waiting.telling import TakenBack, Told, Woken, Word
from extender.wire import BindArgs, ExtenderArgs, FilterResult, PreemptArgs, Victims
from simulation.apiserver import KINDS, Apiserver
from simulation.choices import Choices
from simulation.faults import Faults
from simulation.fencing import Fencing
from simulation.fetching import LOOK_SECONDS, Fetching
from simulation.laws import Laws
from simulation.overload import Overload
from simulation.requests import Requests
from simulation.scenario import Fence, Scenario
from simulation.timeline import Timeline
from simulation.watch import Watch
from simulation.witness import Witness

REQUEUED_ANNOTATION = "modelcache.dev/requeued-at"
_TICK_SECONDS = 1.0
_GATHER_SECONDS = 0.02


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
        self.overload = Overload(timeline, choices)
        self.sending: Counter[tuple[str, str]] = Counter()
        """How many Bindings are on their way, by the pod's UID and the node."""
        self.promised: set[tuple[str, str]] = set()
        """By UID and node, what is known to be bound."""
        self.given: dict[str, tuple[str, float]] = {}
        """By node: the pod that it was nominated to last, and until when it is its own."""
        self.outcomes: Counter[BindOutcome] = Counter()
        self.taken_back: Counter[Told] = Counter()
        self._api = api
        self._timeline = timeline
        self._choices = choices
        self._faults = faults
        self._laws = laws
        self._say = say
        self._stale_seconds = scenario.stale_seconds
        self._failed_writes = scenario.failed_writes
        self._requests = Requests(
            api=api,
            timeline=timeline,
            choices=choices,
            faults=faults,
            late=scenario.delays.late,
            takes=scenario.delays.write,
            hangs=scenario.hangs,
            unclear_seconds=UNCLEAR_SECONDS - _TICK_SECONDS,
            bound=laws.binding.bound,
            say=say,
        )
        self._looking = self._waking = False
        self._changes = 0
        self.state = ClusterState(
            clock=lambda: timeline.now + self.skew, steady=lambda: timeline.now
        )
        self.state.keep_reserved_while(lambda: Pod.__name__ in self.stale())
        self.context = Context(
            state=self.state,
            policy=scenario.policy,
            stale=self.stale,
            fence=self._closed,
            term=lambda: self.term,
        )
        self.waiting = WaitingPods()
        self.doubts = Doubts(self.state)
        self._rounds = Rounds(
            self.state,
            self.waiting,
            scenario.policy,
            self,
            schedulers={""},
            stale=self.stale,
            request_of=self.context.request_of,
        )
        self._fetching = Fetching(
            self.context, self.waiting, api=api, faults=faults, touch=self.touch, say=say
        )
        self.witness = Witness(self.state, timeline, reporting=bool(scenario.reported))
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
        (self.pods,) = (watch for watch in self.watches if watch.kind is Pod)
        self.state.subscribe(self._changed)
        laws.knowledge.follow(self)
        self._fencing: Fencing | None = None
        self._tick()
        if scenario.on_demand:
            self._fetch()

    def stale(self) -> tuple[str, ...]:
        """Name the kinds that were not heard of for too long."""
        return tuple(w.kind.__name__ for w in self.watches if w.age() > self._stale_seconds)

    def locked(self) -> bool:
        """Tell whether this thread is inside the state's lock."""
        # Nothing but the lock itself can tell.
        return bool(self.state._lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001

    def end(self) -> None:
        """End the process: its connections break, and what it had sent is decided."""
        self.running = False
        if self._fencing is not None:
            self._fencing.end()
        for watch in self.watches:
            watch.close()
        self._requests.end()

    # -- the verbs, as kube-scheduler calls them -------------------------------------------------

    def filter(self, pod: Pod, names: tuple[str, ...]) -> FilterResult:
        """Answer filter, and note who waits as the service does."""
        args = ExtenderArgs(pod=pod, names=names, nodes=None)
        self.state.view()  # what has expired so far is no change that filter makes
        before = self._changes
        result, made = filter_nodes(args, self.context, late=self.overload.deadline())
        self._laws.answers.filtered(self, pod, names, result, changed=self._changes != before)
        if made is None:
            return result
        request = self.context.remembered(made.uid)
        if made.passed or not made.asked:
            self.waiting.drop(made.uid)
        elif request is not None:
            self.state.let_go(made.uid)
            self.waiting.refuse(
                request,
                asked=names,
                nodes=self.state.view().nodes,
                refused=made.refused,
                examples=made.examples,
                created=pod.metadata.creation_timestamp,
                now=made.time,
                steady=self.state.steady(),
            )
            self._look_soon()
        return result

    def prioritize(self, pod: Pod, names: tuple[str, ...]) -> list[tuple[str, int]]:
        """Answer prioritize."""
        args = ExtenderArgs(pod=pod, names=names, nodes=None)
        ranking, _ = prioritize_nodes(args, self.context, late=self.overload.deadline())
        scores = list(ranking)
        self._laws.answers.prioritized(names, scores)
        return scores

    def preempt(self, pod: Pod, candidates: dict[str, Victims]) -> dict[str, Victims]:
        """Answer preempt."""
        args = PreemptArgs(pod=pod, candidates=candidates)
        kept, made = preempt(args, self.context, late=self.overload.deadline())
        self._laws.evictions.answered(self, pod, candidates, kept, decided=made is not None)
        if kept:
            self.waiting.lost.drop_of(pod.metadata.uid)
        else:
            nodes = self.state.view().nodes
            self.waiting.refuse_preemption(no_eviction(args, made, self.context), nodes=nodes)
            self._look_soon()
        return kept

    def bind(self, pod: Pod, node: str) -> Bound:
        """Answer bind."""
        metadata = pod.metadata
        args = BindArgs(
            namespace=metadata.namespace, name=metadata.name, uid=metadata.uid, node=node
        )
        bound = bind(args, self.context, self, late=self.overload.deadline())
        self.outcomes[bound.outcome] += 1
        self._say(f"bind {metadata.name} -> {node}: {bound.outcome} {bound.error}".rstrip())
        if bound.doubt is not None:
            self.doubts.add(bound.doubt, self._timeline.now)
        self._laws.binding.answered(self, args, bound)
        return bound

    def _settle(self) -> None:
        """Find out what became of Bindings."""
        before = self.doubts.open()
        while taken := self.doubts.take(self._timeline.now):
            for doubt in taken:
                found = self.doubts.answer(doubt, self._written(doubt))
                self._say(f"{doubt.name} on {doubt.node}: {found.error or found.carried_out}")
        for doubt in sorted(before - self.doubts.open(), key=lambda doubt: doubt.claim):
            self._laws.binding.settled(self, doubt)

    def _written(self, doubt: Doubt) -> Pod | str | None:
        if self._faults.happens(20):
            return "no answer"
        return self._mark(doubt.name, doubt.uid)

    # -- the apiserver, as bind sees it ----------------------------------------------------------

    def create(
        self, args: BindArgs, annotations: dict[str, str], fence: Callable[[], str]
    ) -> Answer:
        """Send a Binding."""
        self._laws.binding.sending(self, args, annotations)
        place = args.uid, args.node
        self.sending[place] += 1
        answer = self._requests.bind(args, annotations, fence)
        self.sending[place] -= 1
        return answer

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        """Look a pod up."""
        if self._faults.happens(20):
            return f"no answer for {namespace}/{name}"
        return self._api.get(Pod, name)

    # -- the fence -------------------------------------------------------------------------------

    def _closed(self) -> str:
        """Return why nothing may be bound now."""
        return "" if self._fencing is None else self._fencing.closed()

    def leads(self) -> bool:
        """Tell whether this process is the one that acts."""
        return self.running and (self._fencing is None or self._fencing.leads())

    def acts(self) -> bool:
        """Tell whether this process leads and knows what it needs to."""
        return self.leads() and not self._closed() and not self.stale()

    @property
    def term(self) -> str | None:
        """Return what tells this replica's time from any other's; None while another leads."""
        return "" if self._fencing is None else self._fencing.term

    def caught_up(self) -> bool:
        """Tell whether all pods are known that were there when it began to act."""
        return self._fencing is None or self._fencing.caught_up()

    def fence_with(
        self, fence: Fence, lease: Callable[[], LeaseSpec], lose_lead: Callable[[], None]
    ) -> None:
        """Bind only while the fence is open.

        ``lose_lead`` is what happens now and then while a Binding is in flight.
        """
        self._requests.lose_lead = lose_lead
        self._fencing = Fencing(
            fence,
            lease=lease,
            present=lambda: self._api.version,
            reached=lambda version: self.pods.reached >= version,
            timeline=self._timeline,
            choices=self._choices,
            faults=self._faults,
        )

    # -- fetching --------------------------------------------------------------------------------

    def _fetch(self) -> None:
        if self.running:
            if self.leads():
                self._fetching.look()
            self._timeline.after(LOOK_SECONDS, self._fetch)

    # -- waking ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.running:
            self._settle()
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
        """Wake whom it is time to wake; a round that is under way goes on first."""
        self._looking = False
        if self._waking:
            self._look_soon()
            return
        self._waking = True
        knows = self.leads() and not self._closed()
        try:
            for told in self._rounds.wake(self):
                self._say(_in_words(told))
            if knows:
                self._laws.waiting.remembered(self)
        finally:
            self._waking = False

    # -- the apiserver, as waking sees it --------------------------------------------------------

    def nominate(self, request: PodRequest, node: str) -> Word:
        """Write the node to a pod."""
        self._laws.waiting.told(self, request.uid)
        self._laws.nominations.nominated(self, request.uid, node)
        until = self._timeline.now + NOMINATION_SECONDS
        fails = self._faults.happens(self._failed_writes)
        return self._requests.write(
            request, lambda: self._nominate(request, node, until), fails=fails
        )

    def take_back(self, request: PodRequest, node: str) -> Word:
        """Clear the nomination of a pod."""
        self._laws.nominations.taking_back(self, request.uid, node)
        fails = self._choices.chance(self._failed_writes)
        word = self._requests.write(request, lambda: self._take_back(request, node), fails=fails)
        self.taken_back[word.told] += 1
        if word.told in {Told.REFUSED, Told.UNANSWERED}:
            self._laws.nominations.missed(request.uid, node)
        return word

    def touch(self, request: PodRequest) -> Word:
        """Mark a pod."""
        self._laws.waiting.told(self, request.uid)
        return self._requests.write(
            request,
            lambda: Told.WRITTEN if self._mark(request.name, request.uid) else Told.GONE,
            fails=self._faults.happens(self._failed_writes),
        )

    def answers(self) -> list[tuple[str, Word]]:
        """Return what came of writes that hung."""
        return self._requests.answers()

    def _nominate(self, request: PodRequest, node: str, until: float) -> Told:
        pod = self._api.get(Pod, request.name, request.uid)
        if pod is None:
            return Told.GONE
        if pod.spec.node_name or pod.status.nominated_node_name:
            return Told.OVERTAKEN
        self.given[node] = request.uid, until
        status = msgspec.structs.replace(pod.status, nominated_node_name=node)
        self._api.put(msgspec.structs.replace(pod, status=status))
        return Told.WRITTEN

    def _take_back(self, request: PodRequest, node: str) -> Told:
        pod = self._api.get(Pod, request.name, request.uid)
        if pod is None:
            return Told.GONE
        if pod.spec.node_name or pod.status.nominated_node_name != node:
            return Told.OVERTAKEN
        status = msgspec.structs.replace(pod.status, nominated_node_name="")
        self._api.put(msgspec.structs.replace(pod, status=status))
        return Told.WRITTEN

    def _mark(self, name: str, uid: str) -> Pod | None:
        pod = self._api.get(Pod, name, uid)
        if pod is None:
            return None
        annotations = {**pod.metadata.annotations, REQUEUED_ANNOTATION: self._api.stamp()}
        metadata = msgspec.structs.replace(pod.metadata, annotations=annotations)
        marked = msgspec.structs.replace(pod, metadata=metadata)
        self._api.put(marked)
        return marked


def _in_words(told: Woken | TakenBack) -> str:
    if isinstance(told, TakenBack):
        return (
            f"{told.lost.request.name} not nominated to {told.lost.node} any more: {told.word.told}"
        )
    name, node = told.pod.request.name, told.node
    return f"{name} woken{f' for {node}' * bool(node)}: {told.word.told}"
