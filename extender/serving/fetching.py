"""Fetching on demand: the thread that asks loaders for what waiting pods need.

The wishes are an annotation on each node's Lease, which wakes nobody. They are worked out anew each
time from what the Leases say, so that nothing is lost with this process; written with the version
that was seen, so that nothing is overwritten that was not; and only while this process leads.

What one namespace holds, its Leases and its pods, keeps no loader from being asked for others: each
look writes so much at most, what pods wait for first, and the namespaces take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from threading import Event, Thread

import msgspec
import structlog
from cachetools import LRUCache

from extender.cluster.view import Key
from extender.report import WANTED_ANNOTATION, Wanted, write
from extender.serving.telling import ApiTelling, while_leading
from extender.verbs.context import Context
from extender.waiting.fetching import Bounds
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.telling import Told, note
from extender.waiting.wishes import Models, changes, in_turn
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.paths import MERGE_PATCH, lease_path

log = structlog.get_logger("extender.fetching")

TICK_SECONDS = 2.0

WRITES = 50
"""So many wishes are written at one look at most, so many taken off, and so many pods touched."""

REFUSED_SECONDS = 60.0
"""A namespace whose Leases may not be written is left alone for so long."""

_MAX_REFUSED = 1_000
_FORBIDDEN = 403
_CONFLICT = 409
_REMEDY = "give the extender's account the right to patch leases there, as deploy/loader does"


class Fetching:
    """Asks for one service's waiting pods while it leads. ``count`` is told each result."""

    def __init__(
        self,
        context: Context,
        pods: WaitingPods,
        transport: Transport,
        *,
        leads: Callable[[], bool],
        count: Callable[[str], None],
        bounds: Bounds | None = None,
    ) -> None:
        self._context = context
        self._pods = pods
        self._transport = transport
        self._leads = leads
        self._fence = while_leading(leads)
        self._telling = ApiTelling(transport, now=context.now, fence=self._fence)
        self._count = count
        self._bounds = bounds or Bounds()
        self._stopping = Event()
        self._tried: dict[Key, float] = {}
        self._refused: LRUCache[str, float] = LRUCache(_MAX_REFUSED)
        """Until when namespaces are left alone, those that were not written to since included."""

    def start(self) -> None:
        """Begin to ask; returns at once."""
        Thread(target=self._run, name="fetching", daemon=True).start()

    def stop(self) -> None:
        """End after the wish that is under way."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self.look()
            except Exception:
                log.exception("loaders could not be asked; it is tried again")

    def look(self) -> None:
        """Ask for what is needed now, and for nothing else any more."""
        context = self._context
        if context.unsynced() or context.stale() or not self._leads():
            return
        found = changes(context.state, self._pods, context.policy, self._bounds)
        self._tried = {key: at for key, at in self._tried.items() if key in found.leases}
        wishes = self._next(key for key in found.leases if not found.withdraws(key))
        withdrawals = self._next(key for key in found.leases if found.withdraws(key))
        for key in (*wishes, *withdrawals):
            if not self._stopping.is_set() and self._may_write(key):
                self._write(key, *found.leases[key])
        for pod in in_turn(found.unasked, lambda pod: pod.request.namespace)[:WRITES]:
            if not self._stopping.is_set():
                self._have_asked(pod)

    def _next(self, keys: Iterable[Key]) -> list[Key]:
        """Return which of these Leases are written now: those first that were tried longest ago."""
        turns = in_turn(filter(self._may_write, keys), lambda key: key[0])
        return sorted(turns, key=lambda key: self._tried.get(key, -inf))[:WRITES]

    def _may_write(self, key: Key) -> bool:
        return self._refused.get(key[0], -inf) <= self._context.state.steady()

    def _have_asked(self, pod: WaitingPod) -> None:
        """Have kube-scheduler ask about a pod: only it knows which nodes could run that."""
        request, state = pod.request, self._context.state
        self._pods.touched(request.uid, state)
        word = self._telling.touch(request)
        note(word, request.uid, self._pods, state)
        if word.told not in {Told.WRITTEN, Told.GONE}:
            log.warning(
                "pod not looked at again; it is tried in a minute",
                namespace=request.namespace,
                pod=request.name,
                error=word.error,
            )

    def _write(self, key: Key, before: Models, models: Models) -> None:
        lease = self._context.state.lease(key)
        if lease is None:
            return
        text = write(Wanted(models=models)) if models else None
        metadata = {
            "resourceVersion": lease.metadata.resource_version,
            "annotations": {WANTED_ANNOTATION: text},
        }
        self._tried[key] = self._context.state.steady()
        try:
            answer = self._transport.request(
                "PATCH",
                lease_path(key[0], lease.metadata.name),
                body=msgspec.json.encode({"metadata": metadata}),
                headers=MERGE_PATCH,
                connect_timeout=1.0,
                read_timeout=5.0,
                fence=self._fence,
            )
        except UnreachableError as error:
            self._failed(key, str(error))
            return
        if answer.ok:
            self._count("written")
            self._refused.pop(key[0], None)
            self._log(key, before, models)
        elif answer.status == _CONFLICT:  # its loader renewed it meanwhile
            self._count("conflict")
        else:
            problem = answer.problem().message or f"HTTP {answer.status}"
            if answer.status == _FORBIDDEN:
                self._leave_alone(key, problem)
            else:
                self._failed(key, problem)

    def _log(self, key: Key, before: Models, models: Models) -> None:
        old, new = ({(model.path, model.pod) for model in some} for some in (before, models))
        for path, pod in sorted(new - old):
            log.info("loader asked", node=key[1], loader=key[0], model=path, pod=pod)
        for path, pod in sorted(old - new):
            log.info("loader no longer asked", node=key[1], loader=key[0], model=path, pod=pod)

    def _leave_alone(self, key: Key, problem: str) -> None:
        """Write nothing in a namespace for a while; that is said once, until it may be written."""
        self._count("failed")
        if key[0] not in self._refused:
            log.warning(
                "loaders of a namespace not asked; it is tried again each minute",
                loader=key[0],
                node=key[1],
                error=f"{problem}; {_REMEDY}",
            )
        self._refused[key[0]] = self._context.state.steady() + REFUSED_SECONDS

    def _failed(self, key: Key, error: str) -> None:
        self._count("failed")
        log.warning("loader not asked; it is tried again", node=key[1], loader=key[0], error=error)
