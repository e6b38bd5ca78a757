"""The room that most tests of waiting begin with."""

from __future__ import annotations

import pytest

from tests.builders import LOADING, loader, loader_pod, node
from tests.waiting.room import Room


@pytest.fixture
def room() -> Room:
    room = Room()
    for obj in (node("a"), node("b"), loader(), loader_pod("a", LOADING), loader_pod("b", LOADING)):
        room.state.upsert(obj)
    return room
