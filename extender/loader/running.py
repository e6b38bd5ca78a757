"""``loader run``, put together: who tells whom, started and stopped in order."""

from __future__ import annotations

import posixpath
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from threading import Event
from time import monotonic, sleep, time

import msgspec
import structlog

from extender.backoff import Backoff
from extender.errors import CacheError, NotRemovedError, UsageError
from extender.kube.decode import decode
from extender.kube.objects import Pod
from extender.loader.announcing import Announcer
from extender.loader.catalog_file import CatalogFile
from extender.loader.guarding import LOOK_SECONDS, Guard
from extender.loader.identity import Identity
from extender.loader.keeping import Keeper
from extender.loader.layout import CacheDirectory
from extender.loader.leaving import Leftovers
from extender.loader.making_room import RoomMaker
from extender.loader.metrics import LoaderMetrics
from extender.loader.node_pods import NodePods
from extender.loader.obtaining import Obtainer
from extender.loader.origin import asked_for, opener
from extender.loader.publish import Publisher
from extender.loader.readers import Readers
from extender.loader.reporting import LEASE_SECONDS, Reporter
from extender.loader.server import StatusServer
from extender.loader.sources import Credentials
from extender.loader.speaking import Speaker
from extender.loader.surroundings import READ_SECONDS, Alone, Surroundings
from extender.loader.sweep import sweep
from extender.loader.table import ModelTable
from extender.loader.transfer.limits import Limits
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.paths import pod_path

log = structlog.get_logger("extender.loader")

CATALOG_COPY = "catalog.yaml"
"""In the work area: the last good catalog, for a start while the mounted one is bad."""


NOTICE_SECONDS = 2.0
"""From the report that a model goes to its going: the extender sees it at once, and a pod that was
bound just before is seen when pods are asked for again."""

REPORT_SECONDS = 30.0
"""So long a removal waits for the apiserver to take the report of it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    ``host_directory`` is what the cache's directory is called on the node; empty: it is read from
    the loader's own pod. ``status_listen`` is (host, port); None: no listener. ``look_seconds``:
    how often published models are looked at. ``lease_seconds``: how long the loader counts as
    alive after it last said so.
    """

    catalog: Path
    directory: Path
    host_directory: str = ""
    credentials: Credentials = Credentials()
    status_listen: tuple[str, int] | None = None
    look_seconds: float = LOOK_SECONDS
    lease_seconds: int = LEASE_SECONDS


class Cluster(msgspec.Struct, frozen=True):
    """The apiserver, and who this loader is there."""

    transport: Transport
    me: Identity


