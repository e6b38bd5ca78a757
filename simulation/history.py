"""A run that breaks a law: found by seed, played again from its moves, and made short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, combinations

import msgspec

from extender.verbs.bind import BindOutcome
from simulation.law import BrokenLawError, Law
from simulation.moves import Move, Player
from simulation.scenario import Scenario

MOST_TRIES = 2_500
PAIRS_UP_TO = 30


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A broken law, the moves that break it, and what happened in words."""

    law: Law
    text: str
    moves: tuple[Move, ...]
    trace: tuple[str, ...]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """How the run of one seed went. ``events`` counts what happened on the timeline."""

    seed: int
    events: int
    outcomes: Counter[BindOutcome]
    failure: Failure | None


def run(scenario: Scenario, seed: int, steps: int) -> Run:
    """Make so many random moves in a fresh world, then let it come to rest."""
    player = Player(scenario, seed)
    failure = None
    try:
        for _ in range(steps):
            player.step()
        player.rest()
    except BrokenLawError as error:
        failure = _failure(player, error)
    world = player.world
    return Run(seed=seed, events=world.timeline.events, outcomes=world.outcomes, failure=failure)


def play(scenario: Scenario, moves: Sequence[Move]) -> Failure | None:
    """Make these moves, of which the first begins the world; return what they break."""
    begin, *rest = moves
    player = Player(scenario, begin=begin)
    try:
        for move in rest:
            player.play(move)
    except BrokenLawError as error:
        return _failure(player, error)
    return None


def shrink(
    scenario: Scenario, failure: Failure, go_on: Callable[[], bool] = lambda: True
) -> Failure:
    """Leave out moves, and make their numbers plainer, while the same law is broken.

    It ends where nothing is left to leave out, after MOST_TRIES runs, or when ``go_on`` says so.

    Halves, quarters, ... of the moves go first, as in delta debugging (Zeller and Hildebrandt,
    Simplifying and Isolating Failure-Inducing Input, 2002), then single numbers.
    """
    return _Shrinker(scenario, failure, go_on).shrink()


class _Shrinker:
    def __init__(self, scenario: Scenario, failure: Failure, go_on: Callable[[], bool]) -> None:
        self._scenario = scenario
        self._go_on = go_on
        self._best = failure
        self._left = MOST_TRIES

    def shrink(self) -> Failure:
        before = None
        while before is not self._best and self._may_try():
            before = self._best
            self._leave_out_moves()
            self._forget_numbers()
            self._make_numbers_smaller()
            if before is self._best and len(self._best.moves) <= PAIRS_UP_TO:
                self._change_two_moves()
        return self._best

    def _try(self, moves: Sequence[Move]) -> bool:
        if not self._may_try():
            return False
        self._left -= 1
        failure = play(self._scenario, moves)
        if failure is None or failure.law != self._best.law:
            return False
        if _size(failure.moves) >= _size(self._best.moves):
            return False
        self._best = failure
        return True

    def _may_try(self) -> bool:
        return self._left > 0 and self._go_on()

    def _leave_out_moves(self) -> None:
        size = len(self._best.moves) // 2
        while size >= 1:
            start = 1  # the world has to begin
            while start < len(self._best.moves):
                moves = self._best.moves
                if not self._try(moves[:start] + moves[start + size :]):
                    start += size
            size //= 2

    def _forget_numbers(self) -> None:
        """Put zeros for all numbers of many moves, then of fewer."""
        size = len(self._best.moves)
        while size >= 1:
            for start in range(0, len(self._best.moves), size):
                self._put(start, [()] * size)
            size //= 2

    def _make_numbers_smaller(self) -> None:
        at = 0
        while at < len(self._best.moves):
            for place in range(len(self._best.moves[at].drawn)):
                if at < len(self._best.moves) and place < len(self._best.moves[at].drawn):
                    drawn = self._best.moves[at].drawn
                    for smaller in (0, drawn[place] // 2):
                        if self._put(at, [(*drawn[:place], smaller, *drawn[place + 1 :])]):
                            break
            at += 1

    def _change_two_moves(self) -> None:
        """Leave out two moves at once, or one and the numbers of another: a last resort."""
        moves = self._best.moves
        edits: list[tuple[int, tuple[Move, ...]]] = [(at, ()) for at in range(1, len(moves))]
        edits += [(at, (Move(move.name),)) for at, move in enumerate(moves) if any(move.drawn)]
        for (one, instead), (other, too) in combinations(edits, 2):
            table: dict[int, tuple[Move, ...]] = {at: (move,) for at, move in enumerate(moves)}
            table |= {one: instead, other: too}
            if one != other and self._try(tuple(chain.from_iterable(table.values()))):
                return

    def _put(self, at: int, drawn: Sequence[tuple[int, ...]]) -> bool:
        moves = list(self._best.moves)
        for offset, numbers in enumerate(drawn[: max(0, len(moves) - at)]):
            moves[at + offset] = Move(moves[at + offset].name, numbers)
        return self._try(moves)


def _size(moves: Sequence[Move]) -> tuple[int, int, int]:
    return (
        len(moves),
        sum(sum(1 for number in move.drawn if number) for move in moves),
        sum(sum(move.drawn) for move in moves),
    )


def _failure(player: Player, error: BrokenLawError) -> Failure:
    return Failure(
        law=error.law,
        text=str(error),
        moves=tuple(player.moves),
        trace=tuple(player.world.trace),
    )
