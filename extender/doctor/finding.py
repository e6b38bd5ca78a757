"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """``error``: something does not work, or will break. ``warning``: it works worse than it could.

    ``note``: worth knowing, nothing to mend.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. ``check`` is a CamelCase token that stays the same.

    ``object`` names what it is about (a file with its line, an API object), ``message`` what is
    wrong and what comes of it, ``remedy`` what to change, to paste where it can be pasted.
    """

    severity: Severity
    check: str
    object: str
    message: str
    remedy: str = ""


_RANK = {severity: rank for rank, severity in enumerate(Severity)}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: errors, warnings, notes; those of one check side by side."""
    return sorted(findings, key=lambda found: (_RANK[found.severity], found.check, found.object))
