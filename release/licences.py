"""Check that all that the image holds may be passed on: ``python -m release.licences``.

Exit code 1 names each package of ``requirements.lock`` whose licence is not on the list below.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"

ALLOWED: dict[str, tuple[str, ...]] = {
    "may be passed on under any terms, with its notice": (
        "0BSD", "3-Clause BSD License", "Apache Software License", "Apache-2.0", "BSD License",
        "BSD-2-Clause", "BSD-3-Clause", "MIT", "MIT License", "MIT-0", "PSF-2.0",
        "Python Software Foundation License",
    ),
    "copyleft for its own files alone, which are passed on unchanged": (
        "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)",
    ),
}  # fmt: skip
"""Licence names as packages write them, by the reason why they are allowed."""

_NAMES = frozenset(name for names in ALLOWED.values() for name in names)


def locked(lock: Path = LOCK) -> list[str]:
    """Return the names of the packages that a lock file has for this platform."""
    lines = re.findall(r"^(\S+==.*?) *\\?$", lock.read_text(encoding="utf-8"), re.MULTILINE)
    found = map(Requirement, lines)
    return [one.name for one in found if one.marker is None or one.marker.evaluate()]


def is_allowed(licence: str) -> bool:
    """Judge a licence, or an expression of some: all of AND, one of OR (AND binds closer)."""
    parts = re.split(r" AND |; ", licence)
    return all(any(name in _NAMES for name in part.split(" OR ")) for part in parts)


def licences(packages: Iterable[str]) -> dict[str, str]:
    """Return the licences of installed packages by name."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--packages"]
    done = subprocess.run([*command, *packages], check=True, capture_output=True, text=True)
    return {row["Name"]: row["License"] for row in json.loads(done.stdout)}


def main() -> int:
    """Check what is locked."""
    packages = locked()
    found = licences(packages)
    refused = {name: licence for name, licence in found.items() if not is_allowed(licence)}
    for name, licence in sorted(refused.items()):
        print(f"{name}: {licence!r} is not among the licences in {__file__}; ask before it ships")
    missing = len(packages) - len(found)
    if missing:
        print(f"{missing} packages of {LOCK.name} are not installed here; run make venv")
    if not refused and not missing:
        print(f"licences of {len(found)} packages: all allowed")
    return 1 if refused or missing else 0


if __name__ == "__main__":
    sys.exit(main())
