from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.watch.fake_apiserver import FakeApiserver
from tests.watch.harness import RecordingSink


@pytest.fixture
def api() -> Iterator[FakeApiserver]:
    with FakeApiserver() as server:
        yield server


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()
