"""Telling kube-scheduler of a pod, by a write to the pod's status, and what came of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from extender.placement.request import PodRequest
from extender.serving.touching import CONNECT_SECONDS, WRITE_SECONDS, touch
from extender.waiting.telling import Told, Word
from extender.watch.answers import Answer, UnreachableError
from extender.watch.client import Fence, Transport
from extender.watch.messages import Status
from extender.watch.paths import pod_path

_JSON_PATCH = {"Content-Type": "application/json-patch+json"}
_NOMINATED = "/status/nominatedNodeName"
_GONE = 404
_NOT_APPLIED = 422
"""For a JSON patch with a test that fails, and then the apiserver does not say which object that is
about (endpoints/handlers/patch.go, applyJSPatch). With its name it is a no of an admission policy
that gives no reason of its own (admission/plugin/policy/validating/dispatcher.go) or of validation.

A 409 proves nothing: the apiserver gives it for another pod by that name, of which the watch tells
soon, and for a write that met others again and again (endpoints/handlers/patch.go)."""


def while_leading(leads: Callable[[], bool]) -> Fence:
    """Return the fence of what only the leader writes."""
    return lambda: "" if leads() else "this replica does not lead any more"


class ApiTelling:
    """Writes to the pods of one cluster while the fence is open."""

    def __init__(self, transport: Transport, *, now: Callable[[], float], fence: Fence) -> None:
        self._transport = transport
        self._now = now
        self._fence = fence

    def touch(self, request: PodRequest) -> Word:
        """Mark a pod with the time."""
        return _word(
            lambda: touch(
                self._transport,
                request.namespace,
                request.name,
                request.uid,
                self._now(),
                fence=self._fence,
            )
        )

    def nominate(self, request: PodRequest, node: str) -> Word:
        """Write the node, unless the pod is bound, nominated already, or another by its name."""
        add = {"op": "add", "path": _NOMINATED, "value": node}
        return self._patch(request, nominated=None, change=add)

    def take_back(self, request: PodRequest, node: str) -> Word:
        """Clear the nomination, if it is to that node and the pod neither bound nor another one."""
        return self._patch(request, nominated=node, change={"op": "remove", "path": _NOMINATED})

    def _patch(
        self, request: PodRequest, *, nominated: str | None, change: Mapping[str, str]
    ) -> Word:
        """Change the nomination of a pod that is not bound and has this one."""
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": request.uid},
            {"op": "test", "path": "/spec/nodeName", "value": None},
            {"op": "test", "path": _NOMINATED, "value": nominated},
            change,
        ]
        return _word(
            lambda: self._transport.request(
                "PATCH",
                f"{pod_path(request.namespace, request.name)}/status",
                body=msgspec.json.encode(patch),
                headers=_JSON_PATCH,
                connect_timeout=CONNECT_SECONDS,
                read_timeout=WRITE_SECONDS,
                fence=self._fence,
            )
        )


def _word(write: Callable[[], Answer]) -> Word:
    try:
        answer = write()
    except UnreachableError as error:
        told = Told.UNANSWERED if error.sent else Told.UNREACHED
        return Word(told, str(error), told.value)
    if answer.ok:
        return Word(Told.WRITTEN)
    problem = answer.problem()
    cause = f"HTTP {answer.status} {problem.reason or ''}".strip()
    return Word(_told(answer.status, problem), problem.message or cause, cause)


def _told(code: int, problem: Status) -> Told:
    if code == _GONE:
        return Told.GONE
    nameless = problem.details is not None and not problem.details.name
    return Told.OVERTAKEN if code == _NOT_APPLIED and nameless else Told.REFUSED
