"""Every name inside a cache directory, and the lock that makes one process its writer.

::

    ROOT/llama-3.1-8b-instruct/               a model at its final path: whole and proven, or gone
    ROOT/llama-3.1-8b-instruct/.modelcache.json   its marker: what was proven, and when
    ROOT/.modelcache/staging/<model>/         what is being fetched; survives a restart
    ROOT/.modelcache/journals/<model>         how far that is
    ROOT/.modelcache/mending/<model>/         single files that are fetched again
    ROOT/.modelcache/incoming/<model>.<id>/   proven, on its way to a final path that is taken; or
                                              replaced there, and read by pods that keep it
    ROOT/.modelcache/locks/<model>.lock       never removed: the lock is on the file, not the name
    ROOT/.modelcache/quarantine/<model>/      damaged files
    ROOT/.modelcache/trash/<model>.<id>/      on its way out
    ROOT/.modelcache/loader.lock              held by the loader that speaks for the directory
    ROOT/.modelcache/withdrawn/               the marker of a model in place that is on its way out

All of it lies on one file system, so that every move is one rename(2). A directory that is a mount
point itself (a claim or a tmpfs that holds one model) cannot be renamed onto: there the model is
written in place, and only the marker says that it is complete.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from extender.errors import CacheError, LockHeldError, UsageError
from extender.loader.disk import Disk
from extender.loader.sources import RESERVED, path_problem

WORK_AREA = ".modelcache"
MARKER = ".modelcache.json"
IN_PLACE = "."
"""The path of the only model of a directory that is a model itself."""

DEEPEST = 4
"""Components of a model's path (``team/org/name/variant``): so deep models are looked for."""

_LONGEST_NAME = 180
"""Bytes of an escaped path; file systems take 255 in a name, and ids are added to it."""

_POLL_SECONDS = 0.05
_SHARED_SECONDS = 5.0
"""Much longer than one small file takes to be written."""

_REMEDIES = {
    errno.EPERM: "look at its owner and at its flags (lsattr)",
    errno.EBUSY: "something is mounted there: unmount it",
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR), "a file lies where a directory has to be: move it away"
    ),
    errno.EXDEV: "it lies on a file system of its own: unmount it, or move it away",
}
"""Beside those of a directory that cannot be written."""


NOT_OF_MODELS = frozenset({"lost+found", ".git"})
"""The file system's and git's, wherever they are: nobody's model, and no part of one."""

NO_MODELS = NOT_OF_MODELS | {".locks", ".cache"}
"""And what huggingface_hub keeps beside models."""

BESIDE = "+"
"""Between a model's escaped path, which has none, and what else a name says."""


