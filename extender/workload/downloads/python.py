"""Python programs that a call runs: ``python -c TEXT``, or one from a here-document."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from extender.workload.budget import Budget
from extender.workload.commands import Call, Word
from extender.workload.downloads.fill import Fill, Fills
from extender.workload.downloads.hubs import cached, hub_cache
from extender.workload.downloads.paths import absolute, directory_of
from extender.workload.pythonic import PythonFetch, python_fetches

_INTERPRETER = re.compile(r"(?:python|pypy)[\d.]*")


def is_python(program: str) -> bool:
    """Tell whether a program's name is that of an interpreter (``python3.12``)."""
    return _INTERPRETER.fullmatch(program) is not None


def python_fills(call: Call, home: str, budget: Budget) -> Fills:
    """Return what an interpreter's program fetches; opaque where the program cannot be seen."""
    program = _program(call)
    if program is None:
        return Fills(opaque=True)
    read = python_fetches(program, call.variables, budget=budget)
    return Fills(tuple(_fill(fetch, call, home) for fetch in read.fetches), read.opaque)


def _fill(fetch: PythonFetch, call: Call, home: str) -> Fill:
    where, within = _directory(fetch, call, home)
    destination = absolute(call, where) if where is not None else None
    return Fill(
        fetch.repository,
        destination,
        fetch.revision,
        call.words[0].read_from,
        call.ways,
        within=directory_of(call, within) if destination is None else None,
    )


def _directory(fetch: PythonFetch, call: Call, home: str) -> tuple[str | None, str]:
    """Return ``local_dir``, or the repository's own directory in the cache, and how it begins."""
    if fetch.directory:
        return fetch.directory, ""
    if fetch.directory is None or fetch.cache is None:
        return None, fetch.head
    seen = msgspec.structs.replace(call, variables=fetch.variables)
    base = hub_cache(seen, fetch.cache, home)
    return cached(base, fetch.repository), f"{base}/"


def _program(call: Call) -> str | None:
    """Return the text of ``python -c TEXT`` or of a here-document; None where a file is run."""
    for index, word in enumerate(call.words[1:], start=1):
        text = word.text
        if text is None:
            return None
        if re.fullmatch(r"-[a-zA-Z]*c", text):
            return call.words[index + 1].text if index + 1 < len(call.words) else None
        if text == "-":
            return call.stdin
        if text in {"--version", "-V"}:
            return ""
        if text == "-m":
            return "" if _is_pip(call.words[index + 1 :]) else None
        if not text.startswith("-"):
            return None
    return call.stdin


def _is_pip(words: Sequence[Word]) -> bool:
    return bool(words) and words[0].text in {"pip", "ensurepip", "venv"}
