"""A model's name as people write it: a path, a hub id, a URI, and which of them it is."""

from __future__ import annotations

import posixpath
import re
from enum import Enum, auto

import msgspec

from extender.addresses import shown

LONGEST_NAME = 4096
"""PATH_MAX; nothing longer names a model."""

_HUB_ID = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?)(?:[:@](?P<tag>[\w.-]{1,128}))?",
    re.ASCII,
)
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):/{1,3}(?P<rest>.*)", re.DOTALL)
_HUB_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<id>[\w.-]+/[\w.-]+)"
    r"(?:/(?:tree|resolve|blob)/(?P<tag>[\w.-]+).*)?/?",
    re.ASCII,
)
_HUB_SCHEMES = frozenset({"hf", "huggingface"})
_FILE_SCHEMES = frozenset({"file", "local"})
_IMAGE_SCHEMES = frozenset({"oci", "docker"})
_NO_ADDRESS = _FILE_SCHEMES | _IMAGE_SCHEMES | {"pvc"}


class Kind(Enum):
    """What a name names."""

    PATH = auto()
    RELATIVE = auto()
    HUB = auto()
    CLAIM = auto()
    IMAGE = auto()
    REMOTE = auto()
    UNREADABLE = auto()


class Name(msgspec.Struct, frozen=True):
    """``text`` is the path, hub id, ``claim/path``, image or URI; ``revision`` if it says one."""

    kind: Kind
    text: str
    revision: str | None = None


def parse_name(value: str, home: str = "/root") -> Name:
    """Tell what a value names. A bare word such as ``gpt2`` is a hub id; ``./x`` is a path."""
    if not value or len(value) > LONGEST_NAME or "\0" in value:
        return Name(Kind.UNREADABLE, value[:LONGEST_NAME])
    if value.startswith("/"):
        return Name(Kind.PATH, value)
    if value.startswith("~/"):
        return Name(Kind.PATH, posixpath.join(home, value[2:]))
    if value in {".", ".."} or value.startswith(("./", "../")):
        return Name(Kind.RELATIVE, value)
    uri = _URI.fullmatch(value)
    if uri is not None:
        return _uri(value, uri["scheme"].lower(), uri["rest"])
    hub = _HUB_ID.fullmatch(value)
    if hub is not None:
        return Name(Kind.HUB, hub["id"], hub["tag"])
    if "/" in value and "$" not in value and not any(c.isspace() for c in value):
        return Name(Kind.RELATIVE, value)
    return Name(Kind.UNREADABLE, value)


def without_credentials(value: str) -> str:
    """Return a name as it may be said: an address without account, query and fragment.

    Whoever may read it is not what it names, so addresses that differ in that alone are the same
    model. Paths, claims and images have no such parts: there, ``?``, ``#`` and ``@`` stay.
    """
    uri = _URI.match(value.lstrip())
    return value if uri is None or uri["scheme"].lower() in _NO_ADDRESS else shown(value)


def repository_directory(hub_id: str) -> str:
    """Return a repository's directory name in the hub's cache: ``models--org--name``."""
    return "models--" + hub_id.replace("/", "--")


def _uri(value: str, scheme: str, rest: str) -> Name:
    if scheme in _HUB_SCHEMES:
        hub = _HUB_ID.fullmatch(rest.strip("/"))
        return Name(Kind.HUB, hub["id"], hub["tag"]) if hub else Name(Kind.REMOTE, value)
    if scheme in _FILE_SCHEMES:
        return Name(Kind.PATH, "/" + rest.lstrip("/"))
    if scheme == "pvc":
        return Name(Kind.CLAIM, rest.strip("/"))
    if scheme in _IMAGE_SCHEMES:
        return Name(Kind.IMAGE, rest)
    page = _HUB_PAGE.fullmatch(value)
    if page is not None:
        return Name(Kind.HUB, page["id"], page["tag"])
    return Name(Kind.REMOTE, value)
