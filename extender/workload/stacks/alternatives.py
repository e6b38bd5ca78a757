"""Models that a script may do without: another of its ways runs, and opens something else.

``if [ -d /models/x ]; then vllm serve /models/x; else vllm serve org/x; fi`` serves on any node,
and so does ``vllm serve /models/x || vllm serve org/x``. Which way is taken cannot be told from
the spec, so a model is only surely needed where every way that serves opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from extender.workload.commands import Call
from extender.workload.downloads import serves_nothing
from extender.workload.names import without_credentials
from extender.workload.shell_values import Ways
from extender.workload.stacks.initializers import starts_server
from extender.workload.stacks.view import ContainerView, Found

Recognise = Callable[[ContainerView], "list[Found]"]
MOST_CALLS = 50
"""Scripts with more programs than this, and with branches, are not compared way by way."""


class _Program(msgspec.Struct, frozen=True):
    """A call that may serve: what it opens, nothing where it is a program that is not known."""

    place: int
    call: Call
    opens: frozenset[tuple[str | None, str | None]]


def with_alternatives(view: ContainerView, found: list[Found], recognise: Recognise) -> list[Found]:
    """Say of each model that one way opens and another does without how that is."""
    line = view.command
    if not line.scripted or len(line.calls) < 2:
        return found
    programs = list(_programs(view, recognise))
    if len(programs) > MOST_CALLS:
        why = "the script has too many ways to tell whether each of them opens it"
        return [msgspec.structs.replace(model, without=why) for model in found]
    return [
        msgspec.structs.replace(model, without=_way_without(model, programs)) for model in found
    ]


def _programs(view: ContainerView, recognise: Recognise) -> Iterator[_Program]:
    """Yield what may serve; reading stops once there are too many."""
    count = 0
    for place, call in enumerate(view.command.calls):
        if serves_nothing(call) or count > MOST_CALLS:
            continue
        opens = frozenset(map(_key, recognise(view.running(call))))
        if opens or not starts_server(call):
            count += 1
            yield _Program(place, call, opens)


def _way_without(model: Found, programs: Sequence[_Program]) -> str:
    """Return how the pod may run without opening a model, ``""`` where it may not."""
    openers = [program for program in programs if _key(model) in program.opens]
    others = [program for program in programs if _key(model) not in program.opens]
    for other in others:
        if openers and all(_replaces(other, opener) for opener in openers):
            words = " ".join(_said(word.text) for word in other.call.words)
            return f"on another way, the script runs {words[:80]!r} instead"
    return ""


def _said(text: str | None) -> str:
    """Return a word as it may be said; an option may have an address after its ``=``."""
    option, equals, value = (text or "...").partition("=")
    if option.startswith("-") and equals:
        return f"{option}={without_credentials(value)}"
    return without_credentials(text or "...")


def _replaces(other: _Program, opener: _Program) -> bool:
    """Tell whether one program may run without the other.

    Two servers in the foreground never run together. A program that is not known is taken for one
    that serves where it lies on the other branch of a choice, where the script ends with it, and
    where it follows a server that does not always run; elsewhere it is part of the preparations.
    """
    ours, theirs = opener.call.ways, other.call.ways
    if _excludes(ours, theirs):
        return True
    if other.opens:
        earlier = min(opener, other, key=lambda program: program.place).call
        return ours != theirs or (starts_server(earlier) and not earlier.behind)
    if other.place < opener.place:
        return other.call.last and ours != theirs
    return not ours <= theirs


def _excludes(ours: Ways, theirs: Ways) -> bool:
    branches = dict(ours)
    return any(branches.get(choice, branch) != branch for choice, branch in theirs)


def _key(model: Found) -> tuple[str | None, str | None]:
    return model.value, model.path
