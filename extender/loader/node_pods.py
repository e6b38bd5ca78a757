"""The pods of one node as the API tells of them, with their claims followed to the node's disk.

A claim whose volume is a ``local`` or ``hostPath`` one is to its pod what a hostPath is. So the
pods come back with such a volume in place of the claim, and whoever reads them need not know of
claims. Where it cannot be told what a claim is, nothing is told of the node: the pod may read
anything.

One that is not there, or bound to no volume, cannot be mounted. Through it a pod reads nothing, and
that none of its containers has run yet is the proof; it may be about to appear, and so it is waited
for, but not for ever: nobody may notice such a pod for weeks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from extender.errors import InvalidObjectError, NotRemovedError
from extender.kube.decode import decode
from extender.kube.lives import has_run, statuses
from extender.kube.objects import (
    HostPathSource,
    KubeObject,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    Volume,
)
from extender.kube.times import unix_time
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.failures import WatchFailedError
from extender.watch.listing import Take, list_all
from extender.watch.paths import claim_path, node_path, volume_path
from extender.watch.resources import PODS, Resource

_READ_SECONDS = 10.0

Kind = TypeVar("Kind", bound=KubeObject)

Find = Callable[[Pod, str], PersistentVolume | None]
"""Returns the volume of a pod's claim, by the claim's name; None where it is not there or bound to
none. Raises NotRemovedError where that cannot be known."""

UNBOUND_SECONDS = 120.0
"""So long a pod that cannot start for want of its claim is waited for: the claim is often created
with it, or bound a moment later."""


def followed(pod: Pod, find: Find, now: float) -> Pod:
    """Return a pod whose claims are the host directories that they stand for.

    A claim on a volume of another kind lies on no path of the node and stays what it is, and so
    does one that is not there where the pod has waited for it in vain. ``now`` is UNIX time in
    seconds. Raises what ``find`` raises, and NotRemovedError where the claim may become any.
    """
    volumes = []
    for volume in pod.spec.volumes:
        claim = _claim(pod, volume)
        bound = find(pod, claim) if claim else None
        if claim and bound is None and not _waits_in_vain(pod, now):
            raise _unbound(pod, claim)
        directory = _directory(bound) if bound is not None else None
        volumes.append(
            volume if directory is None else Volume(name=volume.name, host_path=directory)
        )
    spec = msgspec.structs.replace(pod.spec, volumes=tuple(volumes))
    return msgspec.structs.replace(pod, spec=spec)


def _waits_in_vain(pod: Pod, now: float) -> bool:
    """Tell whether none of a pod's containers ever ran, and its claim has had its time."""
    ran = any(map(has_run, statuses(pod)))
    since = unix_time(pod.status.start_time or pod.metadata.creation_timestamp)
    waiting = pod.status.phase == "Pending" and not ran
    return waiting and since is not None and now - since >= UNBOUND_SECONDS


def _unbound(pod: Pod, claim: str) -> NotRemovedError:
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    return _unknown(
        f"claim {claim} of pod {name} is not there or not bound; bind it, or delete the pod"
    )


def _unknown(why: str) -> NotRemovedError:
    return NotRemovedError(f"{why}; which models are in use cannot be known, so none is removed")


def _claim(pod: Pod, volume: Volume) -> str:
    """Return the claim behind a volume; empty where there is none.

    That of an ephemeral volume is named after both
    (https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/).
    """
    if volume.persistent_volume_claim is not None:
        return volume.persistent_volume_claim.claim_name
    return f"{pod.metadata.name}-{volume.name}" if volume.ephemeral is not None else ""


def _directory(volume: PersistentVolume) -> HostPathSource | None:
    if volume.spec.local is not None:
        return HostPathSource(path=volume.spec.local.path)
    return volume.spec.host_path


class NodePods:
    """Lists the pods of a node that have not ended. ``clock`` gives UNIX time in seconds.

    Safe to use from threads.

    The volume of a claim is asked for once for each pod: as long as a pod uses a claim, neither
    the claim nor its volume can be taken away, and what a bound volume is never changes
    (https://kubernetes.io/docs/concepts/storage/persistent-volumes/).
    """

    def __init__(
        self, transport: Transport, node: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._transport = transport
        self._node = node
        self._clock = clock
        self._volumes: dict[tuple[str, str], PersistentVolume] = {}

    def __call__(self) -> list[Pod]:
        """Return the pods. Raises NotRemovedError where they, or their claims, cannot be known."""
        pods = self._list()
        here = {pod.metadata.uid for pod in pods}
        self._volumes = {key: one for key, one in self._volumes.items() if key[0] in here}
        return [followed(pod, self._volume, self._clock()) for pod in pods]

    def expect_node(self) -> None:
        """Raise NotRemovedError where there is no node of that name, or that cannot be known.

        The list of its pods is empty then, as that of a node that nobody uses.
        """
        if self._get(node_path(self._node), Node) is None:
            raise _unknown(f"there is no node {self._node}; correct its name")

    def _list(self) -> list[Pod]:
        selector = f"{PODS.selectors['fieldSelector']},spec.nodeName={self._node}"
        resource = Resource(Pod, PODS.path, {"fieldSelector": selector})
        pods: list[KubeObject] = []

        def begin() -> Take:
            pods.clear()
            return pods.extend

        try:
            found = list_all(
                self._transport,
                resource,
                begin=begin,
                pause=lambda asked: time.sleep(max(asked, 1.0)),
            )
        except (WatchFailedError, UnreachableError) as error:
            raise _unknown(f"pods of node {self._node}: {error}") from error
        for odd in found.unreadable:
            name = f"{odd.metadata.namespace}/{odd.metadata.name}" if odd.metadata else "one"
            raise _unknown(f"pod {name} of node {self._node}: {odd.error}")
        return [pod for pod in pods if isinstance(pod, Pod)]

    def _volume(self, pod: Pod, claim: str) -> PersistentVolume | None:
        key = pod.metadata.uid, claim
        volume = self._volumes.get(key)
        if volume is None:
            found = self._get(claim_path(pod.metadata.namespace, claim), PersistentVolumeClaim)
            if found is None or not found.spec.volume_name:
                return None
            volume = self._get(volume_path(found.spec.volume_name), PersistentVolume)
            if volume is not None:
                self._volumes[key] = volume
        return volume

    def _get(self, path: str, kind: type[Kind]) -> Kind | None:
        """Return an object, None where there is none. Raises NotRemovedError."""
        try:
            answer = self._transport.request("GET", path, read_timeout=_READ_SECONDS)
        except UnreachableError as error:
            raise _unknown(f"{path}: {error}") from error
        if answer.status == 404:
            return None
        if not answer.ok:
            said = answer.problem().message or f"HTTP {answer.status}"
            remedy = (
                "; give the loader's service account the right to get nodes, "
                "persistentvolumeclaims and persistentvolumes, as deploy/loader does"
            )
            raise _unknown(f"{path}: {said}{remedy * (answer.status == 403)}")
        try:
            return decode(answer.body, kind)
        except InvalidObjectError as error:
            raise _unknown(f"{path}: {error}") from error
