"""Which files of a source are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import msgspec

from extender.loader.sources import (
    RESERVED,
    Cause,
    RemoteFile,
    SourceError,
    as_text,
    path_problem,
)


class Choice(msgspec.Struct, frozen=True):
    """``files`` that are wanted, and the paths of those that are not; both ordered by path."""

    files: tuple[RemoteFile, ...]
    left_out: tuple[str, ...]


def chosen(
    files: Iterable[RemoteFile], *, source: str, include: Sequence[str], exclude: Sequence[str]
) -> Choice:
    """Choose the files whose path matches.

    Shell patterns as the hub's tools take them: ``*`` matches slashes too, ``folder/`` all that is
    in a folder; no ``include`` means all. Raises SourceError where nothing is left.
    """
    found = tuple(sorted(files, key=lambda file: file.path))
    left = tuple(file for file in found if is_wanted(file.path, include=include, exclude=exclude))
    if not found:
        raise SourceError(
            f"source {source}: holds no files; correct its address", cause=Cause.NOT_FOUND
        )
    if not left:
        raise SourceError(
            f"source {source}: include and exclude leave none of its {len(found)} files "
            f"({', '.join(file.path for file in found[:5])}, ...); correct the patterns",
            cause=Cause.INVALID,
        )
    both = {file.path for file in left}
    for file in left:
        for parent in PurePosixPath(file.path).parents:
            if str(parent) in both:  # an object store has no directories
                raise SourceError(
                    f"source {source}: {parent} is a file, and {file.path} lies in a directory of "
                    "that name; leave one of them out (exclude)",
                    cause=Cause.INVALID,
                )
    return Choice(left, tuple(file.path for file in found if file.path not in both))


def is_listed(path: str, *, source: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Tell whether what lies at a path of a source may be a file of a model.

    The loader's own files are none, wherever somebody copied them with a model. Raises SourceError
    for a wanted path that no file of a model can have.
    """
    if f"/{RESERVED}" in f"/{path}":
        return False
    problem = path_problem(path)
    if problem is None or not is_wanted(path, include=include, exclude=exclude):
        return problem is None
    raise SourceError(
        f"source {source}: {as_text(path)[:200]}: {problem} (or exclude it)", cause=Cause.INVALID
    )


def is_wanted(path: str, *, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Tell whether a path matches; see ``chosen``."""
    return (not include or _matches(path, include)) and not _matches(path, exclude)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)
