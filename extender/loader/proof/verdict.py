"""What a proof says: how far it went, what it found, and what it could not look at."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How much was looked at; each level includes the ones before."""

    MARKER = "marker"
    """Nothing is left half-done: no unfinished files, no broken links."""
    SIZES = "sizes"
    """Every file that is named somewhere is there, with the size that it should have."""
    HEADERS = "headers"
    """What the weight files say of themselves agrees with their length."""
    CONTENT = "content"
    """Every byte was read, and compared with a hash where one is known."""

    def covers(self, other: Level) -> bool:
        """Whether this level looks at all that the other one looks at."""
        order = list(Level)
        return order.index(self) >= order.index(other)


class ProblemKind(StrEnum):
    """What is wrong with a file, as a token for metrics and programs."""

    EMPTY = "empty"
    MISSING = "missing"
    UNFINISHED = "unfinished"
    BROKEN_LINK = "broken-link"
    UNREADABLE = "unreadable"
    SIZE = "size"
    HEADER = "header"
    INDEX = "index"
    CONTENT = "content"
    CONFIG = "config"
    TOKENIZER = "tokenizer"
    WEIGHTS = "weights"
    MARKER = "marker"


class Problem(msgspec.Struct, frozen=True):
    """One reason why a model is not proven. ``file`` is relative; empty for the whole directory."""

    file: str
    kind: ProblemKind
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}" if self.file else self.message


class ProvenFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it was proven.

    ``size`` in bytes; ``sha256`` in hex, empty where the content was not read; ``mtime_ns`` and
    ``inode`` as stat(2) gives them: what changes when somebody else touches the file. ``version``
    is what the source said of it when it was fetched (ETag, generation, size and time): see
    ``sources.RemoteFile``; empty where that is not known.
    """

    path: str
    size: int
    sha256: str = ""
    mtime_ns: int = 0
    inode: int = 0
    version: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one proof.

    ``ok`` where no problem was found up to ``level``. ``kind`` is what the weights are
    (``safetensors``, ``gguf``, ...), ``layout`` how the directory is laid out (``plain`` or
    ``hub-cache``). ``tensors`` counts those in safetensors headers. ``unchecked`` says in words
    what could not be looked at or compared with anything. ``proven`` are the files.
    """

    ok: bool
    level: Level
    problems: tuple[Problem, ...] = ()
    unchecked: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    kind: str = "unknown"
    layout: str = "plain"
    tensors: int = 0
    proven: tuple[ProvenFile, ...] = ()

    def told(self) -> str:
        """Return the verdict as one sentence."""
        if self.ok:
            return f"whole: {self.files} files, {self.bytes} bytes, proven by {self.level}"
        first, rest = self.problems[0], len(self.problems) - 1
        return f"{first}{f' (and {rest} more)' if rest else ''}"
