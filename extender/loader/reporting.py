"""What the loader writes to the apiserver: the report on its own pod, progress on its own Lease.

The report is written when a state has changed and at no other time: every update of a bound pod
makes kube-scheduler try all refused pods again. That a model was proven once more is no change of
state, nor is another amount in the reason of the same one. Where somebody took it off the pod it is
written again. The Lease wakes nobody; it is renewed as proof of life, and carries what always
changes.

A failed write is no reason to stop loading: it is tried again at the next turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from extender.errors import ExtenderError
from extender.kube.decode import decode
from extender.kube.objects import KubeObject, Lease
from extender.loader.identity import Identity
from extender.report import (
    LEASE_LABEL,
    PROGRESS_ANNOTATION,
    REPORT_ANNOTATION,
    Progress,
    Report,
    lease_name,
    write,
)
from extender.watch.answers import Answer
from extender.watch.client import Transport
from extender.watch.paths import MERGE_PATCH, METADATA, lease_path, leases_path, pod_path

log = structlog.get_logger("extender.loader.reporting")

LEASE_SECONDS = 90
"""``leaseDurationSeconds``: three renewals may be missed."""

_READ_SECONDS = 10.0
_AMOUNT = re.compile(r"(?<![^\s(])\d[\d.]*(?=[\s,;)]|$)")
"""A number that stands alone in a reason: bytes that are free, seconds. One in a name is none."""


class RefusedError(ExtenderError):
    """The apiserver did not do what it was asked; the message has its reason and a remedy."""


class Reporter:
    """Writes for one loader pod. ``clock`` gives UNIX seconds. Used from one thread."""

    def __init__(
        self,
        transport: Transport,
        me: Identity,
        *,
        clock: Callable[[], float],
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        self._transport = transport
        self._me = me
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._said: Report | None = None
        self._text = ""

    def report(self, report: Report) -> bool:
        """Write the report where it says something new; return whether it was written.

        Raises RefusedError, and UnreachableError where there was no answer.
        """
        news = essence(report)
        if news == self._said:
            return False
        text = write(report)
        metadata = {"uid": self._me.uid, "annotations": {REPORT_ANNOTATION: text}}
        answer = self._send("PATCH", self._pod_path, {"metadata": metadata}, MERGE_PATCH)
        me = f"{self._me.namespace}/{self._me.pod}"
        _check(answer, f"the report on pod {me}", "patch pods (its own)")
        self._said, self._text = news, text
        return True

    def stands(self) -> bool:
        """Tell whether the pod has what was written last; what it has not is news once more.

        Answered from the apiserver's memory. Raises RefusedError, and UnreachableError where there
        was no answer.
        """
        if self._said is None:
            return True
        answer = self._transport.request(
            "GET",
            self._pod_path,
            query={"resourceVersion": "0"},
            headers=METADATA,
            read_timeout=_READ_SECONDS,
        )
        if answer.status == 404:
            return True
        _check(answer, f"pod {self._me.namespace}/{self._me.pod}", "get pods (its own)")
        metadata = decode(answer.body, KubeObject).metadata
        if (
            metadata.uid != self._me.uid
            or metadata.annotations.get(REPORT_ANNOTATION) == self._text
        ):
            return True
        self._said = None
        return False

    def renew(self, progress: Progress, *, node_uid: str) -> None:
        """Renew the Lease, with what is under way; a new one goes together with its node.

        Raises RefusedError, and UnreachableError where there was no answer.
        """
        annotations = {PROGRESS_ANNOTATION: write(progress)}
        body = self._lease(annotations, holder=self._me.pod)
        answer = self._send("PATCH", self._lease_path, body, MERGE_PATCH)
        if answer.status == 404:
            answer = self._send(
                "POST", leases_path(self._me.namespace), self._new_lease(body, node_uid), {}
            )
        if answer.status == 409:  # created meanwhile by the pod that this one takes over from
            answer = self._send("PATCH", self._lease_path, body, MERGE_PATCH)
        _check(answer, self._lease_told, "get, create and patch leases in its namespace")

    def release(self) -> None:
        """Let go of the Lease, for the loader pod that comes after this one.

        One that another pod holds by now is that one's.
        """
        right = "get and patch leases in its namespace"
        answer = self._transport.request("GET", self._lease_path, read_timeout=_READ_SECONDS)
        if answer.status == 404:
            return
        _check(answer, self._lease_told, right)
        lease = decode(answer.body, Lease)
        if lease.spec.holder_identity != self._me.pod:
            return
        body = self._lease({PROGRESS_ANNOTATION: write(Progress())}, holder="")
        body["metadata"]["resourceVersion"] = lease.metadata.resource_version
        answer = self._send("PATCH", self._lease_path, body, MERGE_PATCH)
        if answer.status != 409:  # taken over meanwhile
            _check(answer, self._lease_told, right)

    @property
    def _lease_told(self) -> str:
        return f"Lease {self._me.namespace}/{lease_name(self._me.node)}"

    @property
    def _lease_path(self) -> str:
        return lease_path(self._me.namespace, lease_name(self._me.node))

    @property
    def _pod_path(self) -> str:
        return pod_path(self._me.namespace, self._me.pod)

    def _lease(self, annotations: dict[str, str], *, holder: str) -> dict[str, Any]:
        now = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "metadata": {"labels": {LEASE_LABEL: "true"}, "annotations": annotations},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self._lease_seconds,
                "renewTime": now,
            },
        }

    def _new_lease(self, body: dict[str, Any], node_uid: str) -> dict[str, Any]:
        metadata = {"name": lease_name(self._me.node), **body["metadata"]}
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._me.node, "uid": node_uid}
        metadata["ownerReferences"] = [owner]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": body["spec"],
        }

    def _send(
        self, method: str, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> Answer:
        return self._transport.request(
            method,
            path,
            body=msgspec.json.encode(body),
            headers=headers,
            read_timeout=_READ_SECONDS,
        )


def essence(report: Report) -> Report:
    """Return a report without what may change while the states stay the same."""
    models = tuple(
        msgspec.structs.replace(m, proven_at=None, reason=_AMOUNT.sub("0", m.reason))
        for m in report.models
    )
    return msgspec.structs.replace(report, models=models)


def _check(answer: Answer, what: str, right: str) -> None:
    if answer.ok:
        return
    said = answer.problem().message or f"HTTP {answer.status}"
    remedy = f"; give the loader's service account the right to {right}" * (answer.status == 403)
    raise RefusedError(f"the apiserver refused {what} ({answer.status}): {said}{remedy}")
