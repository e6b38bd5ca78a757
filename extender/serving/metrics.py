"""Metrics as a person would ask. Prefix ``model_cache_extender_``; no label grows with pods."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, product

from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from extender import __version__
from extender.cluster.corrections import Basis
from extender.cluster.holdings import Evidence, Holding, ModelState
from extender.cluster.starts import Spread
from extender.cluster.tiers import WARM
from extender.placement.reasons import Reason
from extender.serving.families import PREFIX, gauge
from extender.serving.knowledge import Knowledge
from extender.serving.logs import LOST_LINES
from extender.serving.waiting_gauges import WaitingGauges
from extender.verbs.bind import BindOutcome
from extender.verbs.context import Context
from extender.verbs.decision import Decision
from extender.verbs.observe import Outcome
from extender.waiting.pods import WaitingPods
from extender.workload.model import Strategy

_WATCH_COUNTERS = (
    "relists", "reconnects", "failures", "events", "unreadable", "audits",
)  # fmt: skip
_VERBS = ("filter", "prioritize", "bind", "preempt")
_OUTCOMES = ("all", "some", "none")
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, context: Context, knowledge: Knowledge, waiting: WaitingPods) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(LOST_LINES)
        self.requests = Counter(
            f"{PREFIX}_requests",
            "Requests answered, by verb and HTTP status.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            f"{PREFIX}_request_duration_seconds",
            "Time from the first byte read to the answer.",
            ["verb"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.decisions = Counter(
            f"{PREFIX}_decisions",
            "Decisions by verb, strategy and outcome: all, some or none of the nodes pass.",
            ["verb", "strategy", "outcome"],
            registry=self.registry,
        )
        self.refused = Counter(
            f"{PREFIX}_nodes_refused",
            "Nodes refused by filter, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.binds = Counter(
            f"{PREFIX}_binds",
            "Binds by outcome: bound, or refused, fenced, notSent, gone, boundElsewhere, error, "
            "unknown.",
            ["outcome"],
            registry=self.registry,
        )
        self.wakes = Counter(
            f"{PREFIX}_wakes",
            "Waiting pods that were woken, by result: touched, nominated, gone, failed.",
            ["result"],
            registry=self.registry,
        )
        self.takebacks = Counter(
            f"{PREFIX}_takebacks",
            "Nominations that led nowhere, by what came of taking one back: written, overtaken, "
            "gone (with the pod), failed.",
            ["result"],
            registry=self.registry,
        )
        self.wishes = Counter(
            f"{PREFIX}_wishes",
            "Changes of what loaders are asked to fetch, by result: written, conflict, failed.",
            ["result"],
            registry=self.registry,
        )
        self.retries = Counter(
            f"{PREFIX}_retries",
            "Filter calls about pods that had been refused on every node, by who had them tried "
            "again: woken by this program, or kube-scheduler by itself.",
            ["by"],
            registry=self.registry,
        )
        self.events = Counter(
            f"{PREFIX}_events",
            "Events on pods, by reason and result: told, known (there was one), "
            "failed, untold (no more were to be told in this hour).",
            ["reason", "result"],
            registry=self.registry,
        )
        self.observed = Counter(
            f"{PREFIX}_observed_pods",
            "Shadow mode: pods that some scheduler bound, by what this program would have said.",
            ["strategy", "outcome"],
            registry=self.registry,
        )
        self.saved = Counter(
            f"{PREFIX}_observed_saved_seconds",
            "Shadow mode: estimated seconds that the best node would have saved.",
            ["strategy"],
            registry=self.registry,
        )
        Info(f"{PREFIX}_build", "Version of this program.", registry=self.registry).info(
            {"version": __version__}
        )
        self.bound = Counter(
            f"{PREFIX}_bound_pods",
            "Pods bound, by strategy and start: warm (the model was on the node), cold, unknown.",
            ["strategy", "start"],
            registry=self.registry,
        )
        self.won = Counter(
            f"{PREFIX}_saved_seconds",
            "Estimated seconds saved against the slowest node that pods could have gone to.",
            ["strategy"],
            registry=self.registry,
        )
        self._begin_at_zero()
        self.registry.register(_ClusterCollector(context, knowledge, waiting))

    def _begin_at_zero(self) -> None:
        """Make every series whose labels are known: the first increment is one to see, too."""
        for counter, values in (
            (self.decisions, (_VERBS, Strategy, _OUTCOMES)),
            (self.refused, (Reason,)),
            (self.binds, (BindOutcome,)),
            (self.wakes, (("touched", "nominated", "gone", "failed"),)),
            (self.takebacks, (("written", "overtaken", "gone", "failed"),)),
            (self.wishes, (("written", "conflict", "failed"),)),
            (self.retries, (("woken", "scheduler"),)),
            (self.observed, (Strategy, Outcome)),
            (self.saved, (Strategy,)),
            (self.bound, (Strategy, ("warm", "cold", "unknown"))),
            (self.won, (Strategy,)),
        ):
            for labels in product(*values):
                counter.labels(*labels)

    def answered(self, verb: str, code: int, seconds: float) -> None:
        """Count one request of a verb."""
        self.requests.labels(verb, str(code)).inc()
        self.seconds.labels(verb).observe(seconds)

    def placed(self, made: Decision, before: Iterable[Decision | None]) -> None:
        """Count a pod that was bound; ``before`` is what filter and prioritize said of it."""
        start = _START[made.tier in WARM] if made.tier is not None else "unknown"
        self.bound.labels(made.strategy.value, start).inc()
        slow = [said.slowest for said in before if said is not None and said.slowest is not None]
        if slow and made.node in made.starts:
            saved = max(0.0, max(slow) - made.starts[made.node])
            self.won.labels(made.strategy.value).inc(saved)

    def decided(self, made: Decision) -> None:
        """Count one decision."""
        outcome = "all" if made.passed == made.asked else "some" if made.passed else "none"
        self.decisions.labels(made.verb, made.strategy.value, outcome).inc()
        for reason, number in made.refused.items():
            self.refused.labels(reason).inc(number)


_START = {True: "warm", False: "cold"}


class _ClusterCollector(Collector):
    """Gauges computed when they are scraped."""

    def __init__(self, context: Context, knowledge: Knowledge, waiting: WaitingPods) -> None:
        self._context = context
        self._waiting = waiting
        self._waits = WaitingGauges(context, waiting)
        self._knowledge = knowledge

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of this moment."""
        view = self._context.state.view()
        held = view.inventory.holdings()
        models = Tally((one.state, one.evidence) for rows in held.values() for one in rows)
        yield gauge(
            "models",
            "Models on nodes.",
            ("state", "evidence"),
            ((key, models[key]) for key in product(ModelState, Evidence)),
        )
        yield from _bytes(one for rows in held.values() for one in rows)
        yield gauge("nodes", "Nodes known.", (), [((), len(view.nodes))])
        yield gauge(
            "memory_allocatable_bytes",
            "Allocatable memory of all nodes.",
            (),
            [((), sum(node.allocatable for node in view.nodes.values()))],
        )
        yield gauge(
            "memory_promised_bytes",
            "Memory that the pods of all nodes may take.",
            (),
            [((), sum(node.promised for node in view.nodes.values()))],
        )
        yield gauge(
            "reserved_pods",
            "Pods with memory kept for them between decision and binding.",
            (),
            [((), self._context.state.reserved())],
        )
        yield gauge(
            "unreadable_objects",
            "Objects that could not be read.",
            (),
            [((), len(self._context.state.problems()))],
        )
        yield gauge(
            "lost_nominations",
            "Nominations that lead nowhere and keep others out, still to be taken back.",
            (),
            [((), self._waiting.lost.count())],
        )
        yield from self._waits.collect(view)
        yield from self._starts()
        seen = self._knowledge.resources()
        yield gauge(
            "watch_synced",
            "1 once a resource has been listed.",
            ("resource",),
            (((row.resource,), int(row.synced)) for row in seen),
        )
        yield gauge(
            "watch_age_seconds",
            "Seconds since anything was heard of a resource.",
            ("resource",),
            (((row.resource,), row.age_seconds) for row in seen if row.age_seconds is not None),
        )
        for counter in _WATCH_COUNTERS:
            family = CounterMetricFamily(
                f"{PREFIX}_watch_{counter}", f"Watch {counter} by resource.", labels=["resource"]
            )
            for row in seen:
                family.add_metric([row.resource], getattr(row, counter))
            yield family
        drift = CounterMetricFamily(
            f"{PREFIX}_watch_drifted",
            "Objects that an audit found wrongly known, by resource: missing, phantom, different.",
            labels=["resource", "drift"],
        )
        for row in seen:
            for kind, number in row.drifted.items():
                drift.add_metric([row.resource, kind], number)
        yield drift
        yield gauge(
            "stale",
            "1 while decisions are made with knowledge older than the bound.",
            (),
            [((), int(bool(self._context.stale())))],
        )

    def _starts(self) -> Iterator[Metric]:
        """Yield estimated against actual starts."""
        seen = self._context.state.starts_seen()
        factor = self._context.state.view().corrections.factor
        yield _histogram(
            "start_duration_seconds",
            "Bound to Ready, of pods that this program bound.",
            {basis: found.actual for basis, (found, _) in seen.items()},
        )
        yield _histogram(
            "start_difference_seconds",
            "Bound to Ready, less what had been estimated; negative where it was sooner.",
            {basis: found.difference for basis, (found, _) in seen.items()},
        )
        yield gauge(
            "start_correction",
            "Factor by which later estimates are corrected.",
            _BASIS,
            (
                (_labels(basis), factor(basis.strategy, basis.evidence, basis.tier))
                for basis in seen
            ),
        )


def _bytes(holdings: Iterable[Holding]) -> Iterator[Metric]:
    """Yield what lies on all nodes, as often as it does, and once."""
    copies, once = 0, dict[str, int]()
    for held in holdings:
        if held.state is ModelState.READY and held.bytes:
            copies += held.bytes
            name = held.model or held.path
            once[name] = max(once.get(name, 0), held.bytes)
    text = "Bytes of whole models on all nodes, as far as loaders report them."
    yield gauge("held_bytes", text, (), [((), copies)])
    text = "Bytes of whole models on all nodes, each model counted once."
    yield gauge("distinct_bytes", text, (), [((), sum(once.values()))])


_BASIS = ("strategy", "evidence", "tier")


def _labels(basis: Basis) -> tuple[str, ...]:
    evidence = basis.evidence.value if basis.evidence is not None else "none"
    return basis.strategy.value, evidence, basis.tier.value


def _histogram(
    name: str, documentation: str, spreads: Mapping[Basis, Spread]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"{PREFIX}_{name}", documentation, labels=_BASIS)
    for basis, spread in spreads.items():
        bounds = [*map(str, spread.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(spread.counts), strict=True))
        family.add_metric(_labels(basis), buckets, sum_value=spread.sum)
    return family
