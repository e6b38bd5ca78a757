"""Names in a sentence: a few of many, and how many others; as YAML has them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[A-Za-z/]([A-Za-z0-9._/:-]*[A-Za-z0-9._/-])?", re.ASCII)
_OTHER_THAN_TEXT = frozenset({"y", "yes", "n", "no", "on", "off", "true", "false", "null"})
"""Words that some version of YAML takes for something else (https://yaml.org/type/bool.html)."""


def some(names: Iterable[str], most: int = 3) -> str:
    """Name a few of many: ``a, b, c and 7 more``."""
    listed = sorted(set(names))
    rest = len(listed) - most
    shown = ", ".join(listed[:most])
    return f"{shown} and {rest} more" if rest > 0 else shown


def yaml_text(text: str) -> str:
    """Quote what YAML's flow style could take for something else than this text."""
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _OTHER_THAN_TEXT
    return text if plain else "'" + text.replace("'", "''") + "'"
