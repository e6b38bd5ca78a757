"""Goes through a container's calls in order, and keeps what they leave behind."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence

import msgspec

from extender.workload.commands import Call, CommandLine
from extender.workload.downloads.arguments import Arguments
from extender.workload.downloads.fill import Fill, Fills
from extender.workload.downloads.paths import absolute
from extender.workload.downloads.programs import HARMLESS, only_pauses, started, unwrapped
from extender.workload.downloads.python import is_python, python_fills
from extender.workload.downloads.tools import TOOLS
from extender.workload.pythonic import python_budget

MOST_FILLS = 500
"""What comes after so many is not read: moves and copies are followed through all before them."""


def downloads(command: CommandLine, *, image: str = "", home: str = "/root") -> Fills:
    """Return what a container's calls fetch, in the order of the script."""
    reader = _Reader(home, command.mounts)
    for call in command.calls:
        whole = started(call, image)
        if whole is not None:
            reader.read(whole)
        elif not only_pauses(image):
            reader.opaque = True
    return Fills(tuple(reader.fills), reader.opaque or not command.complete)


class _Reader:
    """Knows which directories are there and what was fetched so far; moves and copies need both."""

    def __init__(self, home: str, directories: Collection[str]) -> None:
        self._home = home
        self._directories = {posixpath.normpath(path) for path in directories}
        self._python_budget = python_budget()
        self.fills: list[Fill] = []
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
        if is_python(name):
            self._python(call)
        elif name in TOOLS:
            self._tool(name, call)
        elif name == "mkdir":
            self._make_directories(call)
        elif name == "find":
            self.opaque = self.opaque or any((w.text or "").startswith("-exec") for w in call.words)
        elif name not in HARMLESS or (call.output != "" and name in {"cat", "tee"}):
            self.opaque = True

    def _python(self, call: Call) -> None:
        read = python_fills(call, self._home, self._python_budget)
        self.fills.extend(read.fills)
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
            self.fills.extend(fills)

    def _move(self, moves: Sequence[Fill]) -> None:
        """Follow a staging directory to its final name."""
        for move in moves:
            source, destination = move.source, move.destination
            if source is None or destination is None:
                self.opaque = True
                continue
            self.fills = [fill.moved(source, destination) for fill in self.fills]

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
                return msgspec.structs.replace(copy, source=fill.source, revision=fill.revision)
        return copy
