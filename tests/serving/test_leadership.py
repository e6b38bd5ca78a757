"""The fence: when bindings may be sent, by what is seen of kube-scheduler's Lease."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.errors import UsageError
from extender.kube.objects import LeaseSpec
from extender.serving.bindings import SEND_SECONDS
from extender.serving.leadership import (
    SETTLE_AFTER_EXPIRY_SECONDS,
    SETTLE_SECONDS,
    Fence,
    Leadership,
    lease_path,
)
from extender.serving.takeover import takeover
from extender.verbs.takeover import Takeover
from extender.watch.client import connect
from tests.serving.answering import answering, kubeconfig
from tests.watch.harness import eventually

NOW = 1_800_000_000.0


class Clocks:
    """Both clocks at one time; ``fence`` reads them."""

    def __init__(self) -> None:
        self.passed = -60.0
        self.fence = Fence("pod-a", monotonic=lambda: self.passed, now=lambda: NOW + self.passed)
        self.passed = 0.0

    def see(
        self,
        holder: str = "pod-a_1",
        *,
        renewed: float = 0,
        acquired: float = -60,
        moves: int = 0,
        duration: int = 15,
    ) -> None:
        """See the Lease as it is now; times are seconds from NOW."""
        spec = LeaseSpec(
            holder_identity=holder,
            acquire_time=stamp(acquired),
            renew_time=stamp(renewed),
            lease_transitions=moves,
            lease_duration_seconds=duration,
        )
        self.fence.observe(spec, asked_at=self.passed)


def stamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(NOW + seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_it_is_closed_until_the_lease_was_read(clocks: Clocks) -> None:
    assert "not been read" in clocks.fence.closed()


def test_it_is_open_for_the_scheduler_of_this_host_alone(clocks: Clocks) -> None:
    clocks.see("pod-a_1")
    assert clocks.fence.closed() == ""
    clocks.see("pod-ab_1")
    assert "pod-ab_1 does" in clocks.fence.closed()
    clocks.see("")
    assert "nobody does" in clocks.fence.closed()


def test_it_stays_closed_while_what_this_process_sent_before_its_start_may_be_decided(
    clocks: Clocks,
) -> None:
    """The container alone was started anew: kube-scheduler leads on."""
    started = clocks.passed = 100.0
    anew = Fence("pod-a", monotonic=lambda: clocks.passed, now=lambda: NOW + clocks.passed)
    clocks.fence = anew
    clocks.see("pod-a_1", renewed=99)
    assert "before its start" in clocks.fence.closed()
    clocks.passed = started + SETTLE_SECONDS
    assert clocks.fence.closed() == ""


def test_it_closes_when_the_lease_is_no_longer_seen_renewed(clocks: Clocks) -> None:
    clocks.see(renewed=0)
    clocks.passed = 15 - SETTLE_SECONDS
    clocks.see(renewed=0)  # read again, and still the same
    assert clocks.fence.closed() == ""
    clocks.passed += 0.1
    assert "not seen renewed" in clocks.fence.closed()
    clocks.see(renewed=10)
    assert clocks.fence.closed() == ""


def test_it_stays_closed_while_the_leader_before_may_still_be_binding(clocks: Clocks) -> None:
    clocks.see(acquired=0, moves=1)
    assert "settling" in clocks.fence.closed()
    clocks.passed = SETTLE_SECONDS - 0.1
    assert "settling" in clocks.fence.closed()
    clocks.passed = SETTLE_SECONDS
    assert clocks.fence.closed() == ""


def test_it_opens_soon_where_the_leader_before_was_silent_until_its_lease_ran_out(
    clocks: Clocks,
) -> None:
    """That one's own fence has been closed for so long that nothing of it is under way."""
    for clocks.passed in (0, 15):
        clocks.see("pod-b_1", renewed=0)
    clocks.passed = 16
    clocks.see("pod-a_1", renewed=16, acquired=16, moves=1)
    assert "settling" in clocks.fence.closed()
    clocks.passed += SETTLE_AFTER_EXPIRY_SECONDS
    assert clocks.fence.closed() == ""


@pytest.mark.parametrize("duration", [15, 5], ids=["replaced before", "too short to tell"])
def test_it_opens_late_where_the_leader_before_may_have_been_binding_to_the_end(
    clocks: Clocks, duration: int
) -> None:
    clocks.see("pod-b_1", renewed=0, duration=duration)
    clocks.passed = 10
    clocks.see("", renewed=10)  # given up in good order, by a kube-scheduler that stops
    clocks.see("pod-a_1", renewed=10, acquired=10, moves=1)
    clocks.passed += SETTLE_SECONDS - 0.1
    assert "settling" in clocks.fence.closed()


def test_a_leader_that_ran_out_hastens_nothing_for_the_one_after_the_next(clocks: Clocks) -> None:
    clocks.see("pod-b_1", renewed=0)
    clocks.passed = 16
    clocks.see("pod-c_1", renewed=16, acquired=16, moves=1)
    clocks.passed = 20
    clocks.see("pod-a_1", renewed=20, acquired=20, moves=2)
    clocks.passed += SETTLE_SECONDS - 0.1
    assert "settling" in clocks.fence.closed()


def test_the_first_leader_of_all_has_nobody_to_wait_for(clocks: Clocks) -> None:
    clocks.see(acquired=0, moves=0)
    assert clocks.fence.closed() == ""


