"""Where a copied source lands, given the destination that is written: each tool has its own way."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from extender.workload.downloads.arguments import Arguments

Place = Callable[[Arguments, "str | None", str, int], "str | None"]
"""Where one of so many sources lands, given the destination that is written."""

_FILE = re.compile(
    r"\.(?:gguf|ggml|safetensors|bin|pt|pth|onnx|model|json|txt|md|tar|tgz|gz|zst|lz4|zip|sh|conf|"
    r"conflist|ya?ml|so|key|pem|crt|log)$"
)
"""Names that are a file's for sure; others are taken for directories."""


def exactly(_: Arguments, __: str | None, target: str, ___: int) -> str | None:
    """Take the target's name."""
    return target


def contents(arguments: Arguments, source: str | None, target: str, _: int) -> str | None:
    """Put a directory's contents into the target; a single file takes its name or goes into it."""
    if source is None:
        return target
    return like_cp(arguments, source, target, 1) if is_file(source) else target


def into(_: Arguments, source: str | None, target: str, __: int) -> str | None:
    """Put the source itself below the target."""
    if source is None:
        return None
    if is_file(source) and is_file(target):
        return target
    name = _base(source)
    return posixpath.join(target, name) if name else target


def like_cp(arguments: Arguments, source: str | None, target: str, count: int) -> str | None:
    """Go into a directory that is there, or take its name: it exists where a script made it."""
    if target.endswith(("/", "/.")) or count > 1 or arguments.exists(target):
        return into(arguments, source, target, count)
    return target


def like_rsync(arguments: Arguments, source: str | None, target: str, count: int) -> str | None:
    """Do as ``into``, but a source with a slash at its end means its contents."""
    if source is not None and source.endswith("/"):
        return target
    return into(arguments, source, target, count)


def like_mc(arguments: Arguments, source: str | None, target: str, count: int) -> str | None:
    """Do as ``like_cp``, but a source with a slash at its end means its contents."""
    if source is not None and source.endswith("/"):
        return target
    return like_cp(arguments, source, target, count)


def _base(source: str) -> str:
    """Return the name under which a source lands; ``""`` where its contents are meant."""
    path = source.partition("?")[0] if "://" in source else source
    name = posixpath.basename(path.rstrip("/"))
    return "" if path.endswith("/.") or re.search(r"[*?\[]", name) else name


def is_file(path: str) -> bool:
    """Tell names that are a file's for sure."""
    return _FILE.search(path.partition("?")[0]) is not None
