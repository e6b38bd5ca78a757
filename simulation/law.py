"""The laws by name: what must be true whatever happens. ``laws`` has how each is seen."""

from __future__ import annotations

from enum import StrEnum
from typing import NoReturn


class Law(StrEnum):
    """What must be true. A planted fault breaks each (tests/simulation/test_planted_faults.py)."""

    # laws/knowledge.py; KEPT_FOR_SOMEBODY is seen in laws/binding.py, too
    KNOWN = "what is known is what was told"
    LEDGER = "the ledger is what was told"
    NOMINATIONS = "nominations are what was told"
    GRANTED = "the ledger never falls below what a kubelet has given"
    COUNTS_ONCE = "a pod counts once"
    KEPT_FOR_SOMEBODY = "memory is kept only for what may come"
    EXPIRES = "reservations expire"
    NOT_ABSENT = "what is there is not taken for absent"
    NOT_FOR_EVER = "who is silent is not believed for ever"

    # laws/answers.py; OLD_KNOWLEDGE is seen in laws/binding.py, too
    FILTER_CHANGES_NOTHING = "filter changes nothing"
    FILTER_ANSWERS = "filter answers what it was asked"
    FILTER_SAYS_WHY = "every refusal has a reason"
    OLD_KNOWLEDGE = "old knowledge is not trusted"
    ALL_SCORED = "every node asked about is scored"
    SCORES = "scores lie between 0 and 10"

    # laws/evictions.py
    VICTIMS = "victims are those proposed"
    EVICTIONS_HELP = "evictions help"
    HELP_IS_KEPT = "evictions that help are kept"
    OLD_KNOWLEDGE_EVICTS_NOBODY = "old knowledge evicts nobody"
    NOBODY_ELSE_EVICTED = "nobody is evicted elsewhere while others leave the pod's node"

    # laws/binding.py
    UNLOCKED = "the apiserver is not called under the lock"
    DECISION = "the decision is written with the Binding"
    MODEL = "a pod is bound where its model is"
    MEMORY = "memory is never given twice"
    BIND_SAYS_WHY = "a refusal says why"
    BIND_SAYS_YES = "bind says yes only to what is bound"
    HAS_MEMORY = "what may come has its memory"

    # laws/nominations.py
    NOMINATED_HELD = "a nominated pod's memory is held"
    GIVEN_ONCE = "a node is given to one pod at a time"
    NOT_IN_VAIN = "nobody stays nominated where that leads nowhere"
    STAYS = "a nomination that leads somewhere is not taken back"

    # laws/waiting.py
    LEFT_ALONE = "who gets no node is left alone"
    REMEMBERED = "who was refused is remembered"
    NOBODY_WAITS = "no pod waits that could run"
    NOBODY_WAITS_FOR_ROOM = "no pod waits that others could make room for"
    NOBODY_WAITS_FOR_A_LOADER = "no pod waits for a model that nobody asks a loader for"


class BrokenLawError(AssertionError):
    """A law does not hold."""

    def __init__(self, law: Law, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law


def broken(law: Law, text: str) -> NoReturn:
    """Say that a law does not hold."""
    raise BrokenLawError(law, text)
