"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.seeds import FRESH

# Examples are short; a loaded machine is no reason to fail. In CI always the same.
settings.register_profile("steady", deadline=None, derandomize=not FRESH)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End with a test what a command in it sets up for logs: a logger would keep it for good."""
    configure, before = structlog.configure, structlog.get_config()
    kept: dict[str, bool] = {"cache_logger_on_first_use": False}
    monkeypatch.setattr(structlog, "configure", lambda **asked: configure(**{**asked, **kept}))
    yield
    configure(**before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: begun last, it would leave all workers but one without work."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
