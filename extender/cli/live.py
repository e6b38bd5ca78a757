"""Commands on a live cluster: connect, list or watch, and fetch one pod."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import msgspec

from extender.cli.source import NoSuchPodError, new_context
from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.errors import ExtenderError
from extender.serving.bindings import ApiBindings
from extender.serving.leadership import Fence, Leadership
from extender.serving.logs import configure_logging
from extender.serving.service import Service
from extender.serving.takeover import takeover
from extender.serving.watched import Observer, WatchKnowledge
from extender.watch.client import Transport, connect
from extender.watch.paths import pod_path
from extender.watch.reflector import Sink

SYNC_SECONDS = 60.0
START_SETTLE_SECONDS = 2.0
"""An extender without a Lease is so old before it lists the cluster. The one before it is gone, as
there is one at a time, and sends nothing any more; the time is for the apiserver, to write or drop
what that one had sent (as ``leadership`` has it for a leader that fell silent). So the first list
tells of all that was bound before, and nothing is bound before that list. With a Lease another
extender may be alive, and the fence takes care of this, too."""


class NotSyncedError(ExtenderError):
    """The cluster could not be listed in time."""


def list_once(sink: Sink, *, kubeconfig: Path | None, kube_context: str | None) -> Transport:
    """Fill a sink with one list of everything. Raises NotSyncedError that names what lacks."""
    configure_logging(level="WARNING", pretty=True)  # stdout is for the answer alone
    transport = connect(str(kubeconfig) if kubeconfig else None, kube_context)
    knowledge = WatchKnowledge(transport, sink, bound=SYNC_SECONDS)
    knowledge.start()
    try:
        if not knowledge.wait_synced(SYNC_SECONDS):
            lacking = [
                f"{row.resource} ({row.error or 'no answer yet'})"
                for row in knowledge.resources()
                if not row.synced
            ]
            raise NotSyncedError(
                f"not listed within {SYNC_SECONDS:.0f} s: {', '.join(lacking)}; check --kubeconfig "
                "and the rights (get, list, watch)"
            )
    finally:
        knowledge.stop()
    return transport


def pod_manifest(transport: Transport, namespace: str, name: str) -> dict[str, Any]:
    """Fetch one pod. Raises NoSuchPodError where there is none, ExtenderError for other faults."""
    answer = transport.request("GET", pod_path(namespace, name))
    if answer.status == 404:
        raise NoSuchPodError(f"pod {namespace}/{name} is not in the cluster")
    if not answer.ok:
        raise ExtenderError(f"pod {namespace}/{name}: {answer.problem().message}")
    manifest: dict[str, Any] = msgspec.json.decode(answer.body)
    return {"kind": "Pod", **manifest}


def watched_service(
    state: ClusterState,
    configuration: ExtenderConfiguration,
    *,
    kubeconfig: Path | None,
    kube_context: str | None,
    observe: bool,
    lease: str | None = None,
) -> Service:
    """Build a service over the live cluster; its watch starts with the server."""
    transport = connect(str(kubeconfig) if kubeconfig else None, kube_context)
    observer = Observer(state) if observe else None
    knowledge = WatchKnowledge(
        transport,
        observer or state,
        bound=configuration.freshness.bound_seconds,
        settle=0.0 if observe or lease else _left_to_settle(),
    )
    leadership = _leadership(transport, lease, knowledge) if lease else None
    context = new_context(
        state,
        configuration,
        unsynced=knowledge.unsynced,
        stale=knowledge.stale,
        fence=leadership.closed if leadership else str,
        term=(lambda: leadership.term) if leadership else str,
        pause=time.sleep,
    )
    if observer is not None:
        service = Service(context, knowledge, configuration, observer=observer)
        observer.attach(context, service.metrics)
        return service
    service = Service(
        context,
        knowledge,
        configuration,
        bindings=ApiBindings(transport.sibling()),
        leadership=leadership,
    )
    if configuration.waking.enabled:
        service.wake_through(transport.sibling())
    if configuration.events.enabled:
        service.tell_through(transport.sibling())
    if configuration.loaders.on_demand:
        service.fetch_through(transport.sibling())
    return service


def _left_to_settle() -> float:
    """Return the seconds left; this process is older than the processor time it used."""
    return max(0.0, START_SETTLE_SECONDS - time.process_time())


def _leadership(transport: Transport, lease: str, knowledge: WatchKnowledge) -> Leadership:
    own = transport.sibling()
    before = takeover(own, knowledge.pods_version)
    return Leadership(own, lease, Fence(socket.gethostname()), before)
