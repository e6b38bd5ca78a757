"""The cluster state: one writer applies events, readers take a view.

Every event is reduced to facts at once and the object is let go. A node's view is rebuilt when
something on it changes; the table of nodes is copied only when somebody reads after a change, so
that a storm of events costs no copies and a reader never sees half of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import RLock
from typing import Any, TypeVar

import msgspec
from cachetools import LRUCache

from extender.cluster.claims import JobFacts, JobState, job_state
from extender.cluster.inventory import (
    PROVIDES_ANNOTATION,
    Inventory,
    Loader,
    LoaderPod,
    ModelState,
    is_ready,
    loader_pod_state,
    provided_paths,
)
from extender.cluster.memory import MEMORY, MemoryDemand, VolumeCounting, memory_demand
from extender.cluster.reservations import Reservation, Reservations
from extender.cluster.templates import Templates
from extender.cluster.view import Key, NodeView, Nominated, PodFacts, View, WarmKey, warm_key
from extender.errors import ExtenderError
from extender.kube.objects import (
    DaemonSet,
    Job,
    KubeObject,
    Namespace,
    Node,
    ObjectMeta,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    StorageClass,
)
from extender.kube.quantity import parse_quantity
from extender.kube.times import unix_time
from extender.workload.jobs import read_job
from extender.workload.loaders import read_loader
from extender.workload.model import Workload

TRUSTED_LABEL = "modelcache.dev/loaders"
FINISHED = frozenset({"Succeeded", "Failed"})
_MAX_COMPLETED_WRITES = 10_000
_MAX_PROBLEMS = 1_000

T = TypeVar("T")


class ClusterState:
    """Everything that is known. ``clock`` gives UNIX time in seconds.

    ``replace``, ``upsert`` and ``delete`` are called by watch threads; ``view`` by requests.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        counting: VolumeCounting = VolumeCounting.SIZED,
        trusted_namespaces: Iterable[str] = (),
        templates: Templates | None = None,
    ) -> None:
        self.templates = templates or Templates()
        self.counting = counting
        self._clock = clock
        self._configured_trust = frozenset(trusted_namespaces)
        self._lock = RLock()
        self._nodes: dict[str, NodeView] = {}
        self._node_created: dict[str, str] = {}
        self._provides: dict[str, tuple[str, ...]] = {}
        self._pods: dict[str, PodFacts] = {}
        self._on_node: dict[str, dict[str, PodFacts]] = {}
        self._loaders: dict[str, Loader] = {}
        self._loader_pods: dict[str, LoaderPod] = {}
        self._remembered: dict[tuple[str, str], LoaderPod] = {}
        self._claims: dict[Key, PersistentVolumeClaim] = {}
        self._volumes: dict[str, PersistentVolume] = {}
        self._classes: dict[str, StorageClass] = {}
        self._jobs: dict[str, JobFacts] = {}
        self._completed: LRUCache[tuple[str, str, str], bool] = LRUCache(_MAX_COMPLETED_WRITES)
        self._labelled_trust: set[str] = set()
        self._problems: LRUCache[str, str] = LRUCache(_MAX_PROBLEMS)
        self._nominated: dict[str, dict[str, PodFacts]] = {}
        self._reservations = Reservations()
        self._changed_nodes: set[str] = set()
        self._inventory: Inventory | None = None
        self._view: View | None = None
        self._told: list[Callable[[], None]] = []

    # -- reading ---------------------------------------------------------------------------------

    def view(self) -> View:
        """Return the state of this moment; it does not change any more."""
        with self._lock:
            now = self._clock()
            expired = self._reservations.expire(now)
            if expired:
                self._changed_nodes |= expired
                self._settle()
            if self._inventory is None:
                self._inventory = Inventory(
                    loaders=self._loaders.values(),
                    pods=[p for p in self._loader_pods.values() if self._is_of_this_machine(p)],
                    remembered=self._remembered,
                    provides=self._provides,
                    trusted=self._configured_trust | self._labelled_trust,
                )
            if self._view is None:
                self._view = View(
                    now=now,
                    nodes=dict(self._nodes),
                    inventory=self._inventory,
                    claims=dict(self._claims),
                    volumes=dict(self._volumes),
                    classes=dict(self._classes),
                    jobs=dict(self._jobs),
                    completed_writes=frozenset(self._completed),
                )
                return self._view
            view = self._view
        return msgspec.structs.replace(view, now=now)

    def now(self) -> float:
        """Return the time of the state's clock: UNIX seconds."""
        return self._clock()

    def subscribe(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called after every change, by the thread that made it; it must be quick."""
        self._told.append(tell)

    def pods(self) -> list[PodFacts]:
        """Return all known pods, for listings."""
        with self._lock:
            return list(self._pods.values())

    def pod(self, uid: str) -> PodFacts | None:
        """Return one pod by UID."""
        return self._pods.get(uid)

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
            if entry.firm or not self._reservations.reserved(entry.uid):
                self._reserve(entry)

    def release(self, uid: str, node: str) -> None:
        """Give back what was kept for a pod on a node."""
        with self._lock:
            self._changed_nodes |= self._reservations.drop(uid, node)
            self._settle()

    def has_reservation(self, uid: str) -> bool:
        """Tell whether bind has reserved memory for a pod that is not seen on a node yet."""
        with self._lock:
            return self._reservations.reserved(uid)

    def reserved(self) -> int:
        """Return how many pods have memory kept for them."""
        return len(self._reservations)

    def _reserve(self, entry: Reservation) -> None:
        facts = self._pods.get(entry.uid)
        if facts is not None and facts.node:
            return  # it counts already, where the watch has seen it
        self._changed_nodes |= self._reservations.put(entry)
        self._settle()

    # -- writing (the Sink of the watch) ---------------------------------------------------------

    def replace(self, kind: type[KubeObject], objects: Sequence[KubeObject]) -> None:
        """Make the objects of a complete list all there is of their kind, in one step."""
        prepared = [self._prepare(obj) for obj in objects]
        with self._lock:
            present = {_identity(obj) for obj in objects}
            for gone in self._identities(kind) - present:
                self._forget(kind, gone)
            for obj, facts in zip(objects, prepared, strict=True):
                self._apply(obj, facts)
            self._settle()

    def upsert(self, obj: KubeObject) -> None:
        """Apply one added or modified object."""
        facts = self._prepare(obj)
        with self._lock:
            self._apply(obj, facts)
            self._settle()

    def delete(self, obj: KubeObject) -> None:
        """Apply one deleted object."""
        with self._lock:
            self._forget(type(obj), _identity(obj))
            self._settle()

    def unreadable(self, kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        """Forget an object that now has a form that cannot be read, and remember the problem."""
        with self._lock:
            self._problems[_name(kind, metadata)] = error
            self._forget(kind, _identity(kind(metadata=metadata)))
            self._settle()

    def differs(self, obj: KubeObject) -> bool:
        """Tell whether what is known of an object is not what the object says."""
        if isinstance(obj, Namespace):
            return (obj.metadata.name in self._labelled_trust) != _is_trusted(obj)
        if isinstance(obj, DaemonSet | Job | Node):
            scratch = ClusterState(clock=self._clock, counting=self.counting)
            scratch.upsert(obj)
            return scratch.known(obj) != self.known(obj)
        facts = self._prepare(obj)
        with self._lock:
            if facts is not None:
                return self._pods.get(facts.uid) != facts
            return self.known(obj) != obj

    def known(self, obj: KubeObject) -> object:
        """Return what is known of an object, without what other objects add to it."""
        identity = _identity(obj)
        with self._lock:
            match obj:
                case Node():
                    node = self._nodes.get(identity)
                    return node and (node.labels, node.allocatable, node.images, node.schedulable)
                case PersistentVolumeClaim():
                    return self._claims.get((obj.metadata.namespace, obj.metadata.name))
                case _:
                    tables: dict[type[KubeObject], dict[str, Any]] = {
                        Pod: self._pods,
                        DaemonSet: self._loaders,
                        Job: self._jobs,
                        PersistentVolume: self._volumes,
                        StorageClass: self._classes,
                    }
                    return tables[type(obj)].get(identity)

    def _settle(self) -> None:
        """Renew what the applied events changed: each node once, however many pods it was."""
        for name in self._changed_nodes:
            self._rebuild(name)
        self._changed_nodes.clear()
        self._view = None
        for tell in self._told:
            tell()

    def _prepare(self, obj: KubeObject) -> PodFacts | None:
        """Do the expensive part of a pod outside the lock; what was wrong before counts no more."""
        with self._lock:
            self._problems.pop(_name(type(obj), obj.metadata), None)
        if not isinstance(obj, Pod):
            return None
        workload = self.templates.workload(obj)
        try:
            demand = self.demand(obj, workload)
        except ExtenderError as error:
            self._problem(obj, error)
            demand = MemoryDemand(bytes=0, request=0)
        return _pod_facts(obj, demand, workload)

    def _apply(self, obj: KubeObject, facts: PodFacts | None) -> None:
        match obj:
            case Pod():
                assert facts is not None
                self._apply_pod(obj, facts)
            case Node():
                self._apply_node(obj)
            case DaemonSet():
                self._apply_daemonset(obj)
            case Job():
                self._apply_job(obj)
            case PersistentVolumeClaim():
                self._apply_claim(obj)
            case PersistentVolume():
                self._volumes[obj.metadata.name] = obj
            case StorageClass():
                self._classes[obj.metadata.name] = obj
            case Namespace():
                self._apply_namespace(obj)
            case _:
                raise TypeError(f"{type(obj).__name__} is not part of the cluster state")

    def _identities(self, kind: type[KubeObject]) -> set[str]:
        tables: dict[type[KubeObject], Iterable[str]] = {
            Pod: self._pods,
            Node: self._nodes,
            DaemonSet: self._loaders,
            Job: self._jobs,
            PersistentVolumeClaim: (f"{namespace}/{name}" for namespace, name in self._claims),
            PersistentVolume: self._volumes,
            StorageClass: self._classes,
            Namespace: self._labelled_trust,
        }
        return set(tables[kind])

    def _forget(self, kind: type[KubeObject], identity: str) -> None:
        if kind is Pod:
            self._forget_pod(identity)
        elif kind is Node:
            self._forget_node(identity)
        elif kind is DaemonSet:
            self._forget_loader(identity)
        elif kind is Job:
            self._jobs.pop(identity, None)
        elif kind is PersistentVolumeClaim:
            namespace, _, name = identity.partition("/")
            self._forget_claim((namespace, name))
        elif kind is PersistentVolume:
            self._volumes.pop(identity, None)
        elif kind is StorageClass:
            self._classes.pop(identity, None)
        elif kind is Namespace and identity in self._labelled_trust:
            self._labelled_trust.discard(identity)
            self._inventory = None

    # -- pods ------------------------------------------------------------------------------------

    def _apply_pod(self, pod: Pod, facts: PodFacts) -> None:
        before = self._pods.get(facts.uid)
        self._pods[facts.uid] = facts
        if before is not None and before.node and before.node != facts.node:
            self._on_node.get(before.node, {}).pop(facts.uid, None)
            self._changed_nodes.add(before.node)
        self._nominate(before, facts)
        if facts.node:
            self._on_node.setdefault(facts.node, {})[facts.uid] = facts
            self._changed_nodes.add(facts.node)
            self._changed_nodes |= self._reservations.drop(facts.uid)
        owner = pod.metadata.controller()
        if owner is not None and owner.kind == "DaemonSet" and facts.node:
            self._apply_loader_pod(facts.uid, pod, f"{facts.namespace}/{owner.name}")

    def _nominate(self, before: PodFacts | None, now: PodFacts | None) -> None:
        """Note where an unbound pod is about to go once its victims are gone."""
        for facts in (before, now):
            if facts is not None and facts.nominated:
                self._nominated.get(facts.nominated, {}).pop(facts.uid, None)
                self._changed_nodes.add(facts.nominated)
        if now is not None and now.nominated and not now.node and now.counts:
            self._nominated.setdefault(now.nominated, {})[now.uid] = now

    def _forget_pod(self, uid: str) -> None:
        facts = self._pods.pop(uid, None)
        self._nominate(facts, None)
        self._changed_nodes |= self._reservations.drop(uid)
        if facts is not None and facts.node:
            self._on_node.get(facts.node, {}).pop(uid, None)
            self._changed_nodes.add(facts.node)
        before = self._loader_pods.pop(uid, None)
        if before is not None:
            self._remember(before)
            self._inventory = None

    def _apply_loader_pod(self, uid: str, pod: Pod, loader: str) -> None:
        before = self._loader_pods.get(uid)
        template = self.templates.loader(pod)
        if template is None or pod.status.phase == "Succeeded":
            if before is not None:
                del self._loader_pods[uid]
                self._remember(before)
                self._inventory = None
            return
        state, reason = loader_pod_state(pod, template)
        since = _ready_changed(pod)
        if state is ModelState.STALE and is_ready(pod):
            # Ready until it was deleted, which no condition tells the time of.
            known = before is not None and before.state is ModelState.STALE
            since = before.since if known and before is not None else self._clock()
        now = LoaderPod(
            uid=uid,
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            loader=loader,
            node=pod.spec.node_name,
            template=template,
            state=state,
            reason=reason,
            since=since,
            created=pod.metadata.creation_timestamp,
        )
        if now == before:
            return
        self._loader_pods[uid] = now
        self._inventory = None
        if state is ModelState.READY:
            self._remembered.pop((loader, now.node), None)
        elif before is not None:
            self._remember(before)

    def _remember(self, before: LoaderPod) -> None:
        """Keep what a Ready loader pod left on its node; from now on it is stale.

        Not where its loader was deleted (first, as kubectl does by default), or the node.
        """
        alive = any(before.loader == f"{x.namespace}/{x.name}" for x in self._loaders.values())
        if before.state is ModelState.READY and alive and self._is_of_this_machine(before):
            self._remembered[before.loader, before.node] = msgspec.structs.replace(
                before, since=self._clock()
            )

    def _is_of_this_machine(self, pod: LoaderPod) -> bool:
        """Tell a loader pod of the node from one of a machine that had its name before."""
        created = self._node_created.get(pod.node)
        return created is not None and not (pod.created and pod.created < created)

    # -- nodes -----------------------------------------------------------------------------------

    def _apply_node(self, node: Node) -> None:
        name = node.metadata.name
        try:
            allocatable = parse_quantity(node.status.allocatable.get(MEMORY, 0))
        except ExtenderError as error:
            self._problem(node, error)
            allocatable = 0
        images = {n: image.size_bytes for image in node.status.images for n in image.names}
        self._nodes[name] = NodeView(
            name=name,
            labels=node.metadata.labels,
            allocatable=allocatable,
            images=images,
            schedulable=not node.spec.unschedulable,
        )
        self._changed_nodes.add(name)
        created = node.metadata.creation_timestamp
        if self._node_created.get(name) != created:
            self._forget_remembered(name)
            self._node_created[name] = created
            self._inventory = None
        provides = provided_paths(node.metadata.annotations.get(PROVIDES_ANNOTATION))
        if provides != self._provides.get(name, ()):
            self._provides[name] = provides
            self._inventory = None

    def _rebuild(self, name: str) -> None:
        """Renew what a node's pods add up to."""
        node = self._nodes.get(name)
        if node is None:
            return
        promised = 0
        warm: set[WarmKey] = set()
        for pod in self._on_node.get(name, {}).values():
            if not pod.counts:
                continue
            promised += pod.demand.on(node.allocatable)
            if pod.ready:
                keys = (warm_key(ref, pod.namespace) for ref in pod.workload.references)
                warm.update(key for key in keys if key is not None)
        reserved = tuple(self._reservations.on(name))
        nominated = tuple(
            Nominated(uid=p.uid, priority=p.priority, bytes=p.demand.on(node.allocatable))
            for p in self._nominated.get(name, {}).values()
            if p.uid not in self._reservations
        )
        self._nodes[name] = msgspec.structs.replace(
            node,
            promised=promised + sum(entry.bytes for entry in reserved),
            reserved=reserved,
            nominated=nominated,
            warm=frozenset(warm),
        )

    def _forget_node(self, name: str) -> None:
        self._nodes.pop(name, None)
        if self._provides.pop(name, None):
            self._inventory = None
        if self._node_created.pop(name, None) is not None:
            self._inventory = None
        self._forget_remembered(name)

    def _forget_remembered(self, name: str) -> None:
        for key in [key for key in self._remembered if key[1] == name]:
            del self._remembered[key]
            self._inventory = None

    # -- loaders, jobs, namespaces ---------------------------------------------------------------

    def _apply_daemonset(self, daemonset: DaemonSet) -> None:
        template = read_loader(daemonset)
        uid = _identity(daemonset)
        before = self._loaders.get(uid)
        if template is None:
            self._forget_loader(uid)
            return
        now = Loader(
            uid=uid,
            namespace=daemonset.metadata.namespace,
            name=daemonset.metadata.name,
            template=template,
        )
        if now != before:
            self._loaders[uid] = now
            self._inventory = None

    def _forget_loader(self, uid: str) -> None:
        """Forget a loader and what it left: nobody vouches for those files any more."""
        loader = self._loaders.pop(uid, None)
        if loader is None:
            return
        name = f"{loader.namespace}/{loader.name}"
        for key in [key for key in self._remembered if key[0] == name]:
            del self._remembered[key]
        self._inventory = None

    def _apply_claim(self, claim: PersistentVolumeClaim) -> None:
        key = claim.metadata.namespace, claim.metadata.name
        before = self._claims.get(key)
        if before is not None and before.metadata.uid != claim.metadata.uid:
            self._forget_claim(key)
        self._claims[key] = claim

    def _forget_claim(self, key: Key) -> None:
        """Forget a claim and what was written there: one made anew under its name is empty."""
        if self._claims.pop(key, None) is not None:
            for write in [write for write in self._completed if write[:2] == key]:
                del self._completed[write]

    def _apply_job(self, job: Job) -> None:
        writes = read_job(job)
        uid = _identity(job)
        if not writes:
            self._jobs.pop(uid, None)
            return
        state, reason = job_state(job)
        namespace = job.metadata.namespace
        self._jobs[uid] = JobFacts(
            uid=uid,
            namespace=namespace,
            name=job.metadata.name,
            state=state,
            writes=writes,
            reason=reason,
        )
        if state is JobState.COMPLETE:
            for write in writes:
                self._completed[namespace, write.claim, write.model.path] = True

    def _apply_namespace(self, namespace: Namespace) -> None:
        name = namespace.metadata.name
        trusted = _is_trusted(namespace)
        if trusted == (name in self._labelled_trust):
            return
        if trusted:
            self._labelled_trust.add(name)
        else:
            self._labelled_trust.discard(name)
        self._inventory = None

    def _problem(self, obj: KubeObject, error: ExtenderError) -> None:
        with self._lock:
            self._problems[_name(type(obj), obj.metadata)] = str(error)


def _is_trusted(namespace: Namespace) -> bool:
    return namespace.metadata.labels.get(TRUSTED_LABEL) == "trusted"


def _name(kind: type[KubeObject], metadata: ObjectMeta) -> str:
    name = f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name
    return f"{kind.__name__} {name}"


def _identity(obj: KubeObject) -> str:
    """Return what an object is kept under: UIDs for what is recreated under the same name."""
    metadata = obj.metadata
    if isinstance(obj, Pod | DaemonSet | Job):
        return metadata.uid or f"{metadata.namespace}/{metadata.name}"
    if isinstance(obj, PersistentVolumeClaim):
        return f"{metadata.namespace}/{metadata.name}"
    return metadata.name


def _pod_facts(pod: Pod, demand: MemoryDemand, workload: Workload) -> PodFacts:
    return PodFacts(
        uid=_identity(pod),
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        node=pod.spec.node_name,
        scheduler=pod.spec.scheduler_name,
        priority=pod.spec.priority or 0,
        demand=demand,
        nominated=pod.status.nominated_node_name,
        created=pod.metadata.creation_timestamp,
        counts=pod.status.phase not in FINISHED,
        ready=is_ready(pod),
        workload=workload,
    )


def _ready_changed(pod: Pod) -> float | None:
    """Return when the Ready condition last changed, as UNIX time in seconds."""
    for condition in pod.status.conditions:
        if condition.type == "Ready" and condition.last_transition_time:
            return unix_time(condition.last_transition_time)
    return None
