"""What lies in a directory: its files, and what betrays a download that did not end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from extender.loader.layout import MARKER, NOT_OF_MODELS, WORK_AREA
from extender.loader.proof.verdict import Problem, ProblemKind
from extender.loader.sources import as_text, is_text

MAX_FILES = 100_000

_SUFFIXES = (".incomplete", ".part", ".partial", ".aria2", ".crdownload", ".gstmp", ".download")
"""What downloaders add to the name of a file that they are not done with: huggingface_hub, wget and
browsers, rclone and curl wrappers, aria2c, Chromium, gsutil."""

_NOT_THE_MODEL = NOT_OF_MODELS | {WORK_AREA, "__pycache__"}
HUB_METADATA = ".cache/huggingface"


class Found(msgspec.Struct, frozen=True):
    """A file as stat(2) tells it, links followed."""

    size: int
    mtime_ns: int
    inode: int


class Scan(msgspec.Struct):
    """All files by relative path, ``/``-separated, in order; and what is wrong at first sight."""

    files: dict[str, Found]
    problems: list[Problem]
    unchecked: list[str]


def scan(directory: Path) -> Scan:
    """Walk a directory. Raises OSError where it cannot be read at all."""
    found = Scan({}, [], [])
    with os.scandir(directory):
        pass
    for parent, directories, names in os.walk(directory, onerror=lambda e: _unread(found, e)):
        below = Path(parent).relative_to(directory)
        in_metadata = below.as_posix().startswith(HUB_METADATA)
        _leave_out(found, parent, below, directories)
        for name in sorted(names):
            path = (below / name).as_posix()
            if is_unfinished(name):
                found.problems.append(
                    Problem(as_text(path), ProblemKind.UNFINISHED, "a download that has not ended")
                )
            if not in_metadata and path not in {MARKER, f"{MARKER}.new"}:
                _look_at(found, Path(parent, name), path)
        if len(found.files) > MAX_FILES:
            found.problems.append(
                Problem("", ProblemKind.UNREADABLE, f"holds more than {MAX_FILES} files: no model")
            )
            break
    found.files = dict(sorted(found.files.items()))
    return found


def _leave_out(found: Scan, parent: str, below: Path, directories: list[str]) -> None:
    top = below == Path()
    for name in list(directories):
        if name in _NOT_THE_MODEL and (top or name == "__pycache__"):
            directories.remove(name)
        elif Path(parent, name).is_symlink():
            found.unchecked.append(f"{as_text((below / name).as_posix())}: a link to a directory")
    directories.sort()


def _look_at(found: Scan, file: Path, path: str) -> None:
    if not is_text(path):
        found.unchecked.append(f"{as_text(path)}: its name is not UTF-8")
        return
    try:
        seen = file.stat()
    except OSError as error:
        if file.is_symlink() and isinstance(error, FileNotFoundError):
            problem = Problem(path, ProblemKind.BROKEN_LINK, "a link to a file that is not there")
        else:
            problem = Problem(path, ProblemKind.UNREADABLE, error.strerror or str(error))
        found.problems.append(problem)
        return
    if stat.S_ISREG(seen.st_mode):
        found.files[path] = Found(seen.st_size, seen.st_mtime_ns, seen.st_ino)
    else:
        found.unchecked.append(f"{path}: no regular file")


def _unread(found: Scan, error: OSError) -> None:
    found.problems.append(
        Problem(as_text(str(error.filename)), ProblemKind.UNREADABLE, error.strerror or str(error))
    )


def is_unfinished(name: str) -> bool:
    """Tell whether a downloader gave a file this name while it was not done with it."""
    return name.endswith(_SUFFIXES)


def walk_files(directory: Path) -> list[str]:
    """Return every file and link below a directory by relative path, whatever it is."""
    found = []
    for parent, directories, names in os.walk(directory):
        links = [name for name in directories if Path(parent, name).is_symlink()]
        found += [Path(parent, name).relative_to(directory).as_posix() for name in names + links]
    return sorted(found)
