"""The real watch and the real cluster state behind the proxy, and the law that they are held to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread
from time import monotonic, time
from typing import Any

import yaml
from kubernetes.client.configuration import Configuration
from msgspec.structs import replace

from extender.backoff import Backoff
from extender.cluster.kept import KeptDraft
from extender.cluster.state import ClusterState
from extender.kube.decode import KINDS, decode
from extender.kube.objects import KubeObject, ObjectMeta
from extender.watch.access import Access
from extender.watch.client import Transport
from extender.watch.freshness import Freshness
from extender.watch.reflector import Timing
from extender.watch.resources import RESOURCES
from extender.watch.watching import Watching
from tests.builders import relist
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.faults.api import Api, Key, Object, Version, versions
from tests.controlplane.faults.churn import Churn, Write
from tests.controlplane.faults.proxy import Proxy

PATHS = [resource.path for resource in RESOURCES]
BOUND = 15.0
"""Seconds from the end of a short fault to the truth, with the real waits; two cores are slow."""

SLACK = 2.0
"""Seconds that an event may take from the apiserver's answer to the state on a busy machine."""

LONG = int(os.environ.get("FAULT_ROUNDS") or 1) > 1
"""The long version has the real waits; in the short one they begin at a fifth of them."""

IMPATIENT = Timing(silence=(2.0, 3.0), list_read_timeout=6.0, question_read_timeout=3.0)
"""The real times, but for the silence that is put up with: 75 to 90 s would make long tests."""


SETTLED: list[float] = []
"""The seconds of every way back to the truth, for the table at the end."""