def test_a_binding_fits_between_the_last_look_and_the_next_leader() -> None:
    assert SEND_SECONDS < SETTLE_SECONDS


def test_a_renewal_that_is_seen_late_may_have_been_made_any_time_since_the_last_look(
    clocks: Clocks,
) -> None:
    """Looks failed for 14 s; the Lease may end in two, and another one lead."""
    clocks.see(renewed=0)
    clocks.passed = 14
    clocks.see(renewed=1)
    assert "not seen renewed for 14 s" in clocks.fence.closed()
    clocks.passed = 15
    clocks.see(renewed=15)
    assert clocks.fence.closed() == ""


@pytest.mark.parametrize(("renewed", "closed"), [(-14, True), (-9, False), (3600, False)])
def test_the_first_look_of_all_goes_by_the_clock_that_both_share(
    clocks: Clocks, renewed: float, closed: bool
) -> None:
    clocks.see(renewed=renewed)
    assert ("not seen renewed" in clocks.fence.closed()) is closed


@given(
    steps=st.lists(
        st.tuples(st.floats(0.1, 9), st.sampled_from(("renews", "is looked at"))), max_size=60
    )
)
def test_it_is_never_open_so_late_that_a_binding_could_outlast_the_lease(
    steps: list[tuple[float, str]],
) -> None:
    clocks, renewed = Clocks(), 0.0
    clocks.see(renewed=0)
    for seconds, what in steps:
        clocks.passed += seconds
        if not clocks.fence.closed():
            assert clocks.passed <= renewed + 15 - SETTLE_SECONDS
        if clocks.passed > renewed + 15:
            return  # another one may lead
        if what == "renews":
            renewed = clocks.passed
        else:
            clocks.see(renewed=renewed)


def test_binds_that_are_refused_together_look_at_the_lease_once(tmp_path: Path) -> None:
    """One after another they would wait for seconds each, where the apiserver is slow."""
    with answering() as apiserver:
        transport = connect(str(kubeconfig(apiserver.url, tmp_path)))
        before = takeover(transport, lambda: None)
        leadership = Leadership(transport, "kube-system/x", Fence("pod-a"), before)
        all_there = Barrier(8 + 1)

        def closed() -> str:
            all_there.wait(30)
            return leadership.closed()

        with ThreadPoolExecutor(8) as binds:
            with leadership._looking:  # a look that is slow
                refused = [binds.submit(closed) for _ in range(8)]
                all_there.wait(30)
                time.sleep(1)
            assert all(each.result() for each in refused)
    assert len(apiserver.seen) <= 2  # a thread may have begun late


def test_a_look_that_fails_unexpectedly_does_not_end_the_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [RuntimeError("a fault of ours")]
    with answering() as apiserver:
        transport = connect(str(kubeconfig(apiserver.url, tmp_path)))
        fence, before = Fence("pod-a"), takeover(transport, lambda: None)
        real = fence.observe

        def observe(spec: LeaseSpec, *, asked_at: float) -> None:
            if failures:
                raise failures.pop()
            real(spec, asked_at=asked_at)

        monkeypatch.setattr(fence, "observe", observe)
        apiserver.status, apiserver.body = 200, {"spec": {"holderIdentity": "pod-a_1"}}
        leadership = Leadership(transport, "kube-system/x", fence, before)
        leadership.start()
        assert eventually(lambda: fence.holder == "pod-a_1", 30)
        leadership.stop()
    assert failures == []


def test_a_term_is_this_replicas_own_or_none_and_begins_before_everything_is_known(
    tmp_path: Path, clocks: Clocks
) -> None:
    known: list[str] = []
    before = Takeover(lambda: "7", lambda version: version in known)
    transport = connect(str(kubeconfig("http://127.0.0.1:1", tmp_path)))
    leadership = Leadership(transport, "kube-system/x", clocks.fence, before)
    terms = [leadership.term]
    for holder in ("pod-b_1", "pod-a_1", "pod-a_2"):
        clocks.see(holder, acquired=0, moves=1)
        terms.append(leadership.term)
        before.ask(clocks.fence.term)
        assert not leadership.caught_up()
        known.append("7")
        assert leadership.caught_up()
        known.clear()
    assert terms[:2] == [None, None]
    assert len(set(terms)) == 3


@pytest.mark.parametrize("lease", ["", "x", "/x", "x/", "a/b/c"])
def test_a_lease_that_is_not_named_well_is_refused(lease: str) -> None:
    with pytest.raises(UsageError, match="NAMESPACE/NAME"):
        lease_path(lease)


def test_a_lease_that_was_deleted_and_made_anew_opens_no_sooner_than_one_that_was_taken() -> None:
    clocks = Clocks()
    clocks.fence.observe(LeaseSpec(holder_identity="pod-b_1", renew_time="1"), asked_at=0.0)
    clocks.passed = 1.0
    clocks.fence.observe(LeaseSpec(), asked_at=1.0)
    clocks.passed = 2.0
    clocks.fence.observe(LeaseSpec(holder_identity="pod-a_1", renew_time="2"), asked_at=2.0)
    assert "settling" in clocks.fence.closed()
    clocks.passed = 1.0 + SETTLE_SECONDS
    assert clocks.fence.closed() == ""
