"""One process's service: requests in, answers out, each decision logged and counted once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from extender.config import ExtenderConfiguration
from extender.serving.knowledge import Knowledge
from extender.serving.metrics import Metrics
from extender.serving.watched import Observer
from extender.verbs.context import Context
from extender.verbs.decision import Decision, DecisionLog
from extender.verbs.filter import filter_nodes
from extender.verbs.prioritize import prioritize_nodes
from extender.wire import ExtenderArgs, read_args, write_filter_result, write_priorities

log = structlog.get_logger("extender.decisions")

T = TypeVar("T")
Verb = Callable[[bytes], bytes]


class Service:
    """The verbs as functions of bytes, over one state."""

    def __init__(
        self,
        context: Context,
        knowledge: Knowledge,
        configuration: ExtenderConfiguration,
        *,
        observer: Observer | None = None,
    ) -> None:
        self.context = context
        self.knowledge = knowledge
        self.observer = observer
        self.configuration = configuration
        self.decisions = DecisionLog(configuration.server.recent_decisions)
        self.metrics = Metrics(context, knowledge)
        self.verbs: dict[str, Verb] = {"filter": self.filter, "prioritize": self.prioritize}

    def filter(self, body: bytes) -> bytes:
        """Answer ``POST /filter``."""
        args = read_args(body)
        result = self._timed(args, lambda: filter_nodes(args, self.context))
        return write_filter_result(result, args)

    def prioritize(self, body: bytes) -> bytes:
        """Answer ``POST /prioritize``."""
        args = read_args(body)
        return write_priorities(self._timed(args, lambda: prioritize_nodes(args, self.context)))

    def _timed(self, args: ExtenderArgs, decide: Callable[[], tuple[T, Decision | None]]) -> T:
        before = time.perf_counter()
        answer, made = decide()
        if made is None:
            pod = args.pod.metadata
            log.warning(
                "not synced",
                namespace=pod.namespace,
                pod=pod.name,
                missing=self.context.unsynced(),
            )
            return answer
        self.decisions.add(made)
        self.metrics.decided(made)
        self._log(made, time.perf_counter() - before)
        return answer

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
            "refused": made.refused,
            "examples": made.examples,
            "scores": made.scores,
            "stale": made.stale,
        }
        fields |= {key: value for key, value in details.items() if value}
        log.info("decision", **fields)
