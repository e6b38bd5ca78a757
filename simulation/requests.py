"""The way to the apiserver: what the extender sends is slow, refused, lost, or comes late."""

from __future__ import annotations

from collections.abc import Callable

from extender.placement.request import PodRequest
from extender.verbs.bind import Answer, Sent
from extender.waiting.telling import Told, Word
from extender.waiting.underway import AWAITED_SECONDS, MOST
from extender.wire import BindArgs
from simulation.apiserver import Apiserver
from simulation.choices import Choices
from simulation.faults import Fate, Faults
from simulation.scenario import Seconds
from simulation.timeline import Timeline

_NESTED_EVENTS = 4
_ANSWER_SECONDS = 1.0
_SLOW_ANSWER_SECONDS = 2.4
_SLOW_NESTED_EVENTS = 60
"""Some Bindings take so long that kube-scheduler gives the call up, and asks anew meanwhile."""
WRITE_SECONDS = 5.0
"""Until the answer to a write to a pod is given up."""
_CREDENTIAL_SECONDS = 30.0
"""Some plugins take longer than a lead lasts."""


class Requests:
    """One process's requests, and what becomes of them. Other things happen until one is answered.

    ``late``: until a Binding takes effect whose answer was lost. ``takes``: until a write to a pod
    is answered. ``unclear_seconds``: the same at
    most where the answer says that it may. ``hangs``: a namespace in which no write to a pod is
    answered; empty where there is none. ``bound`` is told of each Binding that has taken effect.
    """

    def __init__(
        self,
        *,
        api: Apiserver,
        timeline: Timeline,
        choices: Choices,
        faults: Faults,
        late: Seconds,
        takes: Seconds,
        hangs: str,
        unclear_seconds: float,
        bound: Callable[[BindArgs], None],
        say: Callable[[str], None],
    ) -> None:
        self.lose_lead: Callable[[], None] | None = None
        """What happens now and then while a Binding is in flight, where there are two replicas."""
        self._api = api
        self._timeline = timeline
        self._choices = choices
        self._faults = faults
        self._late_seconds = late
        self._takes = takes
        self._unclear_seconds = unclear_seconds
        self._hangs = hangs
        self._bound = bound
        self._say = say
        self._late: dict[int, Callable[[], object]] = {}
        self._sent = 0
        self._under_way: dict[str, float] = {}
        """By UID: until when a write to a pod hangs."""
        self._open = True

    def end(self) -> None:
        """Break all connections: what was sent is decided."""
        self._open = False
        for binding in list(self._late.values()):
            if self._choices.chance(50):
                binding()
        self._late.clear()

    def write(self, request: PodRequest, write: Callable[[], Told], *, fails: bool) -> Word:
        """Write to a pod, or be refused, or have no answer."""
        if self._hangs and request.namespace == self._hangs:
            return self._hang(request.uid)
        if self._takes[1]:
            self._timeline.until(self._timeline.now + self._choices.between(*self._takes))
        if self._faults.happens(10):
            self._meanwhile(slow=self._is_slow())
        if not fails:
            return Word(write())
        if self._choices.chance(50):
            return Word(Told.REFUSED, "too many requests")
        if self._choices.chance(50):
            write()
        return Word(Told.UNANSWERED, "no answer")

    def answers(self) -> list[tuple[str, Word]]:
        """Return what came of writes that hung."""
        now = self._timeline.now
        over = [uid for uid, end in self._under_way.items() if end <= now]
        return [(uid, self._end_of(uid)) for uid in over]

    def _end_of(self, uid: str) -> Word:
        del self._under_way[uid]
        return Word(Told.UNANSWERED, "no answer")

    def _hang(self, uid: str) -> Word:
        """Wait a moment, and first for a thread where none is left."""
        timeline, ends = self._timeline, sorted(self._under_way.values())
        if len(ends) >= MOST:
            timeline.until(ends[-MOST])
        self._under_way[uid] = timeline.now + WRITE_SECONDS
        timeline.until(timeline.now + AWAITED_SECONDS)
        return Word(Told.AWAITED)

    def bind(self, args: BindArgs, annotations: dict[str, str], fence: Callable[[], str]) -> Answer:
        """Send a Binding; before it, too, other things happen, where a token is slow."""
        if self.lose_lead is not None and self._faults.happens(15):
            self._credential(self.lose_lead)
        closed = fence() if self._open else "the process has ended"
        if closed:
            return Answer(Sent.NEVER, closed)
        fate = self._faults.fate()
        self._say(f"Binding {args.name} -> {args.node}: {fate}")
        if self.lose_lead is not None and self._faults.happens(5):
            self.lose_lead()
        slow = self._is_slow()
        done: Callable[[], bool] | None = None
        if fate in {Fate.DONE, Fate.LOST_DONE, Fate.UNCLEAR_DONE}:
            seconds = _SLOW_ANSWER_SECONDS if slow else _ANSWER_SECONDS
            done = self._within(seconds, args, annotations)
        elif fate in {Fate.LOST_LATE, Fate.UNCLEAR_LATE}:
            least, most = self._late_seconds
            if fate is Fate.UNCLEAR_LATE:
                most = min(most, self._unclear_seconds)
            self._within(self._choices.between(least, most), args, annotations)
        self._meanwhile(slow=slow)
        if done is not None and not done() and fate is not Fate.LOST_DONE:
            return Answer(Sent.CONFLICT, "conflict")
        return Answer(fate.answer, fate)

    def _credential(self, lose_lead: Callable[[], None]) -> None:
        """Let a plugin take its time for a token; the lead may be another's by then."""
        end = self._timeline.now + self._choices.between(0.0, _CREDENTIAL_SECONDS)
        if self._choices.chance(50):
            lose_lead()
        self._timeline.until(end)

    def _is_slow(self) -> bool:
        return self.lose_lead is None and self._faults.happens(10)

    def _meanwhile(self, *, slow: bool) -> None:
        """Let other things happen until the apiserver answers."""
        end = self._timeline.now + (_SLOW_ANSWER_SECONDS if slow else _ANSWER_SECONDS)
        most = _SLOW_NESTED_EVENTS if slow else _NESTED_EVENTS
        for _ in range(self._choices.below(most) if self._faults.on else 0):
            self._timeline.next(within=end - self._timeline.now)

    def _within(
        self, seconds: float, args: BindArgs, annotations: dict[str, str]
    ) -> Callable[[], bool]:
        """Have a Binding that is sent now take effect so long after, or before, when it is called.

        The answer may come later than that: what happens meanwhile waits for answers of its own.
        What is returned tells whether the pod is bound by it.
        """
        self._sent += 1
        number, bound = self._sent, False

        def happen() -> bool:
            nonlocal bound
            if self._late.pop(number, None) is not None:
                bound = self._take_effect(args, annotations)
            return bound

        self._late[number] = happen
        self._timeline.after(seconds, happen)
        return happen

    def _take_effect(self, args: BindArgs, annotations: dict[str, str]) -> bool:
        done = self._api.bind(args.name, args.uid, args.node, annotations)
        if done:
            self._bound(args)
        return done