class Loader:
    """One loader process. Without a cluster it reports to nobody."""

    def __init__(self, settings: Settings, cluster: Cluster | None) -> None:
        random = Random()  # noqa: S311 - jitter
        name = f"{cluster.me.namespace}/{cluster.me.pod}" if cluster else socket.gethostname()
        cache = CacheDirectory(settings.directory.absolute())
        catalog = CatalogFile(settings.catalog, keep=cache.work_area / CATALOG_COPY)
        table = ModelTable()
        pods: Callable[[], list[Pod]] = list
        if cluster is not None:
            pods = NodePods(cluster.transport, cluster.me.node)
        publisher = Publisher(
            writer=name,
            uses=Readers(
                pods,
                catalog=lambda: catalog.catalog,
                host_directory=lambda: self._on_node,
            ),
            damage=lambda path: guard.damage(path),  # noqa: PLW0108 - made below
        )
        limits = Limits()
        metrics = LoaderMetrics(table, cache.root, catalog_error=lambda: catalog.error)
        self._random = random
        self._settings = settings
        self._cluster = cluster
        self._on_node = settings.host_directory or ("" if cluster else str(cache.root))
        room = RoomMaker(
            cache,
            publisher,
            table,
            metrics,
            pods=pods,
            host_directory=lambda: self._on_node,
            notice=self._give_notice,
        )
        guard = Guard(
            cache,
            publisher,
            table,
            metrics,
            room,
            name=name,
            look_seconds=settings.look_seconds,
        )
        self._cache = cache
        self._catalog = catalog
        self._publisher = publisher
        self._surroundings: Surroundings | Alone = Alone(name)
        self._announcer: Announcer | None = None
        if cluster is not None:
            self._surroundings = Surroundings(
                cluster.transport, cluster.me, clock=monotonic, random=random, changed=self._look
            )
            self._announcer = Announcer(
                Reporter(
                    cluster.transport.sibling(),
                    cluster.me,
                    clock=time,
                    lease_seconds=settings.lease_seconds,
                ),
                table,
                speaker=Speaker(cache, name=name),
                cache=cache,
                host_directory=lambda: self._on_node,
                catalog=catalog,
                metrics=metrics,
                looked=lambda: guard.looked,
                looked_at=guard.has_looked_at,
                node_uid=lambda: self._surroundings.node_uid,
                random=random,
                lease_seconds=settings.lease_seconds,
            )
        self._keeper = Keeper(
            cluster.me.node if cluster else name,
            catalog=catalog,
            table=table,
            obtainer=Obtainer(
                cache,
                publisher,
                open_source=opener(settings.credentials),
                limits=limits,
                name=name,
                random=random,
                received=metrics.downloaded.inc,
                repeated=lambda why, count: metrics.repeated.labels(why.value).inc(count),
            ),
            guard=guard,
            room=room,
            leftovers=Leftovers(cache),
            limits=limits,
            metrics=metrics,
            nodes=self._surroundings.nodes,
            wanted=self._surroundings.wanted,
            random=random,
        )
        self.status: StatusServer | None = None
        if settings.status_listen is not None:
            self.status = StatusServer(
                settings.status_listen,
                metrics.registry,
                alive=self._keeper.alive,
                ready=self._ready,
            )

    def run(self, stopping: Event) -> None:
        """Keep the cache until ``stopping`` is set.

        Raises UsageError where it cannot be told what the cache's directory is on the node.
        """
        log.info(
            "started",
            directory=str(self._cache.root),
            status_port=self.status.port if self.status else None,
        )
        if self.status is not None:
            self.status.start()
        try:
            self._find_host_directory(stopping)
            if not stopping.is_set():
                self._sweep()
                self._keep(stopping)
        finally:
            if self.status is not None:
                self.status.stop()
        log.info("stopped")

    def _ready(self) -> str:
        """Return why it is not Ready: its predecessor goes then, and it has to speak for both."""
        return self._keeper.ready() or (self._announcer.ready() if self._announcer else "")

    def _keep(self, stopping: Event) -> None:
        self._surroundings.start()
        if self._announcer is not None:
            self._announcer.start()
        try:
            self._keeper.run(stopping)
        finally:
            if self._announcer is not None:
                self._announcer.stop()
            self._surroundings.stop()

    def _sweep(self) -> None:
        """Finish what a kill left. A disk that refuses is no reason to vouch for nothing."""
        self._catalog.poll()
        catalog = self._catalog.catalog
        wanted = asked_for(catalog.models) if catalog is not None else None
        try:
            swept = sweep(self._publisher, self._cache, wanted=wanted)
        except CacheError as error:
            log.warning("not swept; it is tried again", error=str(error))
        else:
            log.info("swept", completed=swept.completed, deleted=swept.deleted)

    def _find_host_directory(self, stopping: Event) -> None:
        """Ask the apiserver until it answers: an end would only make the kubelet wait longer."""
        backoff = Backoff(random=self._random, clock=monotonic)
        while not (self._on_node or self._cluster is None or stopping.is_set()):
            try:
                self._on_node = host_directory(self._cluster, self._settings.directory)
            except UnreachableError as error:
                wait = backoff.wait()
                log.warning(
                    "the loader's own pod cannot be read",
                    error=str(error),
                    again_in_seconds=round(wait, 1),
                )
                stopping.wait(wait)

    def _look(self) -> None:
        self._keeper.look()

    def _give_notice(self) -> None:
        """Return once the cluster knows what goes. Raises NotRemovedError where it does not."""
        if self._announcer is None:
            return  # nobody sends pods here
        if not self._announcer.told(REPORT_SECONDS):
            raise NotRemovedError(
                f"nothing is removed: the report that it goes was not taken within "
                f"{REPORT_SECONDS:.0f} s, and pods would be sent to what is not there; the "
                "loader's log says why (not announced), unless it still looks at the disk"
            )
        sleep(NOTICE_SECONDS)


def host_directory(cluster: Cluster, directory: Path) -> str:
    """Return what a directory of the loader's own pod is called on the node.

    Raises UsageError where the pod cannot be read, or the directory lies in no hostPath, and
    UnreachableError where there is no answer.
    """
    me = cluster.me
    answer = cluster.transport.request(
        "GET", pod_path(me.namespace, me.pod), read_timeout=READ_SECONDS
    )
    if answer.status >= 500:
        raise UnreachableError(answer.problem().message or f"HTTP {answer.status}", sent=True)
    if not answer.ok:
        said = answer.problem().message or f"HTTP {answer.status}"
        remedy = (
            "let POD_NAME and POD_NAMESPACE name the pod that the loader runs in"
            if answer.status == 404
            else "give the loader's service account the right to get pods"
        )
        raise UsageError(
            f"pod {me.namespace}/{me.pod} cannot be read: {said}; {remedy}, or say --host-directory"
        )
    pod = decode(answer.body, Pod)
    paths = {v.name: v.host_path.path for v in pod.spec.volumes if v.host_path is not None}
    inside = str(directory.absolute())
    found = [
        (
            len(posixpath.normpath(mount.mount_path)),
            posixpath.join(
                paths[mount.name], mount.sub_path, posixpath.relpath(inside, mount.mount_path)
            ),
        )
        for container in (*pod.spec.containers, *pod.spec.init_containers)
        for mount in container.volume_mounts
        if mount.name in paths and _holds(mount.mount_path, inside)
    ]
    if not found:
        raise UsageError(
            f"--directory {directory} lies in no hostPath volume of pod {me.namespace}/{me.pod}; "
            "mount one there, as deploy/loader does, or say --host-directory"
        )
    return posixpath.normpath(max(found)[1])


def _holds(mounted: str, path: str) -> bool:
    return posixpath.commonpath([posixpath.normpath(mounted), path]) == posixpath.normpath(mounted)