class Tee:
    """Passes everything on to the state, and remembers who is there in which version."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._lock = Lock()
        self._known: dict[str, dict[Key, Version]] = {name: {} for name in KINDS}

    def listing(self, kind: type[KubeObject]) -> KeptDraft:
        def listed(objects: Sequence[KubeObject]) -> None:
            with self._lock:
                self._known[kind.__name__] = {
                    _key(o.metadata): _version(o.metadata) for o in objects
                }

        return KeptDraft(self._state.listing(kind), listed)

    def upsert(self, obj: KubeObject) -> None:
        self._state.upsert(obj)
        with self._lock:
            self._known[type(obj).__name__][_key(obj.metadata)] = _version(obj.metadata)

    def delete(self, obj: KubeObject) -> None:
        self._state.delete(obj)
        with self._lock:
            self._known[type(obj).__name__].pop(_key(obj.metadata), None)

    def knows(self, obj: KubeObject) -> bool:
        return self._state.knows(obj)

    def differs(self, obj: KubeObject) -> bool:
        return self._state.differs(obj)

    def unreadable(self, kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        raise AssertionError(f"the real apiserver sent an odd {kind.__name__}: {error}")

    def known(self) -> dict[str, dict[Key, Version]]:
        """Return a copy of what is known."""
        with self._lock:
            return {kind: dict(objects) for kind, objects in self._known.items()}


class Scene:
    """One watch behind one proxy, under churn, with its freshness looked at all along."""

    def __init__(self, proxy: Proxy, api: Api, churn: Churn, watching: Watching, tee: Tee) -> None:
        self.proxy = proxy
        self.api = api
        self.churn = churn
        self.watching = watching
        self.tee = tee
        self.lies: list[str] = []

    def settle(self, state: ClusterState, bound: float = BOUND) -> float:
        """Wait until what is known is a fresh list; return the seconds that it took."""
        began = monotonic()
        while True:
            truth = self.api.truth()
            wanted, known = versions(truth), self.tee.known()
            if wanted == known and facts(state) == facts(listed(truth)):
                SETTLED.append(monotonic() - began)
                return SETTLED[-1]
            if monotonic() - began > bound:
                raise AssertionError(
                    f"not what a fresh list says after {bound} s: {difference(wanted, known)}; "
                    f"{[one for one in self.watching.freshness() if one.last_error]}"
                )
            Event().wait(0.05)

    def freshness(self) -> dict[str, Freshness]:
        """Return how each kind stands."""
        return {one.kind: one for one in self.watching.freshness()}

    def total(self, counter: str) -> int:
        """Return the sum of a counter over all kinds."""
        return sum(getattr(one, counter) for one in self.watching.freshness())

    def watch_for_lies(self) -> None:
        """Compare what freshness claims with what the apiserver has confirmed, once.

        An age of ``a`` seconds says that everything that was true ``a`` seconds ago is known.
        """
        claims = [
            (one.kind, monotonic() - one.age_seconds) for one in self.watching.freshness() if one
        ]
        known = self.tee.known()
        for kind, heard_at in claims:
            for write in self.churn.confirmed(kind):
                if write.at < heard_at - SLACK and not _seen(write, known[kind]):
                    self.lies.append(
                        f"{kind} was heard of {heard_at - write.at:.1f} s after {write} and does "
                        f"not show it: {known[kind].get(write.key)}"
                    )


def _seen(write: Write, known: Mapping[Key, Version]) -> bool:
    at = known.get(write.key)
    # Gone is good: a finalizer's object goes by itself, later. So is another one in its place.
    if at is None or at[0] != write.uid:
        return True
    return write.version is not None and int(at[1]) >= write.version


@contextmanager
def scene(
    proxy: Proxy,
    api: Api,
    namespace: str,
    seed: int,
    *,
    access: Access,
    timing: Timing | None = None,
    honest: bool = True,
) -> Iterator[tuple[Scene, ClusterState]]:
    """Watch through the proxy for the length of a with block, synced at its start."""
    state = ClusterState(clock=time)
    tee = Tee(state)
    watching = Watching(
        Transport(access), tee, timing=timing, random=Random(seed), make_backoff=_backoff
    )
    churn = Churn(api.another(), namespace, seed)
    made = Scene(proxy, api, churn, watching, tee)
    done = Event()

    def look() -> None:
        while not done.wait(0.1):
            made.watch_for_lies()

    looking = Thread(target=look, name="looks-for-lies", daemon=True)
    watching.start()
    try:
        assert watching.wait_synced(30)
        # Changes only once every watch is open: then a fault meets what it is meant for.
        assert eventually(lambda: all(proxy.asked("watch", path) for path in PATHS), 30)
        if honest:
            looking.start()
        yield made, state
        assert not made.lies, made.lies[:3]
    finally:
        done.set()
        if looking.ident is not None:
            looking.join(30)
        assert watching.stop(timeout=30)
        made.churn.clean()


def _backoff(random: Random, clock: Callable[[], float]) -> Backoff:
    return Backoff(random=random, clock=clock, first=0.5 if LONG else 0.1)


def eventually(condition: Callable[[], object], timeout: float) -> bool:
    """Wait until the condition holds; return whether it did."""
    deadline = monotonic() + timeout
    while not condition():
        if monotonic() > deadline:
            return False
        Event().wait(0.02)
    return True


# -- facts ---------------------------------------------------------------------------------------


def listed(truth: Mapping[str, list[Object]]) -> ClusterState:
    """Return the state that a fresh list makes."""
    state = ClusterState(clock=time)
    for kind, items in truth.items():
        relist(
            state,
            KINDS[kind],
            [decode(json.dumps(item).encode(), KINDS[kind]) for item in items],
        )
    return state


def facts(state: ClusterState) -> dict[str, Any]:
    """Return all that decisions are made of, but for what is remembered of the past."""
    view = state.view()
    return {
        "pods": {pod.uid: pod for pod in state.pods()},
        # Numbers are given in the order in which nodes came.
        "nodes": {name: replace(node, number=0) for name, node in view.nodes.items()},
        "claims": dict(view.claims),
        "volumes": dict(view.volumes),
        "classes": dict(view.classes),
        "jobs": dict(view.jobs),
        "models": {
            node: sorted(map(repr, rows)) for node, rows in view.inventory.holdings().items()
        },
    }


def difference(
    wanted: Mapping[str, Mapping[Key, Version]], known: Mapping[str, Mapping[Key, Version]]
) -> list[str]:
    """Say what is known and not true, by kind; nothing, where only the facts made of it differ."""
    return [
        f"{kind} {key}: known {known[kind].get(key)}, true {wanted[kind].get(key)}"
        for kind in wanted
        for key in sorted(set(wanted[kind]) | set(known[kind]))
        if wanted[kind].get(key) != known[kind].get(key)
    ][:6]


# -- access --------------------------------------------------------------------------------------


def kubeconfig_of(plane: ControlPlane, **changes: Any) -> Object:
    """Return the admin's kubeconfig with keys of its cluster and user changed."""
    document: Object = yaml.safe_load(plane.kubeconfig().read_text("utf-8"))
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    for key, value in changes.items():
        place = user if key in {"token", "tokenFile"} else cluster
        place[key.replace("_", "-")] = value
    if "tokenFile" in changes:
        del user["token"]
    return document


def proxy_for(plane: ControlPlane) -> Proxy:
    """Return a proxy in front of a real apiserver, which shows that one's certificate."""
    certificate = plane.workdir / "certs" / "apiserver.crt"
    return Proxy(plane.server, certificate, certificate, certificate.with_suffix(".key"))


def kubeconfig_through(proxy: Proxy, plane: ControlPlane, folder: Path) -> Path:
    """Write the admin's kubeconfig with the proxy in place of the apiserver."""
    path = folder / f"through-{proxy.port}.kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig_of(plane, server=proxy.url)), encoding="utf-8")
    return path


def token_of(plane: ControlPlane) -> str:
    """Return the admin's token."""
    token: str = kubeconfig_of(plane)["users"][0]["user"]["token"]
    return token


def access_through(proxy: Proxy, plane: ControlPlane) -> Access:
    """Return the admin's access through the proxy."""
    token, authority = token_of(plane), plane.workdir / "certs" / "apiserver.crt"

    def load() -> Configuration:
        configuration = Configuration(host=proxy.url)
        configuration.ssl_ca_cert = str(authority)
        configuration.api_key["BearerToken"] = f"Bearer {token}"
        return configuration

    return Access(load)


def _key(metadata: ObjectMeta) -> Key:
    return metadata.namespace, metadata.name


def _version(metadata: ObjectMeta) -> Version:
    return metadata.uid, metadata.resource_version
