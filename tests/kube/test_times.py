"""Times as texts: whoever writes an annotation may write any text there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.kube.times import time_text, unix_time


@given(st.integers(0, 4_000_000_000))
def test_what_is_written_is_read_again(seconds: int) -> None:
    assert unix_time(time_text(seconds)) == seconds


@pytest.mark.parametrize("day", ["0001-01-01", "0001-12-31", "9999-01-01", "9999-12-31"])
@pytest.mark.parametrize("time", ["00:00:00", "23:59:59.999999"])
@pytest.mark.parametrize("zone", ["", "Z", "+23:59", "-23:59"])
def test_a_time_that_is_read_can_be_written(day: str, time: str, zone: str) -> None:
    """In UTC it may be of a year that has no text."""
    moment = unix_time(f"{day}T{time}{zone}")
    assert moment is None or time_text(moment)


@given(st.text(max_size=40) | st.datetimes(timezones=st.timezones()).map(lambda t: t.isoformat()))
def test_any_text_is_a_time_that_can_be_written_or_none(text: str) -> None:
    moment = unix_time(text)
    assert moment is None or time_text(moment)
