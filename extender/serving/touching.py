"""Touching a pod: the smallest write to it, which has kube-scheduler look at it again.

It goes through ``pods/status``, a right that cannot change a pod's spec.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from extender.watch.answers import Answer
from extender.watch.client import Fence, Transport
from extender.watch.paths import MERGE_PATCH, pod_path

REQUEUED_ANNOTATION = "modelcache.dev/requeued-at"
"""On waiting pods, by the extender: an RFC 3339 time, written to have kube-scheduler try again."""

CONNECT_SECONDS = 1.0
WRITE_SECONDS = 5.0


def touch(
    transport: Transport, namespace: str, name: str, uid: str, now: float, *, fence: Fence = str
) -> Answer:
    """Mark the pod with this UID with the time (UNIX seconds); raises UnreachableError."""
    stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    metadata = {"uid": uid, "annotations": {REQUEUED_ANNOTATION: stamp}}
    return transport.request(
        "PATCH",
        f"{pod_path(namespace, name)}/status",
        body=msgspec.json.encode({"metadata": metadata}),
        headers=MERGE_PATCH,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=WRITE_SECONDS,
        fence=fence,
    )