class CacheDirectory(msgspec.Struct, frozen=True):
    """The names inside one cache directory. ``root`` is absolute."""

    root: Path

    @classmethod
    def of_model(cls, directory: Path) -> tuple[CacheDirectory, str]:
        """Return the cache directory of one model's final directory, and its path in there.

        The parent, unless the directory is the mount point of a volume of its own. Raises
        UsageError for a name that no model can have, and for one inside of another model, which
        would take it along when it goes.
        """
        whole = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would follow links
        if whole == whole.parent or WORK_AREA in whole.parts:
            why = "the loader's own" if WORK_AREA in whole.parts else "the root of all files"
            raise UsageError(f"{whole}: is {why}; give the model a directory elsewhere")
        if whole.is_mount():
            return cls(whole), IN_PLACE
        problem = model_path_problem(whole.name)
        if problem is not None:
            raise UsageError(f"{str(whole)!r}: its name {problem}; give the model another one")
        for parent in whole.parents:
            if os.path.lexists(parent / MARKER):
                raise UsageError(f"{whole}: lies in the model {parent}; give it one beside that")
            if parent.is_mount():
                break
        return cls(whole.parent), whole.name

    @property
    def work_area(self) -> Path:
        """Where everything lies that is no model."""
        return self.root / WORK_AREA

    def final(self, path: str) -> Path:
        """Return where readers open a model. Raises CacheError for a path that leads elsewhere."""
        return self.root if path == IN_PLACE else self.root / checked_path(path)

    def marker(self, path: str) -> Path:
        """Return the file that says what was proven of a model."""
        return self.final(path) / MARKER

    @property
    def withdrawn(self) -> Path:
        """Where the marker of a model that is written in place goes while its files are removed."""
        return self.work_area / "withdrawn" / MARKER

    def in_place(self, path: str) -> bool:
        """Whether the model is written where it is read."""
        return path == IN_PLACE

    def staging(self, path: str) -> Path:
        """Return where a model is written while it is fetched."""
        if self.in_place(path):
            return self.root
        return self.work_area / "staging" / escaped(path)

    def journal(self, path: str) -> Path:
        """Return the file in which a download notes what is on the disk for good."""
        return self.work_area / "journals" / escaped(path)

    def mending_journal(self, path: str) -> Path:
        """Return the same for files that are fetched again."""
        return self.work_area / "journals" / f"{escaped(path)}{BESIDE}mending"

    def mending(self, path: str) -> Path:
        """Return where single files of a published model are fetched again."""
        return self.work_area / "mending" / escaped(path)

    def incoming(self, path: str, publication: str) -> Path:
        """Return where a proven model waits for the one rename that replaces another."""
        return self.work_area / "incoming" / f"{escaped(path)}.{publication}"

    def arrivals(self, path: str) -> list[tuple[Path, str]]:
        """Return what waits there for a model, and which publication its name says that it is."""
        room = self.work_area / "incoming"
        entries = sorted(room.iterdir()) if room.is_dir() else []
        parts = ((entry, *entry.name.rpartition(".")) for entry in entries)
        return [(entry, last) for entry, first, _, last in parts if first == escaped(path)]

    def replaced(self, path: str) -> Path:
        """Return a name there for what was replaced: it is that of no publication."""
        return self.incoming(path, secrets.token_hex(4))

    def lock(self, path: str) -> Path:
        """Return the file that a model's writer holds a lock on."""
        return self.work_area / "locks" / f"{escaped(path)}.lock"

    @property
    def speaking(self) -> Path:
        """The file that the one loader holds a lock on which tells of all that is done here."""
        return self.work_area / "loader.lock"

    def quarantine(self, path: str) -> Path:
        """Return where damaged files of a model are kept."""
        return self.work_area / "quarantine" / escaped(path)

    def trash(self, path: str) -> Path:
        """Return a name that is free, for what is to be deleted."""
        return self.work_area / "trash" / f"{escaped(path)}.{secrets.token_hex(4)}"


