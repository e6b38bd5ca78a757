"""Which random histories a test plays.

What judges a change has to say the same of it each time: unless a variable gives another, the seed
is always the same one. Make targets that play for long ask for fresh seeds (``FRESH_SEEDS=1``) and
print them.
"""

from __future__ import annotations

import os
import secrets

FRESH = bool(os.environ.get("FRESH_SEEDS"))
ALWAYS = 1


def seed_of(variable: str) -> int:
    """Return the seed that this environment variable gives, else a fresh one or the usual one."""
    given = os.environ.get(variable)
    if given:
        return int(given)
    return secrets.randbelow(2**32) if FRESH else ALWAYS
