"""Events on pods: what their authors should know, said seldom, and never while a request waits.

kube-scheduler's own event counts the refusals; it has no room for what to do about them. These
have the remedy. A thread of their own tells them, of pods that have waited for a while, within the
bounds of ``told``. An event's name is made of the pod, the reason and the hour: to a second
process, or to this one after a restart, the apiserver says that the event exists.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from threading import Event, Thread
from urllib.parse import quote

import msgspec
import structlog
from cachetools import FIFOCache

from extender.cluster.view import View
from extender.explain.remarks import (
    BEING_FETCHED,
    eviction_remark,
    evicts_in_vain,
    volume_remarks,
    waiting_remarks,
)
from extender.explain.volumes import Warned
from extender.kube.times import unix_time
from extender.placement.reasons import Reason
from extender.placement.request import PodRequest
from extender.placement.verdict import Judge
from extender.serving.telling import while_leading
from extender.serving.told import HOUR, Told, event_name
from extender.verbs.context import Context
from extender.waiting.pods import WaitingPods
from extender.waiting.shares import in_turn
from extender.watch.answers import Answer, UnreachableError
from extender.watch.client import Transport

log = structlog.get_logger("extender.events")

CONTROLLER = "modelcache.dev/extender"
LOOK_SECONDS = 5.0
WAITED_SECONDS = 10.0
"""What ends sooner deserves no event: a burst that is still being placed, a node that is new."""

MOST_FAILURES = 3
"""After so many events in one look that the apiserver failed to take, the rest waits for the next
look, and those that failed for longer (``told``): one bad pod hides no other, and an apiserver that
is ill is left in peace."""

MOST_PLACED = 1024
"""Of the pods that were bound, so many of which something is still to be said; the oldest go."""

_PAUSE_SECONDS = 0.05
_LONGEST_NOTE = 1024  # bytes: what events.k8s.io/v1 takes
_REMEDY = "give the service account the right to create events in events.k8s.io"


class Events:
    """Tells of one service's pods while it leads. ``count`` is given each reason and result."""

    def __init__(
        self,
        context: Context,
        pods: WaitingPods,
        transport: Transport,
        *,
        per_hour: int,
        leads: Callable[[], bool],
        count: Callable[[str, str], None],
    ) -> None:
        self._context = context
        self._pods = pods
        self._transport = transport
        self._told = Told(per_hour)
        self._leads = leads
        self._fence = while_leading(leads)
        self._count = count
        self._placed: deque[PodRequest] = deque(maxlen=MOST_PLACED)
        self._untold: FIFOCache[str, tuple[PodRequest, float]] = FIFOCache(MOST_PLACED)
        self._stopping = Event()
        self._instance = socket.gethostname()[:128]

    def start(self) -> None:
        """Begin to look; returns at once."""
        Thread(target=self._run, name="events", daemon=True).start()

    def stop(self) -> None:
        """End after the event that is under way."""
        self._stopping.set()

    def placed(self, request: PodRequest) -> None:
        """Have a pod looked at that was bound just now; it does not wait for anything."""
        self._placed.append(request)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:
                log.exception("events could not be told; they are tried again")

    def look(self) -> None:
        """Tell what there is to be said, until the apiserver does not listen."""
        if self._context.unsynced() or self._context.stale() or not self._leads():
            return
        failures = 0
        for request, remarks in self._subjects():
            for remark in remarks:
                if self._stopping.is_set():
                    return
                failures += not self._tell(request, remark)
                if failures >= MOST_FAILURES:
                    return

    def _subjects(self) -> Iterator[tuple[PodRequest, Iterable[Warned]]]:
        """Yield pods with what is to be said of them; those that ask for the same are read once."""
        now = self._context.now()
        yield from self._bound(now)
        waiting, view = self._pods.present(self._context.state), self._context.state.view()
        known: dict[tuple[str, int, frozenset[str]], list[Warned]] = {}
        for pod in in_turn(waiting, lambda pod: pod.request.namespace):
            if now - pod.since < WAITED_SECONDS or not pod.refused:
                continue
            request, refused = pod.request, frozenset(pod.refused)
            if self._told.passes(request.uid, request.namespace, now):
                continue
            key = request.namespace, id(request.workload), refused
            if key not in known:
                remark = partial(self._waiting_remarks, request, refused, view)
                known[key] = self._pods.apart.judge(request, remark, [])
            yield request, known[key]
        yield from self._in_vain(view)

    def _waiting_remarks(
        self, request: PodRequest, refused: Iterable[str], view: View
    ) -> list[Warned]:
        judge = Judge(request, view, self._context.policy)
        return list(waiting_remarks(judge, {Reason(each) for each in refused}))

    def _bound(self, now: float) -> Iterator[tuple[PodRequest, Iterable[Warned]]]:
        """Yield the pods that were bound lately, until all was said of them that is to be said."""
        while self._placed:
            request = self._placed.popleft()
            self._untold[request.uid] = request, now
        for uid, (request, since) in list(self._untold.items()):
            read = partial(list[Warned], volume_remarks(request))
            remarks: list[Warned] = self._pods.apart.judge(request, read, [])
            yield request, remarks
            later = any(
                self._told.later(uid, request.namespace, reason, now) for reason, _ in remarks
            )
            if not later or now - since >= HOUR:
                del self._untold[uid]

    def _in_vain(self, view: View) -> Iterator[tuple[PodRequest, Iterable[Warned]]]:
        """Yield the pods for which kube-scheduler would have evicted others, in vain.

        Where no node passed by its own count, filter was not asked, and they do not wait for us.
        """
        context, known = self._context, dict[tuple[str, int], list[Warned]]()
        for facts in context.state.pods():
            begun = unix_time(facts.created)
            if not evicts_in_vain(facts) or facts.scheduler not in context.schedulers:
                continue
            if begun is None or view.now - begun < WAITED_SECONDS:
                continue
            request = self._pods.apart.judge(facts, partial(context.request_of, facts), None)
            if request is None:
                continue
            key = facts.namespace, id(facts.workload)
            if key not in known:
                remark = partial(self._eviction_remarks, request, view)
                known[key] = self._pods.apart.judge(request, remark, [])
            yield request, known[key]

    def _eviction_remarks(self, request: PodRequest, view: View) -> list[Warned]:
        return [eviction_remark(Judge(request, view, self._context.policy))]

    def _tell(self, request: PodRequest, remark: Warned) -> bool:
        """Write one event unless it was said lately; return false where the apiserver failed."""
        (reason, message), now = remark, self._context.now()
        subject = request.uid, request.namespace, reason, message
        if not self._told.take(*subject, now):
            if self._told.leaves_out(*subject, now):
                self._count(reason, "untold")
            return True
        try:
            answer = self._create(request, reason, message, now)
        except UnreachableError as error:
            problem = str(error)
        else:
            if answer.ok or answer.status == 409:
                self._count(reason, "told" if answer.ok else "known")
                return True
            problem = answer.problem().message or f"HTTP {answer.status}"
            if answer.status == 403:
                problem = f"{problem}; {_REMEDY}"
            if answer.status < 500 and answer.status != 429:
                # It will say the same of this one in a minute; the others are heard all the same.
                self._failed(request, reason, problem)
                return True
        self._told.undo(*subject, now)
        self._failed(request, reason, problem)
        return False

    def _failed(self, request: PodRequest, reason: str, problem: str) -> None:
        self._count(reason, "failed")
        log.warning(
            "event not told",
            namespace=request.namespace,
            pod=request.name,
            reason=reason,
            error=problem,
        )

    def _create(self, request: PodRequest, reason: str, message: str, now: float) -> Answer:
        self._stopping.wait(_PAUSE_SECONDS)
        document = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "namespace": request.namespace,
                "name": event_name(request.name, request.uid, reason, now),
            },
            "eventTime": datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds"),
            "type": "Normal" if reason == BEING_FETCHED else "Warning",
            "reason": reason,
            "action": "Scheduling",
            "note": message.encode()[:_LONGEST_NOTE].decode(errors="ignore"),
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": request.namespace,
                "name": request.name,
                "uid": request.uid,
            },
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
        }
        namespace = quote(request.namespace, safe="")
        return self._transport.request(
            "POST",
            f"/apis/events.k8s.io/v1/namespaces/{namespace}/events",
            body=msgspec.json.encode(document),
            connect_timeout=1.0,
            read_timeout=5.0,
            fence=self._fence,
        )
