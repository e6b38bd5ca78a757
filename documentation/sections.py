"""The documents that people write: keys, types, defaults and bounds from the structs.

What a key is for is said once, in the comments of the file that shows every key (config/).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from documentation.tables import code, table
from extender.config import ExtenderConfiguration
from extender.documents import Section
from extender.loader.catalog import Catalog

_CONFIG = Path(__file__).resolve().parent.parent / "config"
_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_KEY = re.compile(r"^(?:# )?(?P<indent> *)(?P<dash>- )?(?P<key>[A-Za-z]+):(?: .*)?$")
_LISTS = frozenset({"models"})
_HEAD = frozenset({"apiVersion", "kind"})


def configuration() -> str:
    """Return the keys of an ``ExtenderConfiguration``."""
    return _document(ExtenderConfiguration, _CONFIG / "extender-config.yaml")


def catalog() -> str:
    """Return the keys of a ``ModelCatalog``."""
    return _document(Catalog, _CONFIG / "model-catalog.yaml")


def _document(section: type[Section], shown: Path) -> str:
    fields = [field for field in _fields(section, "") if field[0] not in _HEAD]
    known = frozenset(field[0].rpartition(".")[2].removesuffix("[]") for field in fields)
    said = comments(shown.read_text("utf-8"), known)
    rows = [
        (code(path), kind, default, said.get(path) or _summary(inner))
        for path, kind, default, inner in fields
    ]
    return table(("key", "value", "default", "meaning"), rows)


def _fields(
    section: type[Section], prefix: str
) -> Iterator[tuple[str, str, str, type[Section] | None]]:
    """Yield each key: its path, what it may hold, its default, and the section that it holds."""
    hints = get_type_hints(section, include_extras=True)
    for field in msgspec.structs.fields(section):
        hint, path = hints[field.name], f"{prefix}{field.encode_name}"
        inner = _section(hint)
        if inner is None:
            yield path, _type(hint), _default(field), None
            continue
        listed = get_origin(hint) is tuple
        yield path, "list" if listed else "section", _default(field) if listed else "", inner
        yield from _fields(inner, f"{path}[]." if listed else f"{path}.")


def _section(hint: Any) -> type[Section] | None:
    """Return the section that a key holds, or a list of which it holds."""
    (inner,) = (get_args(hint)[:1] or (hint,)) if get_origin(hint) is tuple else (hint,)
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def _summary(section: type[Section] | None) -> str:
    """Return the first sentence of a section's docstring, without the key's name before it."""
    if section is None:
        return ""
    first = (section.__doc__ or "").strip().split("\n\n")[0]
    return re.sub(r"^``[a-zA-Z.]+``: ", "", first).replace("``", "`")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    made = field.default is msgspec.NODEFAULT
    plain = msgspec.to_builtins(field.default_factory() if made else field.default)
    if plain is None or isinstance(plain, str):
        return code(plain or "")
    return code(
        f"{plain:.12g}" if isinstance(plain, float) else msgspec.json.encode(plain).decode()
    )


def _type(hint: Any) -> str:
    """Say what a key may hold, with its bounds."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [part for meta in arguments[1:] for part in _bounds(meta)]
        return ", ".join([_type(arguments[0]), *bounds])
    if origin in {Union, UnionType}:
        kinds = [_type(one) for one in arguments if one is not NoneType]
        return " or ".join(sorted(set(kinds), key=kinds.index))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"map from {_type(arguments[0])} to {_type(arguments[1])}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(code(str(member.value)) for member in hint)
    return _NAMES[hint]


def _bounds(meta: Meta) -> Iterator[str]:
    said = {"at least": meta.ge, "above": meta.gt, "at most": meta.le, "below": meta.lt}
    yield from (f"{words} {bound:,}" for words, bound in said.items() if bound is not None)
    if meta.max_length is not None:
        yield f"{meta.min_length or 0} to {meta.max_length} characters"
    if meta.pattern:
        yield f"matching {code(meta.pattern)}"


def comments(text: str, known: frozenset[str]) -> dict[str, str]:
    """Return the comment that stands above each key of a document, by the key's path.

    A known key that is commented out counts as one.
    """
    said: dict[str, str] = {}
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = _KEY.match(line)
        if found is None or found["key"] not in known:
            comment = line.strip()
            above = [*above, comment.removeprefix("#").strip()] if comment.startswith("#") else []
            continue
        depth = len(found["indent"]) + len(found["dash"] or "")
        parents = [(at, key) for at, key in parents if at < depth]
        path = ".".join([*(key for _, key in parents), found["key"]])
        said.setdefault(path, " ".join(above))
        above = []
        parents.append((depth, f"{found['key']}[]" if found["key"] in _LISTS else found["key"]))
    return said
