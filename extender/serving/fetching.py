"""Fetching on demand: the thread that asks loaders for what waiting pods need.

The wishes are an annotation on each node's Lease, which wakes nobody. They are worked out anew each
time from what the Leases say, so that nothing is lost with this process; written with the version
that was seen, so that nothing is overwritten that was not; and only while this process leads.

What one namespace holds, its Leases and its pods, keeps no loader from being asked for others: each
look writes so much at most, what pods wait for first, and the namespaces take turns; one where a
write was slow, or where none may be made, comes last and after a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from threading import Event, Thread

import msgspec
import structlog

from extender.cluster.view import Key
from extender.kube.objects import Lease
from extender.report import WANTED_ANNOTATION, Wanted, write
from extender.serving.left_alone import LeftAlone
from extender.serving.telling import ApiTelling, while_leading
from extender.serving.touching import CONNECT_SECONDS, WRITE_SECONDS
from extender.verbs.context import Context
from extender.waiting.fetching import Bounds
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.shares import in_turn
from extender.waiting.telling import Told, note
from extender.waiting.wishes import Models, changes
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.paths import MERGE_PATCH, lease_path

log = structlog.get_logger("extender.fetching")

TICK_SECONDS = 2.0

WRITES = 50
"""So many wishes are written at one look at most, so many taken off, and so many pods touched."""

REFUSED_SECONDS = 60.0
"""A namespace whose Leases may not be written is left alone for so long."""

SLOW_SECONDS = 1.0
LEFT_SECONDS = 10.0
"""One where a write took longer than the first is left alone for the second."""

MOST_SLOW = 3
"""After so many slow writes a look ends: the next one begins with who was not tried yet."""

_FORBIDDEN = 403
_CONFLICT = 409
_REMEDY = "give the extender's account the right to patch leases there, as deploy/loader does"
_SLOW_REMEDY = "look for an admission webhook for leases whose service does not run"


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
        self._slow = 0  # how many writes of this look were
        self._leases = LeftAlone(context.state.steady)
        self._marks = LeftAlone(context.state.steady)

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
        self._slow = 0
        for key in (*wishes, *withdrawals):
            if self._goes_on() and self._leases.may_write(key[0]):
                self._write(key, *found.leases[key])
        self._slow = 0
        turns = in_turn(found.unasked, lambda pod: pod.request.namespace)
        for pod in sorted(turns, key=lambda pod: pod.request.namespace in self._marks)[:WRITES]:
            if self._goes_on() and self._marks.may_write(pod.request.namespace):
                self._have_asked(pod)

    def _next(self, keys: Iterable[Key]) -> list[Key]:
        """Return which of these Leases are written now: those first that were tried longest ago.

        Where the last write was of no use, or slow, they come after all others.
        """
        turns = in_turn((key for key in keys if self._leases.may_write(key[0])), lambda key: key[0])

        def order(key: Key) -> tuple[bool, float]:
            return key[0] in self._leases, self._tried.get(key, -inf)

        return sorted(turns, key=order)[:WRITES]

    def _goes_on(self) -> bool:
        return self._slow < MOST_SLOW and not self._stopping.is_set()

    def _was_slow(self, since: float) -> bool:
        """Tell whether a write was slow that left then."""
        slow = self._context.state.steady() - since >= SLOW_SECONDS
        self._slow += slow
        return slow

    def _have_asked(self, pod: WaitingPod) -> None:
        """Have kube-scheduler ask about a pod: only it knows which nodes could run that."""
        request, state = pod.request, self._context.state
        since = state.steady()
        self._pods.touched(request.uid, state)
        word = self._telling.touch(request)
        if self._was_slow(since):
            self._marks.leave(request.namespace, LEFT_SECONDS)
        else:
            self._marks.written(request.namespace)
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
        self._tried[key] = since = self._context.state.steady()
        status, problem = self._patch(lease, models)
        conflict = status == _CONFLICT  # its loader renewed it meanwhile
        self._count("conflict" if conflict else "failed" if problem else "written")
        if not problem:
            self._log(key, before, models)
        if status == _FORBIDDEN:
            self._leave_alone(key, f"{problem}; {_REMEDY}", REFUSED_SECONDS)
        elif self._was_slow(since):
            self._leave_alone(key, f"{problem or 'written late'}; {_SLOW_REMEDY}", LEFT_SECONDS)
        elif not problem:
            self._leases.written(key[0])
        elif not conflict:
            log.warning(
                "loader not asked; it is tried again", node=key[1], loader=key[0], error=problem
            )

    def _patch(self, lease: Lease, models: Models) -> tuple[int | None, str]:
        """Write the wishes; return the status, where there is one, and what is wrong, in words."""
        text = write(Wanted(models=models)) if models else None
        metadata = {
            "resourceVersion": lease.metadata.resource_version,
            "annotations": {WANTED_ANNOTATION: text},
        }
        try:
            answer = self._transport.request(
                "PATCH",
                lease_path(lease.metadata.namespace, lease.metadata.name),
                body=msgspec.json.encode({"metadata": metadata}),
                headers=MERGE_PATCH,
                connect_timeout=CONNECT_SECONDS,
                read_timeout=WRITE_SECONDS,
                fence=self._fence,
            )
        except UnreachableError as error:
            return None, str(error)
        return (
            answer.status,
            "" if answer.ok else answer.problem().message or f"HTTP {answer.status}",
        )

    def _log(self, key: Key, before: Models, models: Models) -> None:
        old, new = ({(model.path, model.pod) for model in some} for some in (before, models))
        for path, pod in sorted(new - old):
            log.info("loader asked", node=key[1], loader=key[0], model=path, pod=pod)
        for path, pod in sorted(old - new):
            log.info("loader no longer asked", node=key[1], loader=key[0], model=path, pod=pod)

    def _leave_alone(self, key: Key, error: str, seconds: float) -> None:
        """Write nothing in a namespace for a while; that is said once, until a write is well."""
        if self._leases.leave(key[0], seconds):
            log.warning(
                "loaders of a namespace not asked; it is tried again and again",
                loader=key[0],
                node=key[1],
                seconds=seconds,
                error=error,
            )
