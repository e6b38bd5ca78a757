"""What betrays a download that did not end: names, and blobs that did not come."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from extender.loader.proof.manifest import Expected, left_by_hub_tools, unfinished_blobs
from extender.loader.proof.scan import HUB_METADATA, is_unfinished


def unfinished_files(directory: Path, paths: Sequence[str]) -> list[str]:
    """Return those of a directory's files, links included, that somebody has not ended."""
    files = [path for path in paths if not path.startswith(f"{HUB_METADATA}/")]
    done = hashes_of(left_by_hub_tools(directory, files).files.values())
    named = [path for path in paths if is_unfinished(path) and not is_left_over(path, done)]
    return named + [path for path, _ in unfinished_blobs(directory, files)]


def hashes_of(files: Iterable[Expected]) -> set[str]:
    """Return what is known of files that are done."""
    return {hash_ for each in files for hash_ in (each.sha256, each.git_oid) if hash_}


def is_left_over(path: str, done: Collection[str]) -> bool:
    """Tell whether huggingface_hub began a file and, killed, let that lie when it did it again.

    Its unfinished files (``KEY.ETAG.RANDOM.incomplete``) name the content that they were to have;
    what it wrote beside a file that is done names the content that is there.
    """
    return path.startswith(HUB_METADATA) and not set(path.split(".")).isdisjoint(done)
