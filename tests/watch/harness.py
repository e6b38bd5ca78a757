"""A sink that remembers, and a watch of the fake apiserver with short times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from threading import Event, Lock
from time import monotonic

from kubernetes.client.configuration import Configuration

from extender.backoff import Backoff
from extender.kube.objects import KubeObject, Node, ObjectMeta
from extender.watch.access import Access
from extender.watch.client import Transport
from extender.watch.reflector import Timing
from extender.watch.resources import NODES, Resource
from extender.watch.watching import MakeBackoff, Watching
from tests.watch.fake_apiserver import FakeApiserver

QUICK = Timing(
    page_size=3,
    first_watch=(30.0, 30.0),
    watch=(30.0, 30.0),
    silence=(0.6, 0.8),
    list_read_timeout=5.0,
    question_read_timeout=2.0,
    calm=0.05,
)


class RecordingSink:
    """Holds what it is told, by kind and name."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.objects: dict[str, dict[str, KubeObject]] = {}
        self.asked_for: list[str] = []
        self.replaced = 0
        self.calls = 0
        self.odd: list[tuple[str, ObjectMeta]] = []

    def listing(self, kind: type[KubeObject]) -> RecordingDraft:
        with self._lock:
            self.asked_for.append(kind.__name__)
        return RecordingDraft(self, kind)

    def replace(self, kind: type[KubeObject], objects: Mapping[str, KubeObject]) -> None:
        with self._lock:
            self.objects[kind.__name__] = dict(objects)
            self.replaced += 1
            self.calls += 1

    def upsert(self, obj: KubeObject) -> None:
        with self._lock:
            self.objects.setdefault(type(obj).__name__, {})[obj.metadata.name] = obj
            self.calls += 1

    def delete(self, obj: KubeObject) -> None:
        with self._lock:
            self.objects.get(type(obj).__name__, {}).pop(obj.metadata.name, None)
            self.calls += 1

    def differs(self, obj: KubeObject) -> bool:
        with self._lock:
            return self.objects.get(type(obj).__name__, {}).get(obj.metadata.name) != obj

    def knows(self, obj: KubeObject) -> bool:
        with self._lock:
            return obj.metadata.name in self.objects.get(type(obj).__name__, {})

    def unreadable(self, kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        with self._lock:
            self.objects.get(kind.__name__, {}).pop(metadata.name, None)
            self.odd.append((kind.__name__, metadata))
            self.calls += 1

    def state(self, kind: type[KubeObject] = Node) -> dict[str, str]:
        """Return name -> resource version."""
        with self._lock:
            known = self.objects.get(kind.__name__, {})
            return {name: obj.metadata.resource_version for name, obj in known.items()}


class RecordingDraft:
    """A list on its way into the sink."""

    def __init__(self, sink: RecordingSink, kind: type[KubeObject]) -> None:
        self._sink = sink
        self._kind = kind
        self._objects: dict[str, KubeObject] = {}

    def add(self, objects: Sequence[KubeObject]) -> None:
        self._objects |= {obj.metadata.name: obj for obj in objects}

    def phantoms(self, besides: Iterable[KubeObject]) -> list[str]:
        there = {*self._objects, *(obj.metadata.name for obj in besides)}
        return sorted(set(self._sink.state(self._kind)) - there)

    def replace(self) -> None:
        self._sink.replace(self._kind, self._objects)


def eventually(condition: Callable[[], bool], timeout: float = 30.0) -> bool:
    """Wait until the condition holds, at most ``timeout`` seconds; return whether it did."""
    pause, deadline = Event(), monotonic() + timeout
    while not condition():
        if monotonic() > deadline:
            return False
        pause.wait(0.005)
    return True


def quick_backoff(random: Random, clock: Callable[[], float]) -> Backoff:
    """Waits that do not slow a test down, but grow as the real ones do."""
    return Backoff(random=random, clock=clock, first=0.02, most=0.3, peace=0.3)


def access_to(api: FakeApiserver, token: str | None = None) -> Access:
    """Return an access without a kubeconfig."""

    def load() -> Configuration:
        configuration = Configuration(host=api.url)
        if token is not None:
            configuration.api_key["BearerToken"] = f"Bearer {token}"
        return configuration

    return Access(load)


@contextmanager
def watching(
    api: FakeApiserver,
    sink: RecordingSink,
    *,
    resources: Sequence[Resource] = (NODES,),
    timing: Timing = QUICK,
    make_backoff: MakeBackoff = quick_backoff,
    transport: Transport | None = None,
) -> Iterator[Watching]:
    """Watch the fake apiserver for the length of a with block."""
    watch = Watching(
        transport or Transport(access_to(api)),
        sink,
        resources=resources,
        timing=timing,
        make_backoff=make_backoff,
        random=Random(1),
    )
    watch.start()
    try:
        yield watch
    finally:
        assert watch.stop(timeout=5)
