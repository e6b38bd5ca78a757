"""A tool's arguments, read the lenient way or as getopt does, and what a tool's reader is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from extender.workload.commands import Call, Word
from extender.workload.downloads.fill import Fill
from extender.workload.downloads.paths import absolute


class Arguments:
    """A tool's arguments: its positional words and its options."""

    def __init__(self, call: Call, home: str, directories: Collection[str] = ()) -> None:
        self.call = call
        self.home = home
        self.words = call.words[1:]
        self._directories = directories

    def exists(self, path: str) -> bool:
        """Tell whether a path is a directory before the call: a mount, or made by the script."""
        return absolute(self.call, path) in self._directories

    def option(self, *names: str) -> str | None:
        """Return an option's value, None without one."""
        word = Call(self.words).option(*names)
        return word.text if word is not None else None

    def given(self, *names: str) -> bool:
        """Tell whether an option is there."""
        return Call(self.words).has(*names)

    def positional(self, valued: Collection[str], *, exactly: int | None = None) -> list[Word]:
        """Return the words that are no options; ``valued`` are the options that take a value.

        Where there are more than ``exactly`` so many, those that follow an option that is not
        known are taken for its value.
        """
        found: list[Word] = []
        sure: list[Word] = []
        before = ""
        for word in self.words:
            text = word.text
            if before in valued:
                before = ""
            elif text is not None and text.startswith("-") and len(text) > 1:
                before = text
            else:
                found.append(word)
                if not before or "=" in before:
                    sure.append(word)
                before = ""
        return sure if exactly is not None and len(found) > exactly == len(sure) else found

    def parsed(
        self, short: str, long: Collection[str]
    ) -> tuple[list[tuple[str, str | None]], list[Word]]:
        """Return options and the rest, split as getopt does (``-qO FILE``, ``-OFILE``, ``--x=y``).

        ``short`` and ``long`` are the options that take a value; the others have ``""``.
        """
        options: list[tuple[str, str | None]] = []
        rest: list[Word] = []
        left = iter(self.words)
        for word in left:
            text = word.text
            if text is None or not text.startswith("-") or text == "-":
                rest.append(word)
            elif text.startswith("--"):
                name, equals, value = text.partition("=")
                taken = _next(left) if not equals and name in long else value
                options.append((name, taken))
            else:
                options.extend(_cluster(text, short, left))
        return options, rest

    def fill(
        self, source: str | None, destination: str | None, revision: str | None = None
    ) -> Fill:
        """Return what is fetched; a relative destination is put below the working directory."""
        where = absolute(self.call, destination) if destination is not None else None
        return Fill(source, where, revision, self.call.words[0].read_from)


Tool = Callable[[Arguments], "list[Fill] | None"]
"""A tool's reader: what it fetches, or None where that cannot be read."""

NOWHERE = frozenset({"-", "/dev/null", "/dev/stdout", "/dev/stderr"})
"""Destinations that leave nothing behind."""


def _cluster(text: str, short: str, left: Iterator[Word]) -> Iterator[tuple[str, str | None]]:
    """Yield the options of one word such as ``-qO``; the last may take its value from the next."""
    for index, letter in enumerate(text[1:], start=2):
        if letter in short:
            yield f"-{letter}", text[index:] or _next(left)
            return
        yield f"-{letter}", ""


def _next(words: Iterator[Word]) -> str | None:
    word = next(words, None)
    return word.text if word is not None else None
