"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Examples are short; a loaded machine is no reason to fail.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: begun last, it would leave all workers but one without work."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
