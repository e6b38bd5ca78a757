"""One world: the parts of a scenario put together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from extender.kube.objects import Node, NodeStatus, ObjectMeta, Pod
from extender.report import ReportedState
from extender.verbs.bind import BindOutcome
from extender.waiting.telling import Told
from simulation.apiserver import Apiserver
from simulation.choices import Choices
from simulation.extender import Extender
from simulation.faults import Faults
from simulation.kubelet import Kubelets
from simulation.law import Law
from simulation.laws import Laws
from simulation.lead import HOSTS, Lead, Loss
from simulation.loaders import Loaders
from simulation.resizing import Resizing
from simulation.scenario import Ask, Machine, Scenario
from simulation.scheduler import Scheduler
from simulation.timeline import Timeline

BEGIN = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""

_ABSENT = {ReportedState.ABSENT}

_LOOK_SECONDS = 1.0
"""So long at least between two looks at what only time makes wrong."""


class World:
    """A cluster with an extender. Whatever happens, the laws are asked where a verb answers.

    ``begin`` has the numbers to begin with, in place of those that the seed draws.
    """

    def __init__(
        self, scenario: Scenario, seed: int = 0, *, begin: Sequence[int] | None = None
    ) -> None:
        self.scenario = scenario
        self.trace: deque[str] = deque(maxlen=400)
        self.choices = Choices(seed)
        self.choices.begin(begin)
        self.timeline = Timeline(BEGIN)
        self.faults = Faults(self.choices)
        self.api = Apiserver(self.timeline)
        asks: dict[str, Ask] = {}
        self.resizing = Resizing(
            api=self.api,
            timeline=self.timeline,
            choices=self.choices,
            delays=scenario.delays,
            asks=asks,
            say=self.say,
        )
        self.laws = Laws(scenario, self.api, asks=asks, in_force=self.resizing.in_force)
        self.timeline.after_each = self.check
        self._outcomes: Counter[BindOutcome] = Counter()
        self._taken_back: Counter[Told] = Counter()
        self._looked = BEGIN
        self.extenders: list[Extender] = []
        self.kubelets = Kubelets(
            api=self.api,
            timeline=self.timeline,
            choices=self.choices,
            delays=scenario.delays,
            loading=scenario.delays.start if scenario.reported else scenario.delays.load,
            resizing=self.resizing,
            say=self.say,
        )
        self.loaders = self._loaders() if scenario.reported else None
        for loader in scenario.loaders:
            self.api.put(loader)
        fewest = scenario.fewest or len(scenario.machines)
        number = fewest + self.choices.below(len(scenario.machines) - fewest + 1)
        self.machines = scenario.machines[:number]
        for machine in self.machines:
            self.add_machine(machine)
        self.lead = self._lead() if scenario.fence is not None else None
        self.extenders = [self._start(number) for number in range(1 if self.lead is None else 2)]
        self.scheduler = self._schedule(0)

    @property
    def outcomes(self) -> Counter[BindOutcome]:
        """Return how binds ended."""
        return sum((extender.outcomes for extender in self.extenders), self._outcomes)

    @property
    def taken_back(self) -> Counter[Told]:
        """Return what came of taking nominations back."""
        return sum((extender.taken_back for extender in self.extenders), self._taken_back)

    @property
    def leader(self) -> int:
        """Return the number of the replica that leads, or did last."""
        return 0 if self.lead is None else self.lead.holder

    @property
    def extender(self) -> Extender:
        """Return the extender of the replica that leads."""
        return self.extenders[self.leader]

    def add(self, ask: Ask) -> None:
        """Create a pod that has a UID."""
        self.laws.asks[ask.pod.metadata.uid] = ask
        self.say(f"{ask.pod.metadata.name} comes, {ask.demand / 2**30:.0f} GiB")
        self.api.put(ask.pod)

    def restart(self) -> None:
        """End the process of the leader's extender and start another."""
        self.scheduler.extender = self._renew(self.leader)
        self.laws.waiting.goes_on(self.scheduler.extender)

    def lose_lead(self) -> None:
        """Let the leader lose the lead in one of several ways, if somebody leads."""
        if self.lead is None or not self.lead.stable:
            return
        loss = self.choices.one(tuple(Loss))
        self.say(f"{HOSTS[self.leader]} {loss}")
        self.scheduler.stop(stalled=loss is Loss.STALLED)
        if loss is Loss.KILLED:
            self._renew(self.leader)
        heir = self.lead.lose(loss)
        if self.faults.happens(30):  # what is in the way of one is often in the way of both
            away, listing = self.choices.between(1.0, 60.0), self.choices.between(0.01, 5.0)
            self.extenders[heir].pods.cut(away, listing)

    def _renew(self, number: int) -> Extender:
        old = self.extenders[number]
        self._outcomes += old.outcomes
        self._taken_back += old.taken_back
        self.laws.nominations.in_vain([])
        old.end()
        self.extenders[number] = self._start(number, old.skew)
        return self.extenders[number]

    def _taken(self, number: int) -> None:
        self.laws.nominations.in_vain([])
        self.scheduler = self._schedule(number)

    def _schedule(self, number: int) -> Scheduler:
        self.laws.waiting.leads(self.extenders[number])
        return Scheduler(
            self.extenders[number],
            api=self.api,
            kubelets=self.kubelets,
            timeline=self.timeline,
            choices=self.choices,
            faults=self.faults,
            delays=self.scenario.delays,
            asks=self.laws.asks,
            say=self.say,
        )

    def _lead(self) -> Lead:
        return Lead(
            timeline=self.timeline,
            choices=self.choices,
            skew=lambda number: self.extenders[number].skew if self.extenders else 0.0,
            taken=self._taken,
            say=self.say,
        )

    def add_machine(self, machine: Machine) -> None:
        """Create a node."""
        metadata = ObjectMeta(name=machine.name, creation_timestamp=self.api.stamp())
        status = NodeStatus(allocatable={"memory": machine.allocatable, "pods": 110})
        self.api.put(Node(metadata=metadata, status=status))

    def asked(self) -> list[Pod]:
        """Return the pods that were asked for: all but those of loaders."""
        return [pod for pod in self.api.all(Pod) if pod.metadata.uid in self.laws.asks]

    def check(self) -> None:
        """See that no law is broken at this moment."""
        self.laws.knowledge.check()
        if self.timeline.now - self._looked >= _LOOK_SECONDS:
            self._looked = self.timeline.now
            self.laws.nominations.in_vain(self._in_vain())

    def _in_vain(self) -> list[tuple[Pod, str]]:
        """Return whose nomination leads nowhere, and to where; nobody while nobody acts and sees.

        On a node that takes no pods it is in nobody's way. Who can be told nothing is left out.
        """
        if not self.extenders or not self._is_acting():
            return []
        found = []
        for pod in self.scheduler.waiting():
            node = pod.status.nominated_node_name
            if self._hangs(pod):
                continue
            if self.scheduler.takes_pods(node) and not self._leads_somewhere(pod, node):
                found.append((pod, node))
        return found

    def _leads_somewhere(self, pod: Pod, node: str) -> bool:
        """Tell whether a pod could run on a node, or will when those are gone that leave it."""
        leave = [p for p in self.api.all(Pod) if p.metadata.deletion_timestamp]
        gone = {p.metadata.uid for p in leave if p.spec.node_name == node}
        fits = node in self.scheduler.fitting(pod, without=gone)
        runs = fits and self.laws.truth.may_run(pod, node, without=gone)
        return runs or self.scheduler.makes_way(node, pod)

    def _is_acting(self) -> bool:
        """Tell whether somebody leads, acts, and sees."""
        stable = self.lead is None or self.lead.stable
        return stable and self.extender.acts() and self.sees()

    def sees(self) -> bool:
        """Tell whether the leader's extender was told of everything that is not quite new."""
        latest = self.scenario.delays.watch[1]
        return all(watch.age() <= latest for watch in self.extender.watches)

    def answers(self) -> bool:
        """Tell whether the leader's extender answers in time, and by what is so."""
        return self.sees() and not self.extender.overload.lasts()

    def could(self) -> dict[Law, list[str]]:
        """Return the pods that wait in vain, by the law that they break if that lasts.

        They could run by what is so, or could if others were evicted where kube-scheduler would,
        or if a loader were asked for their model. Who can be told nothing is left out.
        """
        runs, evicts, asks = [], [], []
        for pod in self.scheduler.waiting():
            if self._hangs(pod):
                continue
            names = self.scheduler.fitting(pod)
            if any(self.laws.truth.could_run(pod, name) for name in names):
                runs.append(pod.metadata.uid)
            elif self._could_evict(pod, names):
                evicts.append(pod.metadata.uid)
            elif self.scenario.on_demand and self.laws.truth.states(pod, names) == _ABSENT:
                asks.append(pod.metadata.uid)
        return {
            Law.NOBODY_WAITS: runs,
            Law.NOBODY_WAITS_FOR_ROOM: evicts,
            Law.NOBODY_WAITS_FOR_A_LOADER: asks,
        }

    def _hangs(self, pod: Pod) -> bool:
        return bool(self.scenario.hangs) and pod.metadata.namespace == self.scenario.hangs

    def _could_evict(self, pod: Pod, names: list[str]) -> bool:
        """Tell whether a pod could run in place of others, and is tried again when it is told."""
        scheduler, nominated = self.scheduler, pod.status.nominated_node_name
        comes = bool(nominated) and self._leads_somewhere(pod, nominated)
        if comes or not scheduler.heeds(pod.metadata.uid):
            return False
        return any(
            self.laws.truth.could_run(pod, name, without=victims.uids)
            for name, victims in scheduler.candidates(pod, names).items()
        )

    def say(self, text: str) -> None:
        """Note what happens, for people."""
        self.trace.append(f"{self.timeline.now - BEGIN:9.3f} s  {text}")

    def _loaders(self) -> Loaders:
        return Loaders(
            self.scenario.reported,
            on_demand=self.scenario.on_demand,
            api=self.api,
            timeline=self.timeline,
            choices=self.choices,
            delays=self.scenario.delays,
            say=self.say,
        )

    def _start(self, number: int, skew: float = 0.0) -> Extender:
        lead, make, timeline = self.lead, self.scenario.fence, self.timeline
        extender = Extender(
            self.scenario,
            api=self.api,
            timeline=timeline,
            choices=self.choices,
            faults=self.faults,
            laws=self.laws,
            say=self.say,
            skew=skew,
        )
        if lead is not None and make is not None:
            fence = make(HOSTS[number], lambda: timeline.now, extender.state.now)
            extender.fence_with(fence, lambda: lead.spec, self.lose_lead)
        return extender
