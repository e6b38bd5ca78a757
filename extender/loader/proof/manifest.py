"""What a directory's files should be: told by a listing, a marker, or what the hub's tools left.

huggingface_hub leaves enough behind for an offline proof. In its cache layout
(``models--org--name/snapshots/REVISION``) each file is a link to a blob that is named for its hash,
and ``trees/REVISION.json`` lists sizes and hashes. In a plain directory (``local_dir``) it writes
``.cache/huggingface/download/FILE.metadata`` for each file that is done: commit, hash, time.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from extender.loader.proof.marker import Marker
from extender.loader.proof.names import may_lack
from extender.loader.proof.scan import HUB_METADATA
from extender.loader.sources import ANY_PART, Listing, Part

MAX_TREE_BYTES = 64 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_GIT_OID = re.compile(r"[0-9a-f]{40}", re.ASCII)


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What one file should be; None or empty where that is not known.

    ``mtime_ns`` and ``inode`` are what the marker saw, 0 without one.
    """

    size: int | None = None
    sha256: str = ""
    git_oid: str = ""
    mtime_ns: int = 0
    inode: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` by path. ``complete``: they are all there should be, and each must be there.

    ``may_lack``: see ``weights.may_lack``; ``vouched``: see ``sources.Listing``.
    """

    files: dict[str, Expected]
    complete: bool
    may_lack: frozenset[Part] = frozenset()
    vouched: bool = False


NOTHING = Manifest(files={}, complete=False)


def of_listing(listing: Listing) -> Manifest:
    """Return what a source says of its files."""
    return Manifest(
        files={
            file.path: Expected(
                size=file.size, sha256=file.sha256 or "", git_oid=file.git_oid or ""
            )
            for file in listing.files
        },
        complete=True,
        may_lack=may_lack(listing),
        vouched=listing.vouched,
    )


def of_marker(marker: Marker) -> Manifest:
    """Return what was there when the model was proven."""
    return Manifest(
        files={
            file.path: Expected(
                size=file.size, sha256=file.sha256, mtime_ns=file.mtime_ns, inode=file.inode
            )
            for file in marker.files
        },
        complete=True,
        may_lack=ANY_PART,
        vouched=True,
    )


def is_snapshot(directory: Path) -> bool:
    """Whether a directory is one revision in the hub's cache layout."""
    return directory.parent.name == "snapshots" and (directory.parent.parent / "blobs").is_dir()


def left_by_hub_tools(directory: Path, files: list[str]) -> Manifest:
    """Return what huggingface_hub left beside these files; ``NOTHING`` where it left nothing."""
    if is_snapshot(directory):
        known = {path: _of_blob(directory / path) for path in files}
        tree = directory.parent.parent / "trees" / f"{directory.name}.json"
        known |= _of_tree(tree, files)
    else:
        known = {path: _of_metadata(directory, path) for path in files}
        for tree in sorted((directory / HUB_METADATA / "trees").glob("*.json"))[:1]:
            known |= _of_tree(tree, files)
    return Manifest(files={p: e for p, e in known.items() if e is not None}, complete=False)


class Fetched(msgspec.Struct, frozen=True):
    """What the hub's tools tell of what they fetched.

    ``folder`` is what their cache calls the repository (``folder_of``), empty where nothing tells,
    such as where it is mounted under another name; ``commits`` are those that the files came from.
    """

    folder: str = ""
    commits: frozenset[str] = frozenset()


def folder_of(repository: str) -> str:
    """Return the name that a repository has in the hub's cache."""
    return f"models--{repository.replace('/', '--')}"


def fetched_by_hub_tools(directory: Path) -> Fetched:
    """Tell of a snapshot, a whole cache of one model or a ``local_dir`` what was fetched there."""
    if is_snapshot(directory):
        return _of_cache(directory.parent.parent, {directory.name})
    if (directory / "snapshots").is_dir():
        try:
            named = {(directory / "refs" / "main").read_text(encoding="ascii").strip()}
        except (OSError, ValueError):
            named = {each.name for each in (directory / "snapshots").iterdir()}
        return _of_cache(directory, named)
    told = (directory / HUB_METADATA / "download").rglob("*.metadata")
    commits = {lines[0].strip() for file in told if (lines := _metadata(file))}
    return Fetched("", frozenset(commit for commit in commits if _GIT_OID.fullmatch(commit)))


def _of_cache(model: Path, named: set[str]) -> Fetched:
    """Tell what the cache of one model holds; a snapshot has its commit for a name."""
    folder = model.name if model.name.startswith(folder_of("")) else ""
    return Fetched(folder, frozenset(name for name in named if _GIT_OID.fullmatch(name)))


def unfinished_blobs(directory: Path, files: list[str]) -> list[tuple[str, str]]:
    """Return what of a snapshot is still being fetched: its path (or the blob's), and the blob.

    Blobs are shared by all revisions of a model: where the tree tells which belong to this one, the
    others do not count.
    """
    if not is_snapshot(directory):
        return []
    model = directory.parent.parent
    tree = _read_tree(model / "trees" / f"{directory.name}.json")
    here = {
        etag: path for path, file in tree.items() if path not in files
        for etag in (file.lfs_sha256, file.blob_id) if etag
    }  # fmt: skip
    unfinished = []
    for blob in sorted((model / "blobs").glob("*.incomplete")):
        etag = blob.name.split(".")[0]
        if (etag in here or not tree) and not blob.with_name(etag).exists():
            unfinished.append((here.get(etag, blob.name), blob.name))
    return unfinished


def _of_blob(file: Path) -> Expected | None:
    return _of_etag(file.readlink().name) if file.is_symlink() else None


def _of_metadata(directory: Path, path: str) -> Expected | None:
    lines = _metadata(directory / HUB_METADATA / "download" / f"{path}.metadata")
    return _of_etag(lines[1].strip()) if len(lines) > 1 else None


def _metadata(file: Path) -> list[str]:
    """Read what the hub's tools wrote beside a file: commit, ETag, time; empty: nothing."""
    try:
        with file.open("rb") as stream:
            return stream.read(1024).decode("ascii", "replace").split("\n")
    except OSError:
        return []


def _of_etag(etag: str) -> Expected | None:
    """Read the hub's ETag: a SHA-256 for large files, git's id for the others."""
    if _SHA256.fullmatch(etag):
        return Expected(sha256=etag)
    return Expected(git_oid=etag) if _GIT_OID.fullmatch(etag) else None


class _TreeFile(msgspec.Struct, frozen=True):
    size: int
    blob_id: str = ""
    lfs_sha256: str | None = None
    lfs_size: int | None = None


class _Tree(msgspec.Struct, frozen=True):
    """huggingface_hub/_tree_cache.py, format 1."""

    format_version: int
    files: dict[str, _TreeFile]


_tree = msgspec.json.Decoder(_Tree)


def _of_tree(path: Path, files: list[str]) -> dict[str, Expected | None]:
    """Read the sizes and hashes of those files that are there: a download may leave files out."""
    tree = _read_tree(path)
    return {path: _of_tree_file(tree[path]) for path in files if path in tree}


def _read_tree(path: Path) -> dict[str, _TreeFile]:
    try:
        with path.open("rb") as stream:
            tree = _tree.decode(stream.read(MAX_TREE_BYTES))
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    return tree.files if tree.format_version == 1 else {}


def _of_tree_file(file: _TreeFile) -> Expected:
    if file.lfs_sha256:
        return Expected(
            size=file.size if file.lfs_size is None else file.lfs_size, sha256=file.lfs_sha256
        )
    return Expected(size=file.size, git_oid=file.blob_id)
