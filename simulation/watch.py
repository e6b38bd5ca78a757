"""A watch: what the extender is told of the truth, in order but late, twice, or by a new list."""

from __future__ import annotations

from collections import deque

from extender.cluster.ledger import FINISHED
from extender.kube.objects import KubeObject, Pod
from extender.watch.reflector import Sink
from simulation.apiserver import Apiserver
from simulation.choices import Choices
from simulation.scenario import Seconds
from simulation.timeline import Timeline

_TWICE_PERCENT = 2


class Watch:
    """One kind's list and watch, as the reflector does them.

    A connection that breaks loses what was under way, and a complete list comes after it; what
    happens while that list is on its way is told after it.
    """

    def __init__(
        self,
        kind: type[KubeObject],
        *,
        api: Apiserver,
        sink: Sink,
        timeline: Timeline,
        choices: Choices,
        delay: Seconds,
    ) -> None:
        self.kind = kind
        self._api = api
        self._sink = sink
        self._timeline = timeline
        self._choices = choices
        self._delay = delay
        self.reached = api.version
        """The resource version up to which the kind is known."""
        self._untold: deque[tuple[float, int, KubeObject, bool]] = deque()
        self._told_until = 0.0
        self._connection = 0
        self._connected = True
        self._known_at: float | None = None
        """The moment that is known of while the watch is broken; None while it is not."""
        api.listeners.append(self._happened)
        draft = sink.listing(kind)
        draft.add(self._list())
        draft.replace()

    def close(self) -> None:
        """Tell no more."""
        self._connection += 1
        self._api.listeners.remove(self._happened)

    def age(self) -> float:
        """Return for how many seconds what is known may lag behind."""
        now = self._timeline.now
        if self._known_at is not None:
            return now - self._known_at
        return now - self._untold[0][0] if self._untold else 0.0

    def cut(self, seconds: float, list_seconds: float) -> None:
        """Break the connection for some time; then list, which takes some time too."""
        self._known_at = self._timeline.now - self.age()
        self._connection += 1
        self._connected = False
        self._untold.clear()
        connection = self._connection
        self._timeline.after(seconds, lambda: self._ask(connection, list_seconds))

    def _ask(self, connection: int, seconds: float) -> None:
        if connection != self._connection:
            return
        draft = self._sink.listing(self.kind)
        draft.add(self._list())
        asked_at, version = self._timeline.now, self._api.version
        self._connected = True

        def answered() -> None:
            if connection == self._connection:
                self._known_at = None
                self.reached = version
                draft.replace()

        self._told_until = self._timeline.after(seconds, answered)
        self._known_at = min(self._known_at or asked_at, asked_at)

    def _list(self) -> list[KubeObject]:
        return [obj for obj in self._api.all(self.kind) if _watched(obj)]

    def _happened(self, before: KubeObject, now: KubeObject | None) -> None:
        if type(before) is not self.kind or not self._connected:
            return
        obj = before if now is None else now
        gone = now is None or not _watched(obj)
        self._untold.append((self._timeline.now, self._api.version, obj, gone))
        delay = self._choices.between(*self._delay)
        delay = max(delay, self._told_until - self._timeline.now)
        connection = self._connection
        self._told_until = self._timeline.after(delay, lambda: self._tell(connection))

    def _tell(self, connection: int) -> None:
        if connection != self._connection:
            return
        _, version, obj, gone = self._untold.popleft()
        if gone:
            self._sink.delete(obj)
        else:
            self._sink.upsert(obj)
        self.reached = version
        if gone:
            return
        if self._choices.chance(_TWICE_PERCENT):
            self._sink.upsert(obj)


def _watched(obj: KubeObject) -> bool:
    """Tell whether a watch's selector lets an object pass; one that it no longer does is gone."""
    return not (isinstance(obj, Pod) and obj.status.phase in FINISHED)
