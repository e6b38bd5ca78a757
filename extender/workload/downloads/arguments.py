"""A tool's arguments, read the lenient way or as getopt does, and what a tool's reader is."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator

from extender.workload.commands import Call, Word
from extender.workload.downloads.fill import Fill
from extender.workload.downloads.paths import absolute, directory_of

_PATTERN = re.compile(r"[*?\[]")


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
        word = self.option_word(*names)
        return word.text if word is not None else None

    def option_word(self, *names: str) -> Word | None:
        """Return an option's value as a word, None without one."""
        return Call(self.words).option(*names)

    def only_tries(self) -> bool:
        """Tell whether the tool is told to say what it would do, and do nothing."""
        return any(
            re.fullmatch(r"--dry-?run(?:=(?!false$|0$).*)?", word.shown) for word in self.words
        )

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
            text = word.shown
            if before in valued:
                before = ""
            elif text.startswith("-") and len(text) > 1:
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
            text = word.shown
            if text.startswith("--"):
                name, equals, value = text.partition("=")
                taken = _next(left) if not equals and name in long else value
                options.append((name, taken if word.text is not None else None))
            elif word.text is None or not text.startswith("-") or text == "-":
                rest.append(word)
            else:
                options.extend(_cluster(text, short, left))
        return options, rest

    def fill(
        self,
        source: str | None,
        destination: str | None,
        revision: str | None = None,
        *,
        within: Word | str | None = None,
    ) -> Fill:
        """Return what is fetched; a relative destination is put below the working directory.

        ``within`` is the word that names the destination, or a directory that holds it.
        """
        where = absolute(self.call, destination) if destination is not None else None
        pattern = _PATTERN.search(where or "")
        if where is not None and pattern is not None:  # what matches is not known
            holds, where = posixpath.dirname(where[: pattern.end()]), None
        elif where is not None or within is None:
            holds = None
        elif isinstance(within, str) or within.text is not None:
            holds = absolute(self.call, within if isinstance(within, str) else within.shown)
        else:
            holds = directory_of(self.call, within.head)
        return Fill(
            source, where, revision, self.call.words[0].read_from, self.call.ways, within=holds
        )


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
