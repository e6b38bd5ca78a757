"""What the loader knows of the cluster: the labels of nodes, and what waiting pods need here.

Its own node is asked for once a minute. All nodes, and the Leases of their loaders, are listed only
where the catalog has a model with ``copies``, seldom and at a random moment, of nodes the metadata
alone and all from the apiserver's cache: thousands of loaders do the same. What is wanted comes by
a watch of one Lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from threading import Lock
from time import time
from urllib.parse import quote

import structlog

from extender.errors import ExtenderError, InvalidReportError
from extender.kube.decode import decode
from extender.kube.objects import KubeObject, KubeStruct, Lease, ObjectMeta
from extender.loader.identity import Identity
from extender.loader.peers import Peers
from extender.loader.wishes import Nodes
from extender.report import (
    WANTED_ANNOTATION,
    WISH_SECONDS,
    Renewal,
    Wanted,
    first_seen,
    lease_name,
    read,
)
from extender.watch.client import Transport
from extender.watch.paths import METADATA, leases_path
from extender.watch.resources import Resource
from extender.watch.watching import Watching

log = structlog.get_logger("extender.loader.surroundings")

OWN_NODE_SECONDS = 60.0
READ_SECONDS = 10.0
"""The loop waits for these answers: a silent apiserver must not look like a hang of ours."""
ALL_NODES_SECONDS = (600.0, 1200.0)

_METADATA_LIST = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
"""See ``paths.METADATA``."""


class _Nodes(KubeStruct, frozen=True):
    items: tuple[KubeObject, ...] = ()


class Surroundings:
    """Asks for one loader pod. ``changed`` is called on new wishes.

    ``clock`` is monotonic seconds, ``wall`` UNIX seconds.
    """

    def __init__(
        self,
        transport: Transport,
        me: Identity,
        *,
        clock: Callable[[], float],
        random: Random,
        changed: Callable[[], None],
        wall: Callable[[], float] = time,
    ) -> None:
        self._transport = transport
        self._me = me
        self._clock = clock
        self._random = random
        self._peers = Peers(self._get, me.namespace, clock=clock, wall=wall)
        self._nodes: dict[str, dict[str, str]] = {}
        self._own_due = self._all_due = float("-inf")
        self._wishes = _Wishes(changed, clock)
        selectors = {"fieldSelector": f"metadata.name={lease_name(me.node)}"}
        self._watching = Watching(
            transport,
            self._wishes,
            resources=[Resource(Lease, leases_path(me.namespace), selectors)],
        )
        self.node_uid = ""

    def start(self) -> None:
        """Begin to watch what is wanted; returns at once."""
        self._watching.start()

    def stop(self) -> None:
        """Stop watching."""
        self._watching.stop()

    def wanted(self) -> Wanted:
        """Return what waiting pods need on this node, and have asked for lately."""
        return self._wishes.lasting()

    def nodes(self, *, every: bool) -> Nodes:
        """Return the labels of this node, and of ``every`` other one that has a loader.

        What cannot be asked now is as it was. Raises ExtenderError while nothing is known yet.
        """
        now = self._clock()
        if now >= self._own_due or (every and now >= self._all_due):
            try:
                self._ask(now, every=every)
            except ExtenderError as error:
                if self._me.node not in self._nodes or (every and self._all_due < 0):
                    raise
                self._own_due = now + OWN_NODE_SECONDS
                if self._all_due > 0:
                    self._all_due = max(self._all_due, self._own_due)
                log.warning("nodes not refreshed", error=str(error))
        return self._nodes

    def _ask(self, now: float, *, every: bool) -> None:
        if every and now >= self._all_due:
            body = self._get("/api/v1/nodes?resourceVersion=0", _METADATA_LIST)
            found = {one.metadata.name: one.metadata.labels for one in decode(body, _Nodes).items}
            self._nodes = {name: found[name] for name in self._peers.of(found)}
            self._all_due = now + self._random.uniform(*ALL_NODES_SECONDS)
        own = decode(self._get(f"/api/v1/nodes/{quote(self._me.node)}", METADATA), KubeObject)
        self.node_uid = own.metadata.uid
        self._nodes = {**self._nodes, self._me.node: own.metadata.labels}
        self._own_due = now + OWN_NODE_SECONDS

    def _get(self, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        answer = self._transport.request("GET", path, headers=headers, read_timeout=READ_SECONDS)
        if not answer.ok:
            said = answer.problem().message or f"HTTP {answer.status}"
            right = (
                "give the loader's service account the right to get and list nodes, and to list "
                "pods and Leases of its namespace"
            )
            remedy = f"; {right}, as deploy/loader does" * (answer.status == 403)
            raise ExtenderError(f"{path}: {said}{remedy}")
        return answer.body


class Alone:
    """No cluster: one node without labels, for which nobody waits."""

    node_uid = ""

    def __init__(self, node: str) -> None:
        self._node = node

    def start(self) -> None:
        """Do nothing: there is nobody to ask."""

    def stop(self) -> None:
        """Do nothing."""

    def wanted(self) -> Wanted:
        """Return nothing."""
        return Wanted()

    def nodes(self, *, every: bool) -> Nodes:  # noqa: ARG002 - as in Surroundings
        """Return the one node."""
        return {self._node: {}}


class _Wishes:
    """The sink of the Lease's watch: keeps what it says is wanted, and since when it says so.

    How long a wish lasts is counted from the moment when it was seen first, by the clock here: the
    one that wrote it may have another idea of the time, by minutes or years.
    """

    def __init__(self, changed: Callable[[], None], clock: Callable[[], float]) -> None:
        self._changed = changed
        self._clock = clock
        self._lock = Lock()
        self.told = Wanted()
        self._since: dict[Renewal, float] = {}

    def lasting(self) -> Wanted:
        """Return the wishes that were made, or renewed, lately."""
        with self._lock:
            told, since = self.told, self._since
        now = self._clock()
        lasting = (one for one in told.models if now - since[one.renewal] < WISH_SECONDS)
        return Wanted(models=tuple(lasting))

    def listing(self, kind: type[KubeObject]) -> _LeaseDraft:
        return _LeaseDraft(self, kind)

    def upsert(self, obj: KubeObject) -> None:
        self.take(obj.metadata)

    def delete(self, _obj: KubeObject) -> None:
        self.take(ObjectMeta())

    def unreadable(self, _kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        log.warning("the Lease cannot be read", lease=metadata.name, error=error)

    def knows(self, _: KubeObject) -> bool:
        return True

    def differs(self, obj: KubeObject) -> bool:
        return _wanted(obj.metadata) != self.told

    def take(self, metadata: ObjectMeta) -> None:
        wanted, now = _wanted(metadata), self._clock()
        with self._lock:
            new, self.told = wanted != self.told, wanted
            self._since = first_seen(wanted, self._since, now)
        if new:
            self._changed()


class _LeaseDraft:
    """The list of the one Lease: it is there or not."""

    def __init__(self, wishes: _Wishes, kind: type[KubeObject]) -> None:
        self._wishes = wishes
        self._kind = kind
        self._metadata: ObjectMeta | None = None

    def add(self, objects: Sequence[KubeObject]) -> None:
        for obj in objects:
            self._metadata = obj.metadata

    def phantoms(self, besides: Iterable[KubeObject]) -> list[str]:
        there = self._metadata is not None or any(True for _ in besides)
        return [] if there or self._wishes.told == Wanted() else [self._kind.__name__]

    def replace(self) -> None:
        self._wishes.take(self._metadata or ObjectMeta())


def _wanted(metadata: ObjectMeta) -> Wanted:
    text = metadata.annotations.get(WANTED_ANNOTATION)
    if not text:
        return Wanted()
    try:
        return read(text, Wanted)
    except InvalidReportError as error:
        log.warning("what is wanted cannot be read", lease=metadata.name, error=str(error))
        return Wanted()
