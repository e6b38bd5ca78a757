"""One thread at a time, in an order drawn by a seed: interleavings that can be played again.

Threads under ``Turns`` run only when it is their turn, and give it back before each thing that
others may see (a change of the disk, a change of the loader's table, a lock). Between turns all of
them stand still, so that a test may look at the world as it is. Other threads, such as those that
receive bytes for one under it, run as always.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

from extender.loader.table import ModelTable
from tests.loader.dying import STEPS, MayBeFull

_SECONDS = 60.0
"""Longer than any turn may take on a busy machine."""


class KilledError(BaseException):
    """The process of this thread has ended; it does nothing any more."""


class Actor:
    """A thread under turns, with the part of ``threading.Thread`` that the loader uses."""

    def __init__(
        self, turns: Turns, name: str, work: Callable[[], object], owner: object = None
    ) -> None:
        self.name, self.owner = name, owner
        self.failure: BaseException | None = None
        self._turns = turns
        self._work = work
        self._killed = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._turns.actors.append(self)
        self._thread.start()

    def is_alive(self) -> bool:
        return self in self._turns.actors

    def turn(self) -> None:
        """Let it run to where it gives its turn back. Called by who has no turn."""
        self._go.release()
        assert self._back.acquire(timeout=_SECONDS), f"{self.name} waits for somebody else"
        if not self._thread.is_alive() or self.failure is not None:
            self._turns.actors = [one for one in self._turns.actors if one is not self]

    def step(self) -> None:
        """Give the turn back and wait for the next one. Called by itself."""
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise KilledError

    def kill(self) -> None:
        """End it where it stands, as if its process had been killed there."""
        self._killed = True
        while self.is_alive():
            self.turn()

    @property
    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._killed:
                self._work()
        except KilledError:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = error
        self._turns.ended.append(self)
        self._turns.actors = [one for one in self._turns.actors if one is not self]
        self._back.release()


class Turns:
    """Gives turns, by ``random``."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._inside = False
        self.actors: list[Actor] = []
        self.ended: list[Actor] = []

    def give(self) -> None:
        """Give one turn to somebody, if there is anybody."""
        if self.actors:
            self._random.choice(self.actors).turn()

    def step(self) -> None:
        """Give the turn back, where the thread that calls has one."""
        for actor in () if self._inside else self.actors:
            if actor.is_current:
                actor.step()
                return

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that takes one turn, however long it takes: its threads are its own."""

        def run(*arguments: Any, **named: Any) -> Any:
            self.step()
            self._inside = True
            try:
                return function(*arguments, **named)
            finally:
                self._inside = False

        return run

    def lock(self) -> TurnLock:
        return TurnLock(self)

    def disk(self) -> MayBeFull:
        """Return a disk before each of whose steps the turn is given back."""

        def before(name: str) -> Callable[..., Any]:
            def run(disk: MayBeFull, *arguments: Any) -> Any:
                self.step()
                return getattr(MayBeFull, name)(disk, *arguments)

            return run

        made: MayBeFull = type("Disk", (MayBeFull,), {name: before(name) for name in STEPS})()
        return made

    def table(self) -> ModelTable:
        """Return a table before each of whose changes and answers the turn is given back."""
        turns = self

        class Table(ModelTable):
            def get(self, path: str) -> Any:
                turns.step()
                return super().get(path)

            def _change(self, path: str, *, source: str = "", **values: object) -> bool:
                turns.step()
                return super()._change(path, source=source, **values)

        return Table()


class TurnLock:
    """A lock for which nobody waits without giving the turn to others."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        while not self._lock.acquire(blocking=False):
            self._turns.step()

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._lock.release()


def stepping(turns: Turns, function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Return a function before which the turn is given back."""

    def run(path: Path) -> Any:
        turns.step()
        return function(path)

    return run
