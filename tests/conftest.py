"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# Examples are short; a loaded machine is no reason to fail.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
