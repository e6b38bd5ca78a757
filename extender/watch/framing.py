"""Bytes of a watch into lines: an event may be cut anywhere, and several may come at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MAX_LINE = 16 * 1024 * 1024
"""Bytes. etcd refuses objects above 1.5 MiB; JSON may be some times larger than what it stores."""


class LineTooLongError(ValueError):
    """A line above the bound: no apiserver sends one."""


def split_lines(chunks: Iterable[bytes], max_line: int = MAX_LINE) -> Iterator[bytes]:
    """Yield the lines without their ends, and at last what stands after the last of them."""
    parts: list[bytes] = []
    length = 0
    for chunk in chunks:
        head, *rest = chunk.split(b"\n")
        parts.append(head)
        length += len(head)
        for piece in rest:
            line = b"".join(parts)
            parts, length = [piece], len(piece)
            if line.strip():
                yield line
        if length > max_line:
            raise LineTooLongError(f"a line of more than {max_line} bytes")
    line = b"".join(parts)
    if line.strip():
        yield line
