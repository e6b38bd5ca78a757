"""What a file begins with shows that it is not what its name says, or is of a kind that ends.

Half a copy, what a server says instead of a file, and what git leaves without its LFS: none of them
is longer than a page, and each is told by the first bytes. A format that is not known is no fault.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import msgspec

from extender.loader.disk import regular_file

_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
_ARCHIVE = b"PK\x03\x04"
_PICKLE = b"\x80"
"""The opcode PROTO, with which pickles begin (Lib/pickletools.py)."""

_FIRST_BYTES = 64

_DOCUMENTS = frozenset({"tokenizer.json", "vocab.json", "tekken.json"})
MAX_JSON_BYTES = 64 * 1024 * 1024


class HeaderError(ValueError):
    """What is wrong with the beginning of a file, in words."""


class DoubtError(HeaderError):
    """What may be as its maker left it, and is where its source has it so."""


def check_beginning(first: bytes) -> None:
    """Check what any file that is not text begins with. Raises HeaderError."""
    if not first:
        raise DoubtError("is empty")
    if first.startswith(_POINTER):
        raise HeaderError("is a Git LFS pointer, not the file; run `git lfs pull`")
    if first.lstrip().lower().startswith(_PAGES):
        raise HeaderError("is a web page, not the file")


def check_gguf(path: Path) -> None:
    """Check the beginning of a GGUF file. Raises HeaderError, OSError."""
    first = read_first(path)
    check_beginning(first)
    if first[:4] != b"GGUF" or len(first) < 24:
        raise HeaderError("does not begin as a gguf file")


def check_archive(path: Path) -> str:
    """Check a file of torch.save; return what could not be looked at, empty: nothing.

    A zip archive since PyTorch 1.6, with its table at the end, and a pickle before. Other programs
    give their own formats the same suffixes. Raises HeaderError, OSError.
    """
    first = read_first(path)
    check_beginning(first)
    if first.startswith(_ARCHIVE):
        if not zipfile.is_zipfile(path):
            raise HeaderError("is cut short: the archive has no end")
        return ""
    if first.startswith(_PICKLE):
        return "whether it is cut short: as pickles of torch.save before 1.6 its end tells nothing"
    return "its format is not looked into: it is none of torch.save"


def check_tokenizer(path: Path) -> None:
    """Check a tokenizer's file. Raises HeaderError, OSError."""
    first = read_first(path)
    if first or path.suffix in {".json", ".model"}:  # a list of words may be empty
        check_beginning(first)
    if path.name not in _DOCUMENTS:
        return
    text = read_bounded(path, MAX_JSON_BYTES + 1)
    try:
        if len(text) <= MAX_JSON_BYTES:
            _look_through(text)
    except (ValueError, RecursionError) as error:
        raise DoubtError(f"is no JSON: {error}") from error


def _look_through(text: bytes) -> None:
    """Raise ValueError, RecursionError where readers of tokenizers would."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)  # and nothing is kept
    except (msgspec.MsgspecError, UnicodeError):
        json.loads(text)  # takes more: NaN, half a surrogate pair


def read_first(path: Path) -> bytes:
    """Return what tells what a file is. Raises OSError."""
    return read_bounded(path, _FIRST_BYTES)


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the first ``limit`` bytes of a regular file. Raises OSError."""
    with open(regular_file(path), "rb") as file:  # noqa: PTH123 - it is a descriptor
        return file.read(limit)
