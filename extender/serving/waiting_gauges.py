"""Gauges of the pods that wait, whoever keeps them waiting: computed when they are scraped."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Collection, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from extender.cluster.view import PodFacts, View
from extender.kube.times import unix_time
from extender.placement.reasons import Reason
from extender.serving.families import PREFIX, gauge
from extender.serving.unscheduled import (
    Unscheduled,
    unscheduled_pods,
    why_refused,
    why_unscheduled,
)
from extender.verbs.context import Context
from extender.waiting.pods import WaitingPods

WHY: tuple[str, ...] = (*Reason, *Unscheduled)

Why = Collection[str]


class WaitingGauges:
    """Reads one service's waiting pods."""

    def __init__(self, context: Context, waiting: WaitingPods) -> None:
        self._context = context
        self._waiting = waiting
        self._gated: dict[str, float] = {}

    def collect(self, view: View) -> Iterator[Metric]:
        """Yield the gauges of this moment."""
        now = self._context.now()
        pods = list(self._pods(view, now))
        yield gauge(
            "waiting_pods",
            "Pods without a node, refused here or not, whose scheduler asks this program.",
            (),
            [((), len(pods))],
        )
        reasons = Tally(reason for why, _ in pods for reason in why)
        yield gauge(
            "waiting_pods_by_reason",
            "Pods without a node, by reason; a pod counts once under each of its reasons.",
            ("reason",),
            (((reason,), reasons[reason]) for reason in WHY),
        )
        longest = dict.fromkeys(WHY, 0.0)
        for why, since in pods:
            for reason in why:
                longest[reason] = max(longest[reason], now - since)
        yield gauge(
            "waiting_longest_seconds",
            "Seconds that what waits longest has waited, by reason; 0 without a pod. From the "
            "first refusal here, else from its creation, or its last moment behind a scheduling "
            "gate.",
            ("reason",),
            (((reason,), seconds) for reason, seconds in longest.items()),
        )

        yield CounterMetricFamily(
            f"{PREFIX}_waiting_forgotten",
            "Pods that were refused here and forgotten for want of room: they are not woken until "
            "there is some again.",
            value=self._waiting.forgotten,
        )

        yield CounterMetricFamily(
            f"{PREFIX}_left_out",
            "Times that this program failed at one pod, by a fault of its own, and left it out "
            "where it looks at all of them: who is woken, what is fetched, what is told.",
            value=self._waiting.apart.failures,
        )

    def _pods(self, view: View, now: float) -> Iterator[tuple[Why, float]]:
        """Yield each waiting pod's reasons, and since when it waits, in UNIX seconds."""
        context, state = self._context, self._context.state
        refused = self._waiting.present(state, blind=bool(context.stale()))
        for pod in refused:
            yield why_refused(pod, state.pod(pod.request.uid), view), pod.since
        others = unscheduled_pods(state.pods(), context.schedulers, refused)
        self._gated = self._seen_gated(others, now)
        for facts in others:
            begun = unix_time(facts.created)
            let_go = 0.0 if facts.gated else self._gated.get(facts.uid, 0.0)
            yield why_unscheduled(facts, view), max(let_go, now if begun is None else begun)

    def _seen_gated(self, pods: Iterable[PodFacts], now: float) -> dict[str, float]:
        """Return when each pod was last seen behind its gates: a queue may have them for hours."""
        seen = {facts.uid: now if facts.gated else self._gated.get(facts.uid) for facts in pods}
        return {uid: at for uid, at in seen.items() if at is not None}
