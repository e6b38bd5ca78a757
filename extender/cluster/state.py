"""The cluster state: one writer applies events, readers take a view.

Every event is reduced to facts at once and the object is let go. The facts are kept by ``ledger``,
``loaders``, ``leases``, ``storage`` and ``starts``, under the one lock of this module. A node's
view is rebuilt when something on it changes; a picture of all nodes is made only when somebody
reads after a change, so that a storm of events costs none and a reader never sees half of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from threading import RLock
from typing import Any, TypeVar

import msgspec
import structlog
from cachetools import LRUCache

from extender.cluster.claims import JobFacts, job_facts, ran_nothing
from extender.cluster.corrections import Basis
from extender.cluster.drafts import DaemonSetNews, JobNews, News, PodNews, StateDraft, identity
from extender.cluster.inventory import Loader
from extender.cluster.leases import Leases, lease_key
from extender.cluster.ledger import OPEN_LATELY, Ledger, node_view, pod_facts
from extender.cluster.loaders import Loaders, is_daemon, is_trusted
from extender.cluster.memory import MEMORY, MemoryDemand, VolumeCounting, memory_demand
from extender.cluster.namespaces import is_opted_in
from extender.cluster.requests import node_room
from extender.cluster.reservations import Reservation
from extender.cluster.starts import Seen, Started, Starts, restarted, started
from extender.cluster.storage import Storage
from extender.cluster.templates import Templates
from extender.cluster.view import Key, Nominated, PodFacts, View
from extender.errors import ExtenderError
from extender.kube.amounts import wrong_amount
from extender.kube.objects import (
    DaemonSet,
    Job,
    KubeObject,
    Lease,
    Namespace,
    Node,
    ObjectMeta,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    StorageClass,
)
from extender.kube.quantity import parse_quantity
from extender.workload.model import Workload

log = structlog.get_logger("extender.cluster")

_MAX_PROBLEMS = 1_000

LONG_SECONDS = 1.0
"""An object whose reading took so long is named in the log."""

T = TypeVar("T")


class ClusterState:
    """Everything that is known. ``clock`` gives UNIX time in seconds.

    ``steady`` is a clock that nobody sets, in seconds from any beginning: memory is kept by it.
    Without it ``clock`` is taken for such a one.
    ``listing``, ``upsert`` and ``delete`` are called by watch threads; ``view`` by requests.
    ``learn``: starts that happened correct later estimates. ``open_lately``: see ``ledger``.
    ``name_problem`` is called with an object and what is wrong with it, once for each text; it must
    be quick.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        steady: Callable[[], float] | None = None,
        counting: VolumeCounting = VolumeCounting.SIZED,
        trusted_namespaces: Iterable[str] = (),
        templates: Templates | None = None,
        learn: bool = True,
        open_lately: int = OPEN_LATELY,
        name_problem: Callable[[str, str], None] = lambda _object, _problem: None,
    ) -> None:
        self.templates = templates or Templates()
        self.counting = counting
        self._clock = clock
        self._steady = steady or clock
        self._lock = RLock()
        self._ledger = Ledger(open_lately=open_lately)
        self._loaders = Loaders(clock=clock, trusted=trusted_namespaces)
        self._leases = Leases(clock=clock, changed=self._ledger.note)
        self._storage = Storage()
        self._starts = Starts(learn=learn)
        self._opted_in: set[str] = set()
        self._problems: LRUCache[str, str] = LRUCache(_MAX_PROBLEMS)
        self._name_problem = name_problem
        self._view: View | None = None
        self._told: list[Callable[[], None]] = []
        self._blind: Callable[[], bool] = lambda: False

    # -- reading ---------------------------------------------------------------------------------

    def view(self) -> View:
        """Return the state of this moment; it does not change any more."""
        with self._lock:
            now = self._clock()
            if self._expire() | self._turn(self._leases.turned()):
                self._settle()
            if self._view is None:
                ledger, storage = self._ledger, self._storage
                self._view = View(
                    now=now,
                    nodes=ledger.picture(),
                    zones=ledger.zones(),
                    gone=ledger.numbers.gone(),
                    changes=ledger.changes(),
                    own=ledger.own(),
                    inventory=self._loaders.inventory(),
                    claims=dict(storage.claims),
                    volumes=dict(storage.volumes),
                    classes=dict(storage.classes),
                    jobs=dict(storage.jobs),
                    completed_writes=storage.completed(),
                    corrections=self._starts.corrections,
                )
            view, leases, changes = self._view, self._leases.facts(), self._ledger.changes()
        return msgspec.structs.replace(view, now=now, leases=leases, changes=changes)

    def now(self) -> float:
        """Return the time of the state's clock: UNIX seconds."""
        return self._clock()

    def steady(self) -> float:
        """Return the time that reservations end by, which goes on when clocks are set."""
        return self._steady()

    def subscribe(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called after every change, by the thread that made it; it must be quick."""
        self._told.append(tell)

    def lease(self, loader: Key) -> Lease | None:
        """Return the Lease of a namespace's loader on a node, as it was last seen."""
        return self._leases.objects.get(loader)

    def pods(self) -> list[PodFacts]:
        """Return all known pods, for listings."""
        with self._lock:
            return list(self._ledger.pods.values())

    def pods_on(self, node: str) -> list[PodFacts]:
        """Return the pods that are on a node."""
        with self._lock:
            return self._ledger.pods_on(node)

    def pod(self, uid: str) -> PodFacts | None:
        """Return one pod by UID."""
        return self._ledger.pods.get(uid)

    def making_way(self, node: str, below: int) -> list[str]:
        """Return the UIDs of a node's pods that are evicted for one of this priority, or may be."""
        with self._lock:
            return self._ledger.making_way(node, below, self._clock())

    def opted_in(self, namespace: str) -> bool:
        """Tell whether new pods of a namespace are sent to this scheduler by its label."""
        return namespace in self._opted_in

    def problems(self) -> dict[str, str]:
        """Return the objects that could not be read, with what was wrong (bounded)."""
        with self._lock:
            return dict(self._problems)

    def demand(self, pod: Pod, workload: Workload) -> MemoryDemand:
        """Return a pod's memory demand under the configured counting; ``workload`` is its own.

        Raises InvalidQuantityError where a quantity is none.
        """
        known = {r.volume: r.bytes for r in workload.references if r.volume and r.bytes}
        return memory_demand(pod, counting=self.counting, model_bytes=known)

    def starts(self) -> dict[str, Started]:
        """Return the latest starts that happened, by pod UID, the newest first."""
        with self._lock:
            return self._starts.recent()

    def starts_seen(self) -> dict[Basis, tuple[Seen, int]]:
        """Return the starts seen to happen, and how many count for corrections, by basis."""
        with self._lock:
            seen, samples = self._starts.seen(), self._starts.samples()
        return {basis: (seen.get(basis, Seen()), samples[basis]) for basis in samples}

    # -- reserving -------------------------------------------------------------------------------

    def reserve(self, entry: Reservation, refused: Callable[[View], T | None]) -> T | None:
        """Keep memory for a pod unless ``refused`` says why not, in one step.

        Nothing that is reserved or seen by the watch in between can be missed.
        """
        with self._lock:
            why = refused(self.view())
            if why is None:
                self._reserve(entry)
            return why

    def hold(self, entry: Reservation) -> None:
        """Keep memory for a pod without a check; never in place of a reservation, or once bound."""
        with self._lock:
            self._reserve(entry)

    def release(self, uid: str, node: str, claim: int) -> None:
        """Give back what was kept for a pod on a node for one claim (see ``reservations``)."""
        with self._lock:
            self._ledger.release(uid, node, claim)
            self._settle()

    def let_go(self, uid: str) -> None:
        """Give back what is held for a pod by a guess, which has proved wrong."""
        with self._lock:
            if self._ledger.let_go(uid):
                self._settle()

    def has_reservation(self, uid: str) -> bool:
        """Tell whether bind has reserved memory somewhere for a pod that was not seen there."""
        with self._lock:
            return self._ledger.has_reservation(uid)

    def reserved(self) -> int:
        """Return how many pods have memory kept for them."""
        return self._ledger.reserved()

    def await_nomination(
        self,
        nominated: Nominated,
        nodes: AbstractSet[str],
        expires: float,
        refused: Callable[[View], T | None],
    ) -> T | None:
        """Await a pod on one of these nodes unless ``refused`` says why not, in one step.

        On a single one it counts as nominated, until the watch tells what became of it, or
        ``expires`` (``steady``).
        """
        with self._lock:
            why = refused(self.view())
            if why is None:
                self._ledger.await_nomination(nominated, nodes, expires)
                self._settle()
            return why

    def stop_awaiting(self, uid: str) -> None:
        """Take a pod for nominated no longer where only an answer of preempt said so."""
        with self._lock:
            if self._ledger.stop_awaiting(uid):
                self._settle()

    def undecided(self, name: str, uid: str, priority: int) -> int:
        """Return the bytes of pods before this one that come to this node, or to another one.

        ``await_nomination`` was told of several nodes, and the watch of none so far.
        """
        with self._lock:
            if self._expire():
                self._settle()
            return self._ledger.undecided(name, uid, priority)

    def awaits_nomination(self, names: Iterable[str]) -> float | None:
        """Return until when a nomination to one of these nodes is awaited, None where none is."""
        with self._lock:
            return self._ledger.awaits_nomination(names)

    def keep_reserved_while(self, blind: Callable[[], bool]) -> None:
        """Let no reservation end while ``blind`` says that pods are not heard of any more."""
        self._blind = blind

    def _expire(self) -> bool:
        return self._ledger.expire(self._steady(), blind=self._blind)

    def _reserve(self, entry: Reservation) -> None:
        if self._ledger.reserve(entry):
            self._settle()

    # -- writing (the Sink of the watch) ---------------------------------------------------------

    def listing(self, kind: type[KubeObject]) -> StateDraft:
        """Begin a complete list, which is about to be asked for; it may be so in vain.

        A pod that memory is kept for when the list is asked for is there by then. Where the list
        does not have it, it is gone, though no watch ever told of it.
        """
        with self._lock:
            kept_for = self._ledger.reserved_for() if kind is Pod else set()
        return StateDraft(
            reduce=self._news,
            known=lambda: self._identities(kind),
            name=lambda gone: self._names(kind, gone),
            put=lambda news, gone: self._replace(kind, news, gone),
            gone_if_absent=kept_for,
        )

    def _replace(
        self, kind: type[KubeObject], news: Sequence[News], gone: AbstractSet[str]
    ) -> None:
        """Apply a complete list. Requests wait for the lock, so it was reduced before."""
        with self._lock:
            for one in gone:
                self._forget(kind, one)
            changed = [self._apply(one) for one in news]
            if gone or any(changed):
                self._settle()

    def upsert(self, obj: KubeObject) -> None:
        """Apply one added or modified object."""
        news = self._news(obj)
        if news is None:
            return
        with self._lock:
            if self._apply(news):
                self._settle()

    def delete(self, obj: KubeObject) -> None:
        """Apply one deleted object."""
        with self._lock:
            self._forget(type(obj), identity(obj))
            self._settle()

    def unreadable(self, kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        """Forget an object that now has a form that cannot be read, and remember the problem."""
        with self._lock:
            self._problems[_name(kind, metadata)] = error
            self._forget(kind, identity(kind(metadata=metadata)), deleted=False)
            self._settle()

    def differs(self, obj: KubeObject) -> bool:
        """Tell whether what is known of an object is not what the object says, or counts wrongly.

        An upsert puts it right.
        """
        if isinstance(obj, Namespace):
            name = obj.metadata.name
            known = (name in self._loaders.labelled_trust, name in self._opted_in)
            return known != (is_trusted(obj), is_opted_in(obj))
        if isinstance(obj, DaemonSet):
            return self._loader(obj) != self.known(obj)
        if isinstance(obj, Job):
            return self._job(obj) != self.known(obj)
        if isinstance(obj, Node):
            return self._node_differs(obj)
        if not isinstance(obj, Pod):
            return self.known(obj) != obj
        facts, _ = self._facts(obj)
        with self._lock:
            same = self.known(obj) == facts and self._ledger.places(facts)
        return not same or self._loaders.misread(facts.uid, obj)

    def _node_differs(self, node: Node) -> bool:
        """Tell the same of a node; what its pods add up to is put right where it is wrong."""
        scratch = ClusterState(clock=self._clock, counting=self.counting)
        scratch.upsert(node)
        with self._lock:
            wrong = self._ledger.recount(identity(node))
            if wrong:
                self._settle()
            known = scratch.known(node) == self.known(node)
            return wrong or not known or self._loaders.differs(node)

    def knows(self, obj: KubeObject) -> bool:
        """Tell whether anything is known of an object."""
        with self._lock:
            return identity(obj) in self._identities(type(obj))

    def _names(self, kind: type[KubeObject], identities: AbstractSet[str]) -> list[str]:
        """Name some of what is known of a kind."""
        if kind is not Pod:
            return sorted(identities)
        with self._lock:
            pods = [self._ledger.pods[uid] for uid in sorted(identities)]
        return [f"{pod.namespace}/{pod.name}" for pod in pods]

    def known(self, obj: KubeObject) -> object:
        """Return what is known of an object, without what other objects add to it."""
        own = identity(obj)
        with self._lock:
            match obj:
                case Node():
                    node = self._ledger.nodes.get(own)
                    return node and node.own
                case PersistentVolumeClaim():
                    return self._storage.claims.get((obj.metadata.namespace, obj.metadata.name))
                case Lease():
                    return self._leases.objects.get(lease_key(obj.metadata))
                case _:
                    tables: dict[type[KubeObject], dict[str, Any]] = {
                        Pod: self._ledger.pods,
                        DaemonSet: self._loaders.daemonsets,
                        Job: self._storage.jobs,
                        PersistentVolume: self._storage.volumes,
                        StorageClass: self._storage.classes,
                    }
                    return tables[type(obj)].get(own)

    def _settle(self) -> None:
        """Renew what the applied events changed, and tell those who want to know."""
        self._ledger.settle()
        self._view = None
        for tell in self._told:
            tell()

    def _news(self, obj: KubeObject) -> News | None:
        """Do the expensive part of an object outside the lock; None for a pod known as it is."""
        since = self._steady()
        news = self._reduced(obj)
        took = self._steady() - since
        if took >= LONG_SECONDS:
            log.warning(
                "an object took long to read; what else its kind's watch tells waited",
                object=_name(type(obj), obj.metadata),
                seconds=round(took, 1),
                remedy="ask its author for shorter scripts in it",
            )
        return news

    def _reduced(self, obj: KubeObject) -> News | None:
        if isinstance(obj, DaemonSet):
            return DaemonSetNews(uid=identity(obj), metadata=obj.metadata, loader=self._loader(obj))
        if isinstance(obj, Job):
            return JobNews(uid=identity(obj), metadata=obj.metadata, job=self._job(obj))
        if not isinstance(obj, Pod):
            return obj
        facts, problem = self._facts(obj)
        template = self.templates.loader(obj) if is_daemon(obj) else None
        is_loader = self._loaders.concerns(facts.uid, obj, template)
        known = self._ledger.pods.get(facts.uid) == facts and self._ledger.places(facts)
        if known and not is_loader:
            with self._lock:
                self._problem(Pod, obj.metadata, problem)
            return None
        return PodNews(
            facts=facts,
            problem=problem,
            start=started(facts.uid, obj) if facts.ready else None,
            restarted=restarted(obj),
            loader=self._loaders.read(facts.uid, obj, template) if is_loader else None,
        )

    def _loader(self, daemonset: DaemonSet) -> Loader | None:
        """Reduce a DaemonSet to what is kept of it; None where it is no loader."""
        template, metadata = self.templates.loader_of(daemonset), daemonset.metadata
        if template is None:
            return None
        return Loader(
            uid=identity(daemonset),
            namespace=metadata.namespace,
            name=metadata.name,
            template=template,
        )

    def _job(self, job: Job) -> JobFacts | None:
        """Reduce a Job to what is kept of it; None where it writes no model into a claim."""
        writes = () if ran_nothing(job) else self.templates.writes(job)
        return job_facts(identity(job), job, writes) if writes else None

    def _facts(self, pod: Pod) -> tuple[PodFacts, str]:
        """Reduce a pod to what is kept of it; also what is wrong with it, empty if nothing is."""
        reading = self.templates.read(pod)
        problem = "" if reading.requests is not None else wrong_amount(pod.spec)
        try:
            demand = self.demand(pod, reading.workload)
        except ExtenderError as error:
            problem = wrong_amount(pod.spec) or str(error)
            demand = MemoryDemand(bytes=0, request=0)
        return (
            pod_facts(identity(pod), pod, demand, reading),
            problem,
        )

    def _apply(self, news: News) -> bool:
        """Apply one object; false where that changed nothing that anybody waits for."""
        if isinstance(news, PodNews):
            return self._apply_pod(news)
        if isinstance(news, DaemonSetNews):
            self._problem(DaemonSet, news.metadata, "")
            self._loaders.put_daemonset(news.uid, news.loader)
            return True
        if isinstance(news, JobNews):
            self._problem(Job, news.metadata, "")
            self._storage.put_job(news.uid, news.job)
            return True
        obj = news
        self._problem(type(obj), obj.metadata, "")
        match obj:
            case Lease():
                key, problem = self._leases.put(obj)
                self._problem(Lease, obj.metadata, problem)
                return self._turn(self._leases.turned(key))
            case Node():
                return self._apply_node(obj)
            case PersistentVolumeClaim():
                self._storage.put_claim(obj)
            case PersistentVolume():
                self._storage.volumes[obj.metadata.name] = obj
            case StorageClass():
                self._storage.classes[obj.metadata.name] = obj
            case Namespace():
                self._loaders.put_namespace(obj)
                (self._opted_in.add if is_opted_in(obj) else self._opted_in.discard)(
                    obj.metadata.name
                )
            case _:
                raise TypeError(f"{type(obj).__name__} is not part of the cluster state")
        return True

    def _apply_pod(self, news: PodNews) -> bool:
        facts, problem = news.facts, news.problem
        before = self._ledger.pods.get(facts.uid)
        changed = self._ledger.put_pod(facts)
        if news.start is not None:
            waited = before is not None and not before.ready
            self._starts.put(news.start, waited=waited, restarted=news.restarted)
        if news.loader is not None:
            problem = self._loaders.put_pod(facts.uid, news.loader) or problem
        self._problem(Pod, facts, problem)
        return changed or news.loader is not None

    def _turn(self, turned: list[Key]) -> bool:
        """Note the loaders that fell silent, or speak again."""
        for key in turned:
            self._loaders.hear(key, self._leases.silent.get(key))
        return bool(turned)

    def _apply_node(self, node: Node) -> bool:
        try:
            allocatable = parse_quantity(node.status.allocatable.get(MEMORY, 0))
        except ExtenderError as error:
            self._problem(Node, node.metadata, f"status.allocatable.{MEMORY}: {error}")
            allocatable = 0
        try:
            room = node_room(node)
        except ExtenderError as error:
            self._problem(Node, node.metadata, f"status.allocatable: {error}")
            room = {}
        changed = self._ledger.put_node(node_view(node, allocatable, room))
        return self._loaders.put_node(node) or changed

    def _identities(self, kind: type[KubeObject]) -> set[str]:
        tables: dict[type[KubeObject], Iterable[str]] = {
            Pod: self._ledger.pods,
            Node: self._ledger.nodes,
            DaemonSet: self._loaders.daemonsets,
            Job: self._storage.jobs,
            PersistentVolumeClaim: map("/".join, self._storage.claims),
            PersistentVolume: self._storage.volumes,
            StorageClass: self._storage.classes,
            Namespace: self._loaders.labelled_trust | self._opted_in | self._storage.namespaces(),
            Lease: map("/".join, self._leases.objects),
        }
        return set(tables[kind])

    def _forget(self, kind: type[KubeObject], which: str, *, deleted: bool = True) -> None:
        if kind is Pod:
            self._ledger.forget_pod(which)
            self._starts.forget(which)
            self._loaders.forget_pod(which)
        elif kind is Node:
            self._ledger.forget_node(which, deleted=deleted)
            self._loaders.forget_node(which)
        elif kind is DaemonSet:
            self._loaders.forget_daemonset(which)
        elif kind is Job:
            self._storage.jobs.pop(which, None)
        elif kind is PersistentVolumeClaim:
            namespace, _, name = which.partition("/")
            self._storage.forget_claim((namespace, name))
        elif kind is PersistentVolume:
            self._storage.volumes.pop(which, None)
        elif kind is StorageClass:
            self._storage.classes.pop(which, None)
        elif kind is Namespace:
            self._loaders.forget_namespace(which)
            self._storage.forget_namespace(which)
            self._opted_in.discard(which)
        elif kind is Lease:
            namespace, _, node = which.partition("/")
            self._leases.forget((namespace, node))
            self._turn(self._leases.turned((namespace, node)))

    def _problem(self, kind: type[KubeObject], metadata: ObjectMeta | PodFacts, error: str) -> None:
        """Note what is wrong with an object now, if anything is."""
        name = _name(kind, metadata)
        if not error:
            self._problems.pop(name, None)
            return
        if self._problems.get(name) != error:
            self._name_problem(name, error)
        self._problems[name] = error


def _name(kind: type[KubeObject], metadata: ObjectMeta | PodFacts) -> str:
    name = f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name
    return f"{kind.__name__} {name}"
