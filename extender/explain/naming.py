"""Names in a sentence: a few of many, and how many others."""

from __future__ import annotations

from collections.abc import Iterable


def some(names: Iterable[str], most: int = 3) -> str:
    """Name a few of many: ``a, b, c and 7 more``."""
    listed = sorted(set(names))
    rest = len(listed) - most
    shown = ", ".join(listed[:most])
    return f"{shown} and {rest} more" if rest > 0 else shown
