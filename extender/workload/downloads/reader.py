"""Goes through a container's calls in order, and keeps what they leave behind."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence

import msgspec

from extender.workload.budget import Budget
from extender.workload.commands import Call, CommandLine, Word
from extender.workload.downloads.arguments import Arguments
from extender.workload.downloads.fill import Fill, Fills
from extender.workload.downloads.paths import absolute
from extender.workload.downloads.programs import HARMLESS, only_pauses, started, unwrapped
from extender.workload.downloads.python import is_python, python_fills
from extender.workload.downloads.tools import TOOLS
from extender.workload.pythonic import python_budget
from extender.workload.volumes import is_within

DOWNLOADERS = TOOLS.keys() - {"cp", "mv", "ln"}
_UNPACKERS = frozenset({"tar", "bsdtar", "unzip"})
_XARGS_VALUED = frozenset("-n -P -L -d -s -a -E --max-args --max-procs --delimiter".split())

MOST_FILLS = 500
"""What comes after so many is not read: moves and copies are followed through all before them."""


def downloads(
    command: CommandLine, *, image: str = "", home: str = "/root", budget: Budget | None = None
) -> Fills:
    """Return what a container's calls fetch, in the order of the script.

    ``budget`` is what reading Python programs may cost.
    """
    reader = _Reader(home, command.mounts, budget or python_budget())
    for call in command.calls:
        whole = started(call, image)
        if whole is not None:
            reader.read(whole)
        elif not only_pauses(image):
            reader.opaque = True
    return Fills(
        tuple(reader.fills),
        reader.opaque or not command.complete,
        tuple(dict.fromkeys(reader.within)),
    )


class _Reader:
    """Knows which directories are there and what was fetched so far; moves and copies need both."""

    def __init__(
        self,
        home: str,
        directories: Collection[str],
        budget: Budget,
        *,
        started_by_xargs: bool = False,
    ) -> None:
        self._home = home
        self._nested = started_by_xargs
        self._directories = {posixpath.normpath(path) for path in directories}
        self._python_budget = budget
        self._streams = False
        """The pipeline that is read starts with a download."""
        self.fills: list[Fill] = []
        self.within: list[str] = []
        self.opaque = False

    def read(self, call: Call) -> None:
        if len(self.fills) >= MOST_FILLS:
            self.opaque = True
            return
        call = unwrapped(call)
        if not call.words:
            return
        program = call.words[0].text
        if program is None:
            self.opaque = True
            return
        name = posixpath.basename(program)
        if not call.piped:
            self._streams = name in DOWNLOADERS
        if is_python(name):
            self._python(call)
        elif name in TOOLS:
            self._tool(name, call)
        elif name == "mkdir":
            self._make_directories(call)
        elif name == "rm":
            self._remove(call)
        elif name == "xargs" and not self._nested:
            self._each(call)
        elif name in _UNPACKERS:
            self._unpack(call)
        elif name == "find":
            self.opaque = self.opaque or any((w.text or "").startswith("-exec") for w in call.words)
        elif name not in HARMLESS or (call.output != "" and name in {"cat", "tee"}):
            self.opaque = True

    def _python(self, call: Call) -> None:
        read = python_fills(call, self._home, self._python_budget)
        self._add(read.fills)
        self.opaque = self.opaque or read.opaque

    def _make_directories(self, call: Call) -> None:
        made = Arguments(call, self._home).positional(("-m", "--mode"))
        self._directories.update(absolute(call, word.text) or "" for word in made if word.text)

    def _tool(self, name: str, call: Call) -> None:
        fills = TOOLS[name](Arguments(call, self._home, self._directories))
        if fills is None:
            self.opaque = True
        elif name == "mv":
            self._move(fills)
        elif name == "ln":
            self._link(fills, call)
        elif name in {"cp", "rsync"}:
            self.fills.extend([self._traced(fill) for fill in fills])
        else:
            self._add(fills)

    def _add(self, fetched: Sequence[Fill]) -> None:
        self.fills.extend(fetched)
        self.within.extend(fill.within for fill in fetched if fill.within is not None)

    def _remove(self, call: Call) -> None:
        """Forget what is surely deleted again; what another branch of the script deletes stays."""
        for word in Arguments(call, self._home).positional(()):
            path = absolute(call, word.text) if word.text is not None else None
            if path is None:
                continue
            inside, _, pattern = path.rpartition("/")
            gone = f"{inside}/" if pattern == "*" else path
            self.fills = [
                fill for fill in self.fills if not (call.ways <= fill.ways and _lies(fill, gone))
            ]

    def _each(self, call: Call) -> None:
        """Read ``xargs TOOL``: which sources it gets is not known, and where they go sometimes."""
        words, marker = _of_xargs(call)
        read = _Reader(self._home, self._directories, self._python_budget, started_by_xargs=True)
        read.read(msgspec.structs.replace(call, words=words, piped=False))
        self.opaque = True
        program = posixpath.basename(words[0].text or "") if words else ""
        if program not in DOWNLOADERS:
            return
        for fill in read.fills:
            where = fill.destination or fill.within
            if where is not None and (marker or fill.source is None):
                self.within.append(where)

    def _unpack(self, call: Call) -> None:
        """Note where an archive that was downloaded is unpacked; what is in it is not known."""
        self.opaque = True
        fetched = self._streams and call.piped
        fetched = fetched or any(
            fill.destination is not None and fill.destination == absolute(call, word.text)
            for word in call.words[1:]
            if word.text
            for fill in self.fills
        )
        arguments = Arguments(call, self._home)
        target = arguments.option_word("-C", "--directory", "-d") or Word(".")
        if not fetched:
            return
        where = arguments.fill(None, None, within=target).within
        if where is not None:
            self.within.append(where)

    def _move(self, moves: Sequence[Fill]) -> None:
        """Follow a staging directory to its final name."""
        for move in moves:
            source, destination = move.source, move.destination
            self.opaque = self.opaque or source is None or destination is None
            if source is not None and destination is not None:
                self.fills = [fill.moved(source, destination) for fill in self.fills]
            elif source is not None:
                self._lose(source, move.within)

    def _lose(self, source: str, within: str | None) -> None:
        """Follow what was fetched to a name that cannot be told."""
        lost = [fill for fill in self.fills if _lies(fill, source)]
        if lost and within is not None:
            self.within.append(within)
        self.fills = [
            msgspec.structs.replace(fill, destination=None, within=within) if fill in lost else fill
            for fill in self.fills
        ]

    def _link(self, links: Sequence[Fill], call: Call) -> None:
        """Give what was fetched a second name; other links are none of our business.

        A relative target is meant from where the link lies.
        """
        words = Arguments(call, self._home).positional(())
        for link, word in zip(links, words, strict=False):
            if link.destination is None or word.text is None:
                self.opaque = True
                continue
            source = posixpath.join(posixpath.dirname(link.destination), word.text)
            copy = self._traced(msgspec.structs.replace(link, source=posixpath.normpath(source)))
            if not (copy.source or "").startswith("/"):
                self.fills.append(copy)

    def _traced(self, copy: Fill) -> Fill:
        """Say of a copy of what was fetched before where that came from."""
        for fill in self.fills:
            if copy.source is not None and fill.holds(copy.source):
                whole = fill.destination == copy.source and not fill.contents
                return msgspec.structs.replace(
                    copy,
                    source=fill.source,
                    revision=fill.revision,
                    contents=copy.contents and not whole,
                    matched=copy.matched and not whole,
                )
        return copy


def _lies(fill: Fill, path: str) -> bool:
    """Tell whether a fill is what is at a path, or below it (a slash at its end: only that)."""
    where = fill.destination
    if where is None:
        return False
    return where.startswith(path) if path.endswith("/") else is_within(where, path)


def _of_xargs(call: Call) -> tuple[tuple[Word, ...], str]:
    """Return the call that ``xargs`` makes, its arguments unknown, and its ``-I`` marker."""
    words, marker = call.words[1:], ""
    while words and words[0].shown.startswith("-"):
        option = words[0].shown
        taken = 2 if option in {*_XARGS_VALUED, "-I"} else 1
        if option.startswith("-I") and words[1:]:
            marker = option[2:] or words[1].shown
        words = words[taken:]
    if not marker:
        return ((*words, Word(None)) if words else ()), ""
    return tuple(
        Word(None, word.read_from, "", word.shown.partition(marker)[0])
        if marker in word.shown
        else word
        for word in words
    ), marker


def serves_nothing(call: Call) -> bool:
    """Tell whether a call is of a program that only fetches, copies or waits."""
    words = unwrapped(call).words
    name = posixpath.basename(words[0].text or "") if words else ":"
    return (name in HARMLESS | _UNPACKERS) or (name in TOOLS and name != "ollama")
