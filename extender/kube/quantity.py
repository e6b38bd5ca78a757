"""Kubernetes quantities, exactly.

The grammar is apimachinery's (``pkg/api/resource/quantity.go``): a signed decimal number followed
by a binary suffix (``Ki`` .. ``Ei``), a decimal suffix (``n`` .. ``E``) or a decimal exponent
(``e3``, ``E-2``). Values round up to whole units, as ``Quantity.Value()`` does.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

from extender.errors import InvalidQuantityError

MAX_VALUE = 2**63 - 1
"""Largest value of apimachinery's int64 form, which stands for anything above."""

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?P<suffix>[KMGTPE]i|[numkMGTPE]?|[eE][+-]?[0-9]{1,3})",
    re.ASCII,
)
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}
_LONGEST = 64


def parse_quantity(text: str | float) -> int:
    """Return the value of a quantity in whole units (bytes for memory), rounded up.

    Values above ``MAX_VALUE`` are ``MAX_VALUE``, as apimachinery has it. Raises
    InvalidQuantityError for what it refuses, and for negative values.
    """
    return _parse(str(text), 1)


def parse_milli(text: str | float) -> int:
    """Return the value of a quantity in thousandths, rounded up (``250m`` of CPU is 250).

    Otherwise as ``parse_quantity``; apimachinery's ``Quantity.MilliValue()``.
    """
    return _parse(str(text), 1000)


@lru_cache(maxsize=4096)
def _parse(text: str, scale: int) -> int:
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise InvalidQuantityError(
            f"quantity {text[:_LONGEST]!r} is not a Kubernetes quantity; write it like 512Mi or 2G"
        )
    number, suffix = Decimal(match["number"]), match["suffix"]
    if suffix in _BINARY:
        exact = number * _BINARY[suffix]
    elif suffix in _DECIMAL:
        exact = number * _DECIMAL[suffix]
    else:
        exact = number.scaleb(int(suffix[1:]))
    if exact < 0:
        raise InvalidQuantityError(f"quantity {text!r} is negative; an amount cannot be")
    exact *= scale
    if exact > MAX_VALUE:
        return MAX_VALUE
    whole = int(exact)
    return whole if whole == exact else whole + 1


def format_bytes(value: int) -> str:
    """Return bytes for people: ``8.0 GiB``; exact below one KiB."""
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{int(size)} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")  # pragma: no cover


def format_quantity(value: int) -> str:
    """Return the shortest exact binary quantity, to paste into a manifest: ``20Gi``, ``1536Mi``."""
    for suffix, factor in reversed(_BINARY.items()):
        if value and value % factor == 0:
            return f"{value // factor}{suffix}"
    return str(value)
