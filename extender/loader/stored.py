"""Which models lie in a cache directory: ours, by their markers, and what others put there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import msgspec
import structlog

from extender.loader.layout import (
    DEEPEST,
    IN_PLACE,
    MARKER,
    NO_MODELS,
    WORK_AREA,
    CacheDirectory,
    model_path_problem,
)
from extender.loader.proof.manifest import is_snapshot
from extender.loader.proof.marker import (
    Marker,
    MarkerError,
    UnreadableMarkerError,
    read_marker,
)
from extender.loader.proof.names import are_of_a_part, is_of_a_model
from extender.loader.proof.scan import scan
from extender.loader.sources import as_text

log = structlog.get_logger("extender.loader")

_HUB_MODEL = "models--"
_HUB_OTHERS = ("datasets--", "spaces--")
_HUB_HOME = frozenset({"xet", "modules", "assets", "datasets", "accelerate"})
"""Beside the cache in HF_HOME, which is ``hub`` there:
https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One model's directory. ``marker`` is None where another program put it there.

    ``unreadable``: why it cannot be told who did.
    """

    path: str
    marker: Marker | None = None
    unreadable: str = ""


def stored(directory: CacheDirectory) -> list[Stored]:
    """Return the models in a cache directory by path. Raises OSError where it cannot be read.

    A directory whose name no model can have is none, whatever lies in it.
    """
    with os.scandir(directory.root):
        pass
    return sorted(_below(directory.root, "", DEEPEST), key=lambda model: model.path)


def model_directories(directory: Path) -> list[Path]:
    """Return the models at or below a directory that somebody names: it may be one itself.

    Of a model in the hub's cache its revisions. Raises OSError where it cannot be read.
    """
    if is_hub_model(directory):
        with os.scandir(directory / "snapshots") as entries:
            return sorted(directory / "snapshots" / entry.name for entry in entries)
    below = stored(CacheDirectory(directory))
    if not below or below[0].path == IN_PLACE or is_snapshot(directory):
        return [directory]
    files = _files(directory)  # others keep notes and flags beside models
    parts = files and any(are_of_a_part(_files(directory / model.path)) for model in below)
    known = any(m.marker or is_hub_model(directory / m.path) for m in below)
    if not known and (parts or any(map(is_of_a_model, files))):
        return [directory]  # a model with parts in directories of their own
    found = []
    for model in below:
        final = directory / model.path
        found += [final] if model.marker or model.unreadable else model_directories(final)
    return found


def models_of_cache(directory: Path) -> list[Stored]:
    """Return the models in a directory that is a cache of them, and none itself; empty: it is not.

    Of what other programs put there nobody can tell that it is no part of a model. Raises OSError.
    """
    files = _files(directory)
    if MARKER in files or any(map(is_of_a_model, files)) or is_hub_model(directory):
        return []
    below = stored(CacheDirectory(directory))
    return [each for each in below if each.marker or is_hub_model(directory / each.path)]


def is_empty(directory: Path) -> bool:
    """Tell whether nothing lies in a directory that a model could be. Raises OSError."""
    seen = scan(directory)
    return not (seen.files or seen.problems or seen.unchecked or (directory / MARKER).exists())


def is_hub_model(directory: Path) -> bool:
    """Whether a directory is one model in the layout of the hub's cache."""
    return directory.name.startswith(_HUB_MODEL) and (directory / "snapshots").is_dir()


def _files(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if not entry.is_dir()]


def _is_the_hubs(directory: Path, name: str) -> bool:
    """Tell whether a directory is of what the hub's tools keep beside models."""
    if name.startswith(_HUB_OTHERS):
        return any((directory / name / part).is_dir() for part in ("refs", "blobs", "snapshots"))
    if name not in _HUB_HOME or (directory / name / MARKER).exists():
        return False
    return any(is_hub_model(each) for each in (directory / "hub").glob(f"{_HUB_MODEL}*"))


def bytes_on_disk(directory: Path) -> int:
    """Return what removing a directory frees: blocks, each file once, links not followed."""
    seen: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                status = Path(parent, name).lstat()
            except OSError:
                continue
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def _below(root: Path, path: str, depth: int) -> Iterator[Stored]:
    directory = root / path
    try:
        with os.scandir(directory) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    marked = any(entry.name == MARKER for entry in inside)
    if marked and path:
        yield _marked(directory, path)
        return
    below: list[Stored] = []
    for entry in inside:
        plain = entry.is_dir(follow_symlinks=False) and entry.name not in (WORK_AREA, *NO_MODELS)
        plain = plain and not _is_the_hubs(directory, entry.name)
        if plain and depth and not (path and is_hub_model(directory)):
            name = f"{path}/{entry.name}" if path else entry.name
            problem = model_path_problem(name)
            if problem is None:
                below += _below(root, name, depth - 1)
            else:
                _left_out(str(root / name), problem)
    if marked:
        yield _marked(directory, IN_PLACE)
    files = is_hub_model(directory) or any(not e.is_dir() or e.is_symlink() for e in inside)
    ours = any(
        model.marker or model.unreadable or is_hub_model(root / model.path) for model in below
    )
    if path and files and not ours:
        yield Stored(path=path)  # with all that lies below: a model of another program
    else:
        yield from below


@lru_cache(maxsize=1024)
def _left_out(directory: str, problem: str) -> None:
    """Say once that a directory is no model's: it is met at every look."""
    where = as_text(directory)
    log.warning("left alone: no model can have this path", directory=where, why=problem)


def _marked(directory: Path, path: str) -> Stored:
    try:
        return Stored(path=path, marker=read_marker(directory))
    except UnreadableMarkerError as error:
        return Stored(path=path, unreadable=str(error))
    except MarkerError:
        return Stored(path=path)
