"""Telling kube-scheduler of a pod, by a write to the pod's status, and what came of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from extender.placement.request import PodRequest
from extender.serving.touching import CONNECT_SECONDS, WRITE_SECONDS, touch
from extender.waiting.rounds import Told, Word
from extender.watch.answers import Answer, UnreachableError
from extender.watch.client import Fence, Transport
from extender.watch.paths import pod_path

_JSON_PATCH = {"Content-Type": "application/json-patch+json"}
_NOMINATED = "/status/nominatedNodeName"
_TOLD = {404: Told.GONE, 422: Told.OVERTAKEN}
"""A test of a JSON patch that fails is a 422. A 409 proves nothing: the apiserver gives it for
another pod by that name, of which the watch tells soon, and for a write that met others again and
again (its endpoints/handlers/patch.go)."""


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
        return Word(Told.UNANSWERED if error.sent else Told.UNREACHED, str(error))
    if answer.ok:
        return Word(Told.WRITTEN)
    said = answer.problem().message or f"HTTP {answer.status}"
    return Word(_TOLD.get(answer.status, Told.REFUSED), said)
