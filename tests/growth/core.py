"""The core behind the same service without HTTP: what it is told and asked comes at once.

So hundreds of thousands of changes take minutes: enough for every cache to be full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec
from prometheus_client import generate_latest

from extender.cli.source import new_context, new_state
from extender.config import ExtenderConfiguration
from extender.kube.objects import KubeObject
from extender.serving.bindings import ApiBindings
from extender.serving.knowledge import FileKnowledge
from extender.serving.service import Service
from extender.serving.telling import ApiTelling
from extender.waiting.fetching import Bounds
from extender.waiting.rounds import Rounds
from extender.waiting.telling import Word
from extender.waiting.wishes import changes
from extender.watch.answers import Answer
from extender.watch.resources import RESOURCES
from tests.clock import Clock
from tests.growth.churn import Churn, Object
from tests.growth.retained import entries, modules

if TYPE_CHECKING:
    from extender.watch.client import Transport
    from tests.watch.fake_apiserver import FakeApiserver

_KINDS = {resource.path: resource.kind for resource in RESOURCES}


class Answered(ApiTelling):
    """Tells, and is answered at once."""

    def answers(self) -> Iterable[tuple[str, Word]]:
        return ()


class Core:
    """A service, the cluster that it is told of, and who wakes. It leads, and all is written."""

    term = "own"

    def __init__(self, bounds: Mapping[str, int]) -> None:
        self._clock = Clock(1_800_000_000.0)
        self._bounds = bounds
        self._there: dict[tuple[str, str], KubeObject] = {}
        self.told = 0
        """Changes of objects."""
        configuration = ExtenderConfiguration()
        self._state = new_state(configuration, self._clock, steady=self._clock)
        self._context = new_context(self._state, configuration, stale=tuple)
        transport = cast("Transport", self)
        self._service = Service(
            self._context, FileKnowledge(), configuration, bindings=ApiBindings(transport)
        )
        self._rounds = Rounds(
            self._state,
            self._service.waiting,
            self._context.policy,
            Answered(transport, now=self._clock, fence=str),
            schedulers={""},
            stale=tuple,
            request_of=self._context.request_of,
        )
        self._churn = Churn(cast("FakeApiserver", self), self._ask, self._clock)

    def live(self) -> None:
        """Let a generation come and go."""
        self._churn.live(lambda _: self._act(seconds=7.0))
        self._act(seconds=60.0)
        generate_latest(self._service.metrics.registry)

    @property
    def generations(self) -> int:
        return self._churn.generations

    def kept(self) -> Counter[str]:
        """Count what is kept."""
        return entries(self._service, self._rounds, *modules(), bounds=self._bounds)

    def _act(self, *, seconds: float) -> None:
        """Wake and ask loaders, then let time pass."""
        for _ in self._rounds.wake(self):
            pass
        changes(self._state, self._service.waiting, self._context.policy, Bounds())
        self._clock.now += seconds
        self._state.view()

    def _ask(self, verb: str, document: Object) -> Any:
        return msgspec.json.decode(self._service.verbs[verb](msgspec.json.encode(document)))

    # -- the apiserver of the churn --------------------------------------------------------------

    def put(self, path: str, name: str, **document: Any) -> None:
        self.told += 1
        own = {"uid": f"uid-{name}", "resourceVersion": str(self.told)}
        document["metadata"] = own | document["metadata"]
        obj = msgspec.convert(document, _KINDS[path])
        self._there[path, name] = obj
        self._state.upsert(obj)

    def delete(self, path: str, name: str) -> None:
        self.told += 1
        self._state.delete(self._there.pop((path, name)))

    def compact(self) -> None:
        pass

    # -- the lead, and the way to the apiserver --------------------------------------------------

    def leads(self) -> bool:
        return True

    def caught_up(self) -> bool:
        return True

    def request(self, *_: object, **__: object) -> Answer:
        return Answer(status=201, headers={}, body=b"{}")