class Writing(msgspec.Struct, frozen=True):
    """The right to change one model: held for as long as ``writing`` lasts."""

    directory: CacheDirectory
    path: str

    @property
    def final(self) -> Path:
        """Where readers open the model."""
        return self.directory.final(self.path)

    @property
    def staging(self) -> Path:
        """Where it is written."""
        return self.directory.staging(self.path)


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds a lock, for the message to those who wait. It decides nothing."""

    name: str = ""
    process: int = 0


_holder = msgspec.json.Decoder(Holder)


@contextmanager
def writing(
    directory: CacheDirectory,
    path: str,
    *,
    wait: float = 0.0,
    name: str = "",
    disk: Disk | None = None,
) -> Iterator[Writing]:
    """Be the one writer of a model; wait up to ``wait`` seconds for the one before.

    The kernel drops the lock when its process ends, however it ends. Raises LockHeldError that says
    who holds it, and CacheError where the directory cannot be written.
    """
    file = directory.lock(path)
    with locked(directory, file, wait=wait, name=name, disk=disk):
        yield Writing(directory, path)


@contextmanager
def locked(
    directory: CacheDirectory,
    file: Path,
    *,
    wait: float = 0.0,
    name: str = "",
    disk: Disk | None = None,
) -> Iterator[None]:
    """Hold the lock on one file of the work area; see ``writing``."""
    try:
        make_parents(disk or Disk(), file)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(directory.root, error) from error
    try:
        _acquire(descriptor, file, wait)
        holder = Holder(name or socket.gethostname(), os.getpid())
        with suppress(OSError):  # a full disk: it only serves a message
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(holder), 0)
        yield
    finally:
        os.close(descriptor)


def keep(directory: CacheDirectory, file: Path, data: bytes, disk: Disk) -> None:
    """Write a file of the work area that two loaders of one directory may write at once.

    Of both writes the later one holds. Raises OSError, and CacheError for the lock.
    """
    beside = file.with_name(f"{file.name}.lock")
    with locked(directory, beside, wait=_SHARED_SECONDS, disk=disk):
        disk.write(file, data)


def _acquire(descriptor: int, file: Path, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise LockHeldError(
                    f"{file}: {_told(descriptor)} is at work here; wait for it to end, or stop it"
                ) from error
            time.sleep(min(left, _POLL_SECONDS))
        except OSError as error:
            raise CacheError(
                f"{file}: cannot be locked ({error.strerror or error}); put the cache directory on "
                "a file system with locks, such as a local disk or NFSv4"
            ) from error
        else:
            return


def _told(descriptor: int) -> str:
    try:
        holder = _holder.decode(os.pread(descriptor, 4096, 0))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "another process"
    return f"process {holder.process} of {holder.name or 'an unknown host'}"


def make_parents(disk: Disk, path: Path) -> None:
    """Make the directories that a path lies in, each durable."""
    missing = []
    parent = path.parent
    while not parent.is_dir():
        missing.append(parent)
        parent = parent.parent
    for directory in reversed(missing):
        disk.make_directory(directory)


def holds_something(path: Path) -> bool:
    """Tell whether a file or a link is at a path or below it. Raises OSError.

    Directories alone are nothing: the kubelet makes one for a pod that comes before its model.
    """
    if path.is_symlink() or not path.is_dir():
        return os.path.lexists(path)
    return any(
        not name.startswith(RESERVED)
        for parent, folders, names in os.walk(path, onerror=_raise)
        for name in (*names, *(f for f in folders if Path(parent, f).is_symlink()))
    )


def _raise(error: OSError) -> None:
    raise error


def unwritable(root: Path, error: OSError) -> CacheError:
    """Return an error of the file system in words that name the remedy."""
    if error.errno == errno.ENOENT and _is_removed(root):
        return CacheError(
            f"the cache directory {root} was removed from under this program, which can make no "
            "other where it was mounted; delete the loader's pod: the next one begins with a new "
            "directory"
        )
    remedy = _REMEDIES.get(error.errno or 0) or (
        f"the cache directory {root} must be writable for this user and have space left"
    )
    return CacheError(f"{error.filename or root}: {error.strerror or error}; {remedy}")


def _is_removed(root: Path) -> bool:
    """Tell whether a directory that is still open or mounted here has no name any more."""
    try:
        return root.stat().st_nlink == 0
    except OSError:
        return False


def model_path_problem(path: str) -> str | None:
    """Say what is wrong with a path for a model in the cache; None: nothing."""
    problem = path_problem(path)
    if problem is None and not NO_MODELS.isdisjoint(path.split("/")):
        problem = f"has a component of {', '.join(sorted(NO_MODELS))}: no model is looked for there"
    if problem is None and not path.isprintable():
        problem = "has a character that cannot be shown"
    if problem is None and path.count("/") >= DEEPEST:
        problem = f"has more than {DEEPEST} components"
    if problem is None and len(escaped(path)) > _LONGEST_NAME:
        problem = f"is too long ({_LONGEST_NAME} bytes, percent-encoded)"
    return problem


def checked_path(path: str) -> str:
    """Return a model's path in the cache. Raises CacheError for one that cannot be used."""
    problem = model_path_problem(path)
    if problem is not None:
        raise CacheError(f"model path {path[:200]!r} {problem}; write it like org/name")
    return path


def escaped(path: str) -> str:
    """Return a model path as one name."""
    return quote(path, safe="", errors="replace") if path != IN_PLACE else "%2E"


def unescaped(name: str) -> str:
    """Return the model path that a name in the work area stands for."""
    return unquote(name)
