"""The live cluster as knowledge: the watch, and shadow mode beside it."""

from __future__ import annotations

import gc
from collections import deque
from threading import Event, Lock, Thread

import structlog

from extender.cluster.state import ClusterState
from extender.kube.draft import Draft
from extender.kube.objects import KubeObject, ObjectMeta, Pod
from extender.serving.knowledge import ResourceKnowledge
from extender.serving.metrics import Metrics
from extender.verbs.context import Context
from extender.verbs.observe import Observation, Report, observe
from extender.watch.client import Transport
from extender.watch.reflector import Sink
from extender.watch.resources import PODS
from extender.watch.watching import Watching

log = structlog.get_logger("extender.watched")

_SYNC_STEP_SECONDS = 1.0
_KEPT_OBSERVATIONS = 500


class WatchKnowledge:
    """Fills a state from the apiserver; old after ``bound`` seconds of silence.

    Nothing is listed in the first ``settle`` seconds after the start.
    """

    def __init__(
        self, transport: Transport, sink: Sink, *, bound: float, settle: float = 0.0
    ) -> None:
        self._watching = Watching(transport, sink)
        self._bound = bound
        self._settle = settle
        self._stopping = Event()

    def start(self) -> None:
        """Begin to list and watch, once things have settled; returns at once."""
        Thread(target=self._run, name="knowledge", daemon=True).start()

    def stop(self) -> None:
        """Cut every watch."""
        self._stopping.set()
        self._watching.stop()

    def wait_synced(self, seconds: float) -> bool:
        """Wait until everything was listed once, at most so many seconds."""
        return self._watching.wait_synced(seconds)

    def unsynced(self) -> tuple[str, ...]:
        """Name the resources that have not been listed yet."""
        if self._watching.synced:
            return ()
        return tuple(one.kind for one in self._watching.freshness() if not one.synced)

    def stale(self) -> tuple[str, ...]:
        """Name the resources not heard of for longer than the bound."""
        return tuple(one.kind for one in self._watching.stale(self._bound) if one.synced)

    def pods_version(self) -> str | None:
        """Return the version up to which pods are known; None before they were listed (anew)."""
        return self._watching.version(PODS)

    def resources(self) -> list[ResourceKnowledge]:
        """Return every resource's freshness."""
        return [
            ResourceKnowledge(
                resource=one.kind,
                synced=one.synced,
                age_seconds=one.age_seconds,
                error=one.last_error,
                relists=one.relists,
                reconnects=one.reconnects,
                failures=one.failures,
                events=one.events,
                unreadable=one.unreadable,
                audits=one.audits,
                drifted={kind.value: number for kind, number in one.drifted.items()},
            )
            for one in self._watching.freshness()
        ]

    def _run(self) -> None:
        if not self._stopping.wait(self._settle):
            self._watching.start()
            self._freeze()

    def _freeze(self) -> None:
        """Once listed, keep what stays for long out of the garbage collector's walks."""
        while not self._stopping.is_set() and not self._watching.wait_synced(_SYNC_STEP_SECONDS):
            pass
        if not self._stopping.is_set():
            gc.collect()
            gc.freeze()
            log.info("synced", resources=[one.kind for one in self._watching.freshness()])


class Observer:
    """A sink in front of the state: judges each pod at the moment some scheduler has bound it."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._context: Context | None = None
        self._metrics: Metrics | None = None
        self._lock = Lock()
        self._recent: deque[Observation] = deque(maxlen=_KEPT_OBSERVATIONS)
        self._report = Report()

    def attach(self, context: Context, metrics: Metrics) -> None:
        """Say what to judge with and where to count; nothing is judged before."""
        self._metrics = metrics
        self._context = context

    def recent(self) -> list[Observation]:
        """Return the latest observations, newest first."""
        with self._lock:
            return list(reversed(self._recent))

    def report(self) -> Report:
        """Return the sums."""
        return self._report

    def listing(self, kind: type[KubeObject]) -> Draft:
        """Pass a list on; what was bound before is not judged."""
        return self._state.listing(kind)

    def upsert(self, obj: KubeObject) -> None:
        """Judge a pod that was waiting and is bound now, then pass it on."""
        if isinstance(obj, Pod) and obj.spec.node_name:
            before = self._state.pod(obj.metadata.uid)
            if before is not None and not before.node:
                self._judge(obj)
        self._state.upsert(obj)

    def delete(self, obj: KubeObject) -> None:
        """Pass it on."""
        self._state.delete(obj)

    def knows(self, obj: KubeObject) -> bool:
        """Pass the question on."""
        return self._state.knows(obj)

    def differs(self, obj: KubeObject) -> bool:
        """Pass the question on."""
        return self._state.differs(obj)

    def unreadable(self, kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        """Pass it on."""
        self._state.unreadable(kind, metadata, error)

    def _judge(self, pod: Pod) -> None:
        if self._context is None or self._metrics is None or self._context.unsynced():
            return
        seen = observe(pod, self._context)
        with self._lock:
            self._recent.append(seen)
            self._report.add(seen)
        self._metrics.observed.labels(seen.strategy.value, seen.outcome.value).inc()
        self._metrics.saved.labels(seen.strategy.value).inc(seen.saved)
        log.info(
            "observed",
            namespace=seen.namespace,
            pod=seen.pod,
            scheduler=seen.scheduler,
            model=seen.model,
            node=seen.node,
            outcome=seen.outcome.value,
            reason=seen.reason,
            estimated_seconds=seen.estimated,
            best_node=seen.best,
            best_seconds=seen.best_estimated,
            saved_seconds=round(seen.saved, 1),
            candidates=seen.candidates,
        )
