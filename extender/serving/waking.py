"""Waking: the thread that touches waiting pods as soon as what they wait for is true.

kube-scheduler tries a pod again at once when the pod itself changes. So ``nominatedNodeName`` is
written to it where one node alone is right, and else the annotation ``modelcache.dev/requeued-at``.
Both go through ``pods/status``: a right that cannot change its spec. They are spread by a rate
limit; what is left over is woken next.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

import msgspec
import structlog

from extender.placement.request import PodRequest
from extender.serving.touching import CONNECT_SECONDS, WRITE_SECONDS, touch
from extender.verbs.context import Context
from extender.waiting.nominate import Nominations
from extender.waiting.pods import WaitingPod, WaitingPods
from extender.waiting.wake import Waker
from extender.watch.answers import Answer, UnreachableError
from extender.watch.client import Transport
from extender.watch.paths import pod_path

log = structlog.get_logger("extender.waking")

TICK_SECONDS = 1.0
GATHER_SECONDS = 0.02
"""Events come in crowds; so long they are gathered before anything is judged."""

_JSON_PATCH = {"Content-Type": "application/json-patch+json"}
_TEST_FAILED = 422
_NOT_FOUND = 404
"""A 409 proves nothing: the apiserver gives it for another pod by that name, of which the watch
tells soon, and for a write that met others again and again (its endpoints/handlers/patch.go)."""


class Waking:
    """Wakes the refused pods of one service while it leads. ``count`` is told each result."""

    def __init__(
        self,
        context: Context,
        pods: WaitingPods,
        transport: Transport,
        *,
        schedulers: tuple[str, ...],
        per_second: float,
        leads: Callable[[], bool],
        count: Callable[[str], None],
    ) -> None:
        self._pods = pods
        self._context = context
        self._transport = transport
        self._schedulers = frozenset(schedulers)
        self._pause = 1.0 / per_second
        self._count = count
        self._leads = leads
        self._waker = Waker(context.state, pods, context.policy, stale=context.stale)
        self._nominations = Nominations(context.state, context.policy, stale=context.stale)
        self._changed = Event()
        self._stopping = Event()
        self._recovered = False
        context.state.subscribe(self._changed.set)

    def start(self) -> None:
        """Begin to wake; returns at once."""
        Thread(target=self._run, name="waking", daemon=True).start()

    def stop(self) -> None:
        """End after the touch that is under way."""
        self._stopping.set()
        self._changed.set()

    def look(self) -> None:
        """Judge the waiting pods soon: one was added."""
        self._changed.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.wait(TICK_SECONDS)
            self._stopping.wait(GATHER_SECONDS)
            self._changed.clear()
            try:
                if not self.wake():
                    self._stopping.wait(TICK_SECONDS)
            except Exception:
                log.exception("waking failed; it is tried again")

    def wake(self) -> bool:
        """Wake whom it is time to wake; return whether the apiserver was there to be told."""
        if self._context.unsynced():
            return True
        if not self._leads():
            if self._recovered:
                self._recovered = False
                self._pods.clear()  # whoever leads now is told what became of them, and we are not
            return True
        if not self._recovered:
            self._recovered = True
            context = self._context
            self._pods.recover(context.state, self._schedulers, context.request_of)
        for pod in self._waker.due():
            if self._stopping.is_set() or self._context.unsynced() or not self._leads():
                return True
            began = monotonic()
            if not self._wake_one(pod):
                return False
            self._stopping.wait(max(0.0, self._pause - (monotonic() - began)))
        return True

    def _wake_one(self, pod: WaitingPod) -> bool:
        """Wake a pod; return whether the apiserver was there, so that others are worth a try."""
        request = pod.request
        node = self._nominations.take(pod)
        self._pods.touched(request.uid, self._context.now())
        try:
            answer = self._nominate(request, node) if node else self._touch(request)
            if node and answer.status == _TEST_FAILED:  # kube-scheduler was faster
                self._nominations.undo(pod)
                node, answer = "", self._touch(request)
        except UnreachableError as error:
            self._failed(pod, node, str(error))
            return error.sent
        if answer.status == _NOT_FOUND:
            self._pods.drop(request.uid)
            self._count("gone")
        elif answer.ok:
            self._count("nominated" if node else "touched")
            log.info(
                "pod woken",
                namespace=request.namespace,
                pod=request.name,
                node=node or None,
                waited_seconds=round(self._context.now() - pod.since, 2),
                refused=dict(pod.refused),
            )
        else:
            self._failed(pod, node, answer.problem().message or f"HTTP {answer.status}")
        return True

    def _touch(self, request: PodRequest) -> Answer:
        now = self._context.now()
        return touch(self._transport, request.namespace, request.name, request.uid, now)

    def _nominate(self, request: PodRequest, node: str) -> Answer:
        """Write the node, unless the pod is bound, nominated already, or another by its name."""
        nominated = "/status/nominatedNodeName"
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": request.uid},
            {"op": "test", "path": "/spec/nodeName", "value": None},
            {"op": "test", "path": nominated, "value": None},
            {"op": "add", "path": nominated, "value": node},
        ]
        return self._transport.request(
            "PATCH",
            f"{pod_path(request.namespace, request.name)}/status",
            body=msgspec.json.encode(patch),
            headers=_JSON_PATCH,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=WRITE_SECONDS,
        )

    def _failed(self, pod: WaitingPod, node: str, error: str) -> None:
        if node:  # and not the nomination that an earlier time has written
            self._nominations.undo(pod)
        self._pods.missed(pod.request.uid, self._context.now())
        self._count("failed")
        log.warning(
            "pod not woken; it is tried again in seconds",
            namespace=pod.request.namespace,
            pod=pod.request.name,
            error=error,
        )
