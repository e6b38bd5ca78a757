"""One process's service: requests in, answers out, each decision logged and counted once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from extender.config import ExtenderConfiguration
from extender.kube.objects import Pod
from extender.serving.arrival import seconds_since_begin
from extender.serving.bindings import SEND_SECONDS, ApiBindings
from extender.serving.events import Events
from extender.serving.fetching import Fetching
from extender.serving.knowledge import Knowledge
from extender.serving.leadership import Alone, Leadership
from extender.serving.metrics import Metrics
from extender.serving.settling import Settling
from extender.serving.waking import Waking
from extender.serving.watched import Observer
from extender.verbs.bind import bind
from extender.verbs.context import TOO_LATE, Context, Late
from extender.verbs.decision import Decision, DecisionLog
from extender.verbs.filter import filter_nodes
from extender.verbs.preempt import no_eviction, preempt
from extender.verbs.prioritize import prioritize_nodes
from extender.waiting.pods import WaitingPods
from extender.waiting.rounds import Lead
from extender.watch.client import Transport
from extender.wire import (
    ExtenderArgs,
    PreemptArgs,
    read_args,
    read_bind_args,
    read_preempt_args,
    write_bind_result,
    write_filter_result,
    write_preempt_result,
    write_priorities,
)

log = structlog.get_logger("extender.decisions")

AT_ONCE_SECONDS = 0.5
"""What has waited no longer than this has come at once: a short ``deadlineSeconds`` is no reason
never to bind."""

T = TypeVar("T")
Verb = Callable[[bytes | memoryview], bytes]


class Service:
    """The verbs as functions of bytes, over one state."""

    def __init__(
        self,
        context: Context,
        knowledge: Knowledge,
        configuration: ExtenderConfiguration,
        *,
        observer: Observer | None = None,
        bindings: ApiBindings | None = None,
        leadership: Leadership | None = None,
    ) -> None:
        self.context = context
        self.knowledge = knowledge
        self.observer = observer
        self.configuration = configuration
        self.decisions = DecisionLog(configuration.server.recent_decisions)
        self.waiting = WaitingPods()
        self.metrics = Metrics(context, knowledge, self.waiting)
        self._waking: Waking | None = None
        self._events: Events | None = None
        self._fetching: Fetching | None = None
        self._bindings = bindings
        self._settling = Settling(context.state, bindings.written) if bindings else None
        self._leadership = leadership
        self._lead: Lead = leadership or Alone()
        self.verbs: dict[str, Verb] = {
            "filter": self.filter,
            "prioritize": self.prioritize,
            "bind": self.bind,
            "preempt": self.preempt,
        }

    def wake_through(self, transport: Transport) -> None:
        """Wake refused pods through this transport once the service starts."""
        section = self.configuration.waking
        self._waking = Waking(
            self.context,
            self.waiting,
            transport,
            schedulers=section.scheduler_names,
            per_second=section.per_second,
            lead=self._lead,
            count=lambda result: self.metrics.wakes.labels(result).inc(),
            count_taken_back=lambda result: self.metrics.takebacks.labels(result).inc(),
        )

    def tell_through(self, transport: Transport) -> None:
        """Write events on pods through this transport once the service starts."""
        self._events = Events(
            self.context,
            self.waiting,
            transport,
            per_hour=self.configuration.events.per_hour,
            leads=self._lead.leads,
            count=lambda reason, result: self.metrics.events.labels(reason, result).inc(),
        )

    def fetch_through(self, transport: Transport) -> None:
        """Ask loaders through this transport for what waiting pods need once the service starts."""
        self._fetching = Fetching(
            self.context,
            self.waiting,
            transport,
            leads=self._lead.leads,
            count=lambda result: self.metrics.wishes.labels(result).inc(),
        )

    def start(self) -> None:
        """Begin to fill the state, to follow the lease and to wake pods."""
        self.knowledge.start()
        if self._leadership is not None:
            self._leadership.start()
        for part in (self._waking, self._events, self._fetching, self._settling):
            if part is not None:
                part.start()

    def stop(self) -> None:
        """Stop all of it."""
        for part in (self._waking, self._events, self._fetching, self._settling):
            if part is not None:
                part.stop()
        if self._leadership is not None:
            self._leadership.stop()
        self.knowledge.stop()

    def filter(self, body: bytes | memoryview) -> bytes:
        """Answer ``POST /filter``."""
        late = self._deadline()
        args = read_args(body)
        result, made = self._timed(args.pod, lambda: filter_nodes(args, self.context, late=late))
        if made is not None:
            self._note_waiting(made, args)
        return write_filter_result(result, args)

    def prioritize(self, body: bytes | memoryview) -> bytes:
        """Answer ``POST /prioritize``."""
        late = self._deadline()
        args = read_args(body)
        ranking, _ = self._timed(args.pod, lambda: prioritize_nodes(args, self.context, late=late))
        return write_priorities(ranking)

    def preempt(self, body: bytes | memoryview) -> bytes:
        """Answer ``POST /preempt``."""
        late = self._deadline()
        args = read_preempt_args(body)
        kept, made = self._timed(args.pod, lambda: preempt(args, self.context, late=late))
        if kept:
            self.waiting.lost.drop_of(args.pod.metadata.uid)
        else:
            self._note_no_eviction(args, made)
        return write_preempt_result(kept)

    def bind(self, body: bytes | memoryview) -> bytes:
        """Answer ``POST /bind``. A "no" is an answer too; kube-scheduler tries the pod again."""
        late = self._deadline(then=SEND_SECONDS)
        args = read_bind_args(body)
        if self._bindings is None:
            return write_bind_result("this extender runs without a cluster to bind in")
        begun = time.perf_counter()
        bound = bind(args, self.context, self._bindings, late=late)
        self.metrics.binds.labels(bound.outcome.value).inc()
        if bound.doubt is not None and self._settling is not None:
            self._settling.add(bound.doubt)
        seconds = time.perf_counter() - begun
        if bound.decision is not None:
            self._decided(bound.decision, seconds)
            if not bound.error:
                before = (self.decisions.of(args.uid, verb) for verb in ("filter", "prioritize"))
                self.metrics.placed(bound.decision, before)
        request = self.context.remembered(args.uid)
        if self._events is not None and request is not None and not bound.error:
            self._events.placed(request)
        if bound.error:
            log.warning(
                "not bound",
                namespace=args.namespace,
                pod=args.name,
                node=args.node,
                outcome=bound.outcome.value,
                error=bound.error,
                milliseconds=round(seconds * 1000, 2),
            )
        return write_bind_result(bound.error)

    def _deadline(self, *, then: float = 0.0) -> Late:
        """Return when to give up: the scheduler has waited since its request began to arrive.

        ``then`` is what may follow and cannot be cut short, in seconds. It is begun while it ends
        in time, and by what did not have to wait in any case.
        """
        within = max(self.configuration.server.deadline_seconds - then, AT_ONCE_SECONDS)
        end = time.monotonic() + within - seconds_since_begin()
        return lambda: time.monotonic() > end

    def _note_waiting(self, made: Decision, args: ExtenderArgs) -> None:
        """Remember a pod that was refused everywhere; one that passed somewhere waits no more."""
        request = self.context.remembered(made.uid)
        by = self.waiting.retried_by(made.uid)
        if by is not None:
            self.metrics.retries.labels(by).inc()
        if made.passed or not made.asked:
            self.waiting.drop(made.uid)
        elif request is not None:
            self.context.state.let_go(made.uid)  # it does not go where it was expected
            self.waiting.refuse(
                request,
                asked=args.names,
                nodes=self.context.state.view().nodes,
                refused=made.refused,
                examples=made.examples,
                created=args.pod.metadata.creation_timestamp,
                now=made.time,
                steady=self.context.state.steady(),
            )
            self._look_soon()

    def _note_no_eviction(self, args: PreemptArgs, made: Decision | None) -> None:
        """Remember which evictions were not worth it, or that it is not known of any."""
        nodes = self.context.state.view().nodes
        self.waiting.refuse_preemption(no_eviction(args, made, self.context), nodes=nodes)
        self._look_soon()

    def _look_soon(self) -> None:
        if self._waking is not None:
            self._waking.look()

    def _timed(
        self, asked: Pod, decide: Callable[[], tuple[T, Decision | None]]
    ) -> tuple[T, Decision | None]:
        before = time.perf_counter()
        answer, made = decide()
        if made is None:
            pod = asked.metadata
            missing = self.context.unsynced()
            log.warning(
                "not decided",
                namespace=pod.namespace,
                pod=pod.name,
                reason="not listed yet" if missing else TOO_LATE,
                missing=missing,
            )
            return answer, None
        self._decided(made, time.perf_counter() - before)
        return answer, made

    def _decided(self, made: Decision, seconds: float) -> None:
        self.decisions.add(made)
        self.metrics.decided(made)
        self._log(made, seconds)

    def _log(self, made: Decision, seconds: float) -> None:
        fields: dict[str, object] = {
            "verb": made.verb,
            "namespace": made.namespace,
            "pod": made.pod,
            "strategy": made.strategy.value,
            "need": made.need.value,
            "model": made.model,
            "asked": made.asked,
            "passed": made.passed,
            "milliseconds": round(seconds * 1000, 2),
        }
        details = {
            "offered": made.offered,
            "node": made.node,
            "refused": made.refused,
            "examples": made.examples,
            "scores": made.scores,
            "stale": made.stale,
        }
        fields |= {key: value for key, value in details.items() if value}
        log.info("decision", **fields)
