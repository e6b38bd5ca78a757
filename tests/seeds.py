"""Which random histories a test plays.

Fresh ones, and their seed is printed; but in CI (``CI=true``) always the same: what judges a change
has to say the same of it each time. Make targets that play for long ask for fresh ones there, too
(``FRESH_SEEDS=1``).
"""

from __future__ import annotations

import os
import secrets

FRESH = bool(os.environ.get("FRESH_SEEDS") or not os.environ.get("CI"))
ALWAYS = 1


def seed_of(variable: str) -> int:
    """Return the seed that this environment variable gives, else a fresh one or the usual one."""
    given = os.environ.get(variable)
    if given:
        return int(given)
    return secrets.randbelow(2**32) if FRESH else ALWAYS
