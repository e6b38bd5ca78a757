"""Events are bounded by object, by what is alike, and by the hour, whatever waits."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from extender.serving.told import AGAIN_SECONDS, ALIKE, HOUR, Told, event_name


def test_the_same_is_said_of_a_pod_once_an_hour() -> None:
    told = Told(per_hour=100)
    say = ("u", "inference", "NoNewNode", "text")
    assert [told.take(*say, now) for now in (0.0, 1.0, HOUR - 1, HOUR, HOUR + 1)] == [
        True, False, False, True, False,
    ]  # fmt: skip


def test_another_reason_is_another_event_and_another_wording_is_not() -> None:
    told = Told(per_hour=100)
    assert told.take("u", "inference", "NoNewNode", "text", 0.0)
    assert not told.take("u", "inference", "NoNewNode", "other text", 0.0)
    assert told.take("u", "inference", "LoaderFailed", "text", 0.0)


def test_what_could_not_be_said_leaves_nothing_behind() -> None:
    told = Told(per_hour=100)
    for number in range(1000):
        say = (f"u{number}", "inference", "NoNewNode", f"text {number}")
        assert told.take(*say, 0.0)
        told.undo(*say, 0.0)
    assert (len(told._said), len(told._alike)) == (0, 0)
    assert len(told._failed) <= 100


def test_of_hundreds_of_pods_that_are_alike_some_are_told() -> None:
    told = Told(per_hour=1000)
    said = [told.take(f"u{n}", "inference", "NoNewNode", "text", 0.0) for n in range(500)]
    assert sum(said) == ALIKE
    assert told.take("other", "inference", "NoNewNode", "another text", 0.0)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz"), st.floats(0, 3 * HOUR)),
        max_size=200,
    ),
    st.integers(1, 10),
)
def test_no_hour_has_more_than_its_share(asked: list[tuple[str, str, float]], limit: int) -> None:
    told = Told(per_hour=limit)
    by_hour: dict[int, int] = {}
    for uid, reason, now in sorted(asked, key=lambda each: each[2]):
        if told.take(uid, "inference", reason, reason, now):
            by_hour[int(now // HOUR)] = by_hour.get(int(now // HOUR), 0) + 1
    assert max(by_hour.values(), default=0) <= limit


def test_what_could_not_be_said_is_not_counted() -> None:
    told = Told(per_hour=1)
    say = ("u", "inference", "NoNewNode", "text")
    assert told.take(*say, 0.0)
    assert told.full("inference", 0.0)
    told.undo(*say, 0.0)
    assert not told.full("inference", 0.0)
    assert not told.take(*say, AGAIN_SECONDS - 1)
    assert told.take(*say, AGAIN_SECONDS)


def fill(told: Told, namespace: str, now: float = 0.0) -> int:
    """Say as much of a namespace's pods as may be said."""
    pods = [f"{namespace}-{number}" for number in range(1000)]
    return sum(told.take(uid, namespace, "NoNewNode", uid, now) for uid in pods)


def test_a_namespace_of_which_little_was_said_is_heard_beside_one_that_takes_all_it_can() -> None:
    told = Told(per_hour=600)
    assert fill(told, "tenant-a") == 450
    assert told.full("tenant-a", 0.0)
    assert [fill(told, f"tenant-{name}") for name in "bcd"] == [10, 10, 10]
    assert fill(told, "tenant-a", HOUR) == 450


def test_what_is_left_out_is_counted_once_an_hour() -> None:
    told = Told(per_hour=1)
    say = ("v", "inference", "NoNewNode", "other text")
    assert not told.leaves_out(*say, 0.0)
    assert not told.passes("v", "inference", 0.0)
    assert told.take("u", "inference", "NoNewNode", "text", 0.0)
    assert not told.leaves_out("u", "inference", "NoNewNode", "text", 0.0)  # it was said
    seen = [told.leaves_out(*say, now) for now in (0.0, 5.0)]
    assert told.passes("v", "inference", 5.0)
    assert told.take("u", "inference", "NoNewNode", "text", HOUR)
    seen += [told.leaves_out(*say, now) for now in (HOUR, HOUR + 5.0)]
    assert seen == [True, False, True, False]


@given(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True))
def test_a_name_is_one_that_the_apiserver_takes(pod: str) -> None:
    name = event_name(pod, "uid", "NoNewNode", 0.0)
    assert len(name) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name)
    assert name == event_name(pod, "uid", "NoNewNode", HOUR - 1)
    assert name != event_name(pod, "uid", "NoNewNode", HOUR)
