"""What goes when the disk fills, in which order, and what never does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.loader.space import Bounds, Candidate, FileSystem, Kept, Reason, plan

HOUR = 3600.0
NOW = 1000 * HOUR
BOUNDS = Bounds(high=90, low=70, grace=24 * HOUR)
FULL, ROOMY = FileSystem(total=1000, free=50), FileSystem(total=1000, free=500)


def model(path: str, **more: Any) -> Candidate:
    return Candidate(**{"path": path, "bytes": 100, "last_used": NOW - HOUR, **more})


def gone(candidates: list[Candidate], disk: FileSystem = FULL, **more: Any) -> list[str]:
    return [e.path for e in plan(candidates, disk, BOUNDS, now=NOW, **more).evictions]


def test_below_the_high_watermark_nothing_goes() -> None:
    assert gone([model("a"), model("b")], FileSystem(total=1000, free=100)) == []


def test_above_it_the_least_recently_used_go_until_the_low_watermark() -> None:
    models = [
        model(p, last_used=NOW - h * HOUR) for p, h in [("a", 1), ("b", 9), ("c", 5), ("d", 7)]
    ]
    assert gone(models) == ["b", "d", "c"]


def test_lower_priority_goes_first_and_what_left_the_catalog_before_that() -> None:
    models = [
        model("high", priority=5, last_used=0),
        model("low", priority=-5),
        model("left", priority=9, left_at=NOW - HOUR),
    ]
    assert gone(models) == ["left", "low", "high"]


@pytest.mark.parametrize(
    "why", [{"in_use": True}, {"pinned": True}, {"wished": True}, {"foreign": True}]
)
def test_what_is_in_use_pinned_wished_for_or_foreign_stays_and_the_shortage_is_told(
    why: Any,
) -> None:
    decided = plan([model("a", left_at=0.0, **why)], FULL, BOUNDS, now=NOW)
    assert decided.evictions == ()
    assert decided.missing == 250
    assert decided.stays[0].reason in {Kept.IN_USE, Kept.PINNED, Kept.WISHED, Kept.FOREIGN}


def test_what_left_the_catalog_goes_after_its_grace_though_there_is_room() -> None:
    models = [model("now", left_at=NOW), model("before", left_at=NOW - 24 * HOUR)]
    decided = plan(models, ROOMY, BOUNDS, now=NOW)
    assert [(e.path, e.reason) for e in decided.evictions] == [("before", Reason.LEFT_CATALOG)]
    assert [(s.path, s.reason) for s in decided.stays] == [("now", Kept.GRACE)]


def test_foreign_models_go_where_the_operator_says_so() -> None:
    bounds = Bounds(high=90, low=70, grace=0, foreign=True)
    assert plan([model("a", foreign=True)], FULL, bounds, now=NOW).evictions


def test_a_download_gets_its_room_below_the_watermark_too() -> None:
    models = [model("a"), model("b", last_used=NOW)]
    assert gone(models, ROOMY, needed=550) == ["a"]
    assert gone(models, ROOMY, needed=500) == []
    assert plan(models, ROOMY, BOUNDS, now=NOW, needed=700).missing == 0


@pytest.mark.parametrize("disk", [ROOMY, FULL])
def test_nothing_goes_for_a_download_that_would_not_fit_even_then(disk: FileSystem) -> None:
    """What goes by the watermarks or its grace goes all the same."""
    models = [model("a"), model("b", last_used=NOW), model("c", pinned=True)]
    models.append(model("overdue", left_at=NOW - 24 * HOUR))
    decided = plan(models, disk, BOUNDS, now=NOW, needed=900)
    assert decided.evictions == plan(models, disk, BOUNDS, now=NOW).evictions
    assert decided.missing == 900 - disk.free - 300
    if disk is ROOMY:
        assert [(s.path, s.reason) for s in decided.stays] == [
            ("a", Kept.IN_VAIN), ("c", Kept.PINNED), ("b", Kept.IN_VAIN),
        ]  # fmt: skip


candidates = st.builds(
    Candidate,
    path=st.text("abc", min_size=1, max_size=3),
    bytes=st.integers(0, 400),
    last_used=st.floats(0, NOW),
    in_use=st.booleans(),
    pinned=st.booleans(),
    priority=st.integers(-2, 2),
    left_at=st.none() | st.floats(0, NOW),
    foreign=st.booleans(),
)


@given(
    st.lists(candidates, max_size=8, unique_by=lambda c: c.path),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_no_plan_touches_what_is_protected_or_frees_more_than_it_must(
    found: list[Candidate], free: int, needed: int
) -> None:
    disk = FileSystem(total=1000, free=free)
    decided = plan(found, disk, BOUNDS, now=NOW, needed=needed)
    by_path = {c.path: c for c in found}
    goes = [by_path[e.path] for e in decided.evictions]
    assert not any(c.in_use or c.pinned or c.foreign for c in goes)
    assert {e.path for e in decided.evictions} | {s.path for s in decided.stays} == set(by_path)
    too_full = disk.used_above(70) if disk.used_above(90) else 0
    wanted = max(too_full, needed - free)
    possible = sum(c.bytes for c in found if not (c.in_use or c.pinned or c.foreign))
    assert decided.missing == max(0, wanted - possible)
    if decided.missing and needed > free:  # in vain
        assert decided.evictions == plan(found, disk, BOUNDS, now=NOW).evictions
        wanted = too_full
    for_room = [e for e in decided.evictions if e.reason is Reason.ROOM]
    if for_room:
        before_last = sum(c.bytes for c in goes) - by_path[for_room[-1].path].bytes
        overdue = sum(e.bytes for e in decided.evictions if e.reason is Reason.LEFT_CATALOG)
        assert before_last - overdue < wanted
