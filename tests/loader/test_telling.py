"""Downloads told to people: how far, how fast, how long still."""

from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from extender.loader import telling
from extender.loader.telling import (
    LOG_EVERY_SECONDS,
    RATE_SECONDS,
    LogLines,
    Rate,
    percent,
    seconds_left,
)
from extender.report import Transfer
from tests.clock import Clock


def transfer(done: int, total: int = 1000, rate: float = 0.0) -> Transfer:
    return Transfer(path="a", bytes_done=done, bytes_total=total, bytes_per_second=rate)


@pytest.mark.parametrize(
    ("done", "total", "told"),
    [(0, 1000, 0), (999, 1000, 99), (1000, 1000, 100), (0, 0, 100), (1999, 2000, 99)],
)
def test_a_hundred_percent_is_all_of_it(done: int, total: int, told: int) -> None:
    assert percent(transfer(done, total)) == told


def test_the_rest_takes_as_long_as_the_rate_of_late_says() -> None:
    assert seconds_left(transfer(500, rate=100)) == 5
    assert seconds_left(transfer(500, rate=0)) is None


def test_the_rate_is_that_of_the_last_whole_spell() -> None:
    clock = Clock()
    rate = Rate(clock=clock)
    assert rate.of(50) == 0
    clock.now = 1
    assert rate.of(100) == 100
    clock.now = 1 + RATE_SECONDS / 2
    assert rate.of(100_000) == 100
    clock.now = 1 + RATE_SECONDS
    assert rate.of(100 + 50 * int(RATE_SECONDS)) == 50
    clock.now += RATE_SECONDS
    assert rate.of(100 + 50 * int(RATE_SECONDS)) == 0


def test_the_log_gets_one_line_for_each_model_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "log", structlog.get_logger())  # as nobody has configured it yet
    clock = Clock()
    lines = LogLines(clock=clock)
    with capture_logs() as logs:
        for _ in range(3):
            lines(transfer(410, rate=2e6))
        clock.now = LOG_EVERY_SECONDS
        lines(transfer(900))
    assert [(one["model"], one["percent"]) for one in logs] == [("a", 41), ("a", 90)]
    assert logs[0]["megabytes_per_second"] == 2.0
