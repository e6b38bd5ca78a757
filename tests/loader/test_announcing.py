"""When the apiserver is told: at once where a state changed, seldom otherwise, and at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from extender.loader.announcing import Announcer
from extender.loader.catalog import CatalogModel
from extender.loader.catalog_file import CatalogFile
from extender.loader.layout import CacheDirectory
from extender.loader.metrics import LoaderMetrics
from extender.loader.reporting import Reporter
from extender.loader.speaking import Speaker
from extender.loader.table import ModelTable
from extender.report import Report, Transfer
from tests.clock import Clock
from tests.loader.cluster import ME, apiserver
from tests.loader.loader_process import wait_for
from tests.serving.answering import Apiserver

POD = "/api/v1/namespaces/loaders/pods/loader-abc"
A = CatalogModel(name="a", source="hf://org/a")
B = CatalogModel(name="b", source="hf://org/b")


class Desk:
    """One announcer whose clock stands still, so that only changes have it write."""

    def __init__(self, api: Apiserver, reporter: Reporter, root: Path) -> None:
        api.status = 200
        api.body = {"spec": {"holderIdentity": ME.pod}}
        self.api = api
        self.table = ModelTable()
        self.table.follow([A], [])
        self.clock = Clock()
        self.looked = Event()
        self.new: set[str] = set()
        self.metrics = LoaderMetrics(self.table, root, catalog_error=lambda: "")
        self.announcer = Announcer(
            reporter,
            self.table,
            speaker=Speaker(CacheDirectory(root), name="loaders/loader-abc"),
            cache=CacheDirectory(root),
            host_directory=lambda: "/var/lib/models",
            catalog=CatalogFile(root / "catalog.yaml"),
            metrics=self.metrics,
            looked=self.looked.is_set,
            looked_at=lambda path: path not in self.new,
            node_uid=lambda: "uid-n",
            clock=self.clock,
            random=Random(0),
            lease_seconds=90,
        )

    def written(self, kind: str) -> int:
        seen = list(self.api.seen)
        return sum(f"/{kind}/" in path for method, path, _ in seen if method != "GET")

    def wait_for_writes(self, number: int) -> None:
        wait_for(lambda: self.written("pods") == number)

    def looks(self) -> list[str]:
        return [path for method, path, _ in list(self.api.seen) if method == "GET"]

    def wait_for_looks(self, number: int) -> None:
        wait_for(lambda: len(self.looks()) == number)

    def begin(self) -> None:
        self.looked.set()
        self.announcer.start()
        wait_for(lambda: (self.written("pods"), self.written("leases")) == (1, 1))
        time.sleep(1.0)  # the apiserver knows of a renewal before the announcer does

    def wait_for_renewal(self, seconds: float) -> None:
        """Let so many seconds pass, again and again, until the Lease is renewed."""
        before = self.written("leases")

        def renewed() -> bool:
            self.clock.now += seconds
            return self.written("leases") > before

        wait_for(renewed)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with apiserver(tmp_path) as (api, transport):
        desk = Desk(api, Reporter(transport, ME, clock=Clock()), tmp_path)
        yield desk
        desk.announcer.stop()


def test_nothing_is_said_before_the_disk_was_looked_at(desk: Desk) -> None:
    desk.announcer.start()
    time.sleep(0.7)
    assert desk.api.seen == []
    assert desk.announcer.ready() == "what lies on the disk has not been reported yet"
    desk.looked.set()
    wait_for(lambda: desk.announcer.ready() == "")
    assert desk.written("pods") == 1


def test_a_new_model_that_takes_long_to_look_at_keeps_nothing_else_from_being_said(
    desk: Desk,
) -> None:
    desk.begin()
    desk.looked.clear()
    desk.new.add("b")
    desk.table.follow([A, B], [])
    desk.wait_for_renewal(30)
    desk.table.failed("a", "the disk is full")
    wait_for(lambda: desk.written("pods") == 2)
    said = str([body for _, path, body in desk.api.seen if "/pods/" in path][-1])
    assert "the disk is full" in said
    assert "hf://org/b" not in said
    desk.new.clear()
    wait_for(lambda: desk.written("pods") == 3)
    assert "hf://org/b" in str(desk.api.seen)


def test_progress_goes_to_the_lease_and_a_state_to_the_pod(desk: Desk) -> None:
    desk.begin()
    desk.table.loading("a", Transfer(path="a", bytes_done=1, bytes_total=10))
    wait_for(lambda: desk.written("pods") == 2)
    assert desk.written("leases") == 1
    for done in (2, 3, 4):
        desk.table.loading("a", Transfer(path="a", bytes_done=done, bytes_total=10))
        desk.wait_for_renewal(5)
    assert desk.written("pods") == 2


def test_without_news_the_lease_is_renewed_three_times_in_its_duration(desk: Desk) -> None:
    desk.begin()
    desk.clock.now += 29
    time.sleep(1.2)
    assert desk.written("leases") == 1
    desk.clock.now += 1
    wait_for(lambda: desk.written("leases") == 2)


def test_while_the_apiserver_is_away_loading_goes_on_and_the_truth_is_told_afterwards(
    desk: Desk,
) -> None:
    desk.begin()
    desk.api.status = 0
    desk.table.loading("a", Transfer(path="a", bytes_done=1, bytes_total=10))
    wait_for(lambda: desk.metrics.unreported._value.get() > 0)
    desk.table.ready("a", revision="r", size=10, proven_at="2026-01-01T00:00:00Z")
    desk.api.status = 200
    desk.api.seen.clear()
    wait_for(lambda: desk.written("pods") == 1)
    assert '"state":"ready"' in str(desk.api.seen[0][2])


def test_an_unexpected_failure_does_not_end_the_announcing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.begin()
    failures = [RuntimeError("a fault of ours")]
    real = desk.table.report

    def report(*args: Any) -> Report:
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(desk.table, "report", report)
    desk.table.failed("a", "the disk is full")
    assert desk.announcer.told(30.0)
    assert failures == []
    assert any("the disk is full" in str(body) for _, _, body in desk.api.seen)


def test_what_is_to_be_known_before_something_is_done_is_waited_for(desk: Desk) -> None:
    desk.begin()
    desk.api.at["/api/v1/namespaces/loaders/pods/loader-abc"] = (403, {})
    desk.table.failed("a", "the disk is full")
    assert not desk.announcer.told(1.0)
    del desk.api.at["/api/v1/namespaces/loaders/pods/loader-abc"]
    assert desk.announcer.told(30.0)
    last = [body for _, path, body in desk.api.seen if "/pods/" in path][-1]
    assert "the disk is full" in str(last)
    assert desk.announcer.told(30.0)  # nothing is new, and so all is said


def test_at_the_end_the_last_state_is_told_and_the_lease_let_go(desk: Desk) -> None:
    desk.begin()
    desk.table.failed("a", "the disk is full")
    desk.announcer.stop()
    assert any("the disk is full" in str(body) for _, _, body in desk.api.seen)
    assert desk.api.seen[-1][2]["spec"]["holderIdentity"] == ""


def test_of_two_loaders_of_one_directory_the_first_renews_the_lease_until_it_ends(
    desk: Desk, tmp_path: Path
) -> None:
    """As where a rolling update lets two pods overlap; both report on their own pods."""
    before = Speaker(CacheDirectory(tmp_path), name="loaders/loader-before")
    assert before.speaks()
    desk.looked.set()
    desk.announcer.start()
    wait_for(lambda: desk.announcer.ready() == "")
    for _ in range(4):
        desk.clock.now += 90
        time.sleep(0.5)
    assert (desk.written("pods"), desk.written("leases")) == (1, 0)
    before.end()
    wait_for(lambda: desk.written("leases") == 1)


def test_one_that_never_spoke_does_not_let_go_of_the_lease(desk: Desk, tmp_path: Path) -> None:
    before = Speaker(CacheDirectory(tmp_path), name="loaders/loader-before")
    assert before.speaks()
    desk.looked.set()
    desk.announcer.start()
    wait_for(lambda: desk.announcer.ready() == "")
    desk.announcer.stop()
    assert desk.written("leases") == 0
    before.end()


def test_one_that_could_not_ask_for_its_turn_once_asks_again(tmp_path: Path) -> None:
    cache = CacheDirectory(tmp_path)
    cache.work_area.write_text("no directory")
    speaker = Speaker(cache, name="loaders/loader-abc")
    assert speaker.speaks()
    cache.work_area.unlink()
    before = Speaker(cache, name="loaders/loader-before")
    assert before.speaks()
    assert not speaker.speaks()
    before.end()
    assert speaker.speaks()
    assert not before.speaks()
    speaker.end()


def test_on_a_disk_that_takes_no_lock_the_lease_is_renewed_all_the_same(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / ".modelcache").write_text("no directory")
    desk.begin()


def test_a_report_that_somebody_takes_off_comes_back_and_seldom_where_that_goes_on(
    desk: Desk,
) -> None:
    """Each update of a bound pod has kube-scheduler try all refused pods again."""
    desk.begin()
    desk.api.body = {"metadata": {"uid": ME.uid, "annotations": {}}}  # of the pod, now and later
    for written, seconds in ((2, 60), (3, 120), (4, 240)):
        desk.clock.now += seconds - 1
        time.sleep(1.2)
        assert desk.written("pods") == written - 1
        desk.clock.now += 1
        desk.wait_for_writes(written)
        assert desk.announcer.told(20)  # it has noted that the report is written
    report = [body for _, path, body in desk.api.seen if "/pods/" in path][-1]
    assert "hf://org/a" in str(report)


def test_a_report_that_stands_is_looked_at_seldom_and_not_written(desk: Desk) -> None:
    desk.begin()
    (written,) = [b for m, p, b in desk.api.seen if m == "PATCH" and "/pods/" in p]
    desk.api.body = {"metadata": written["metadata"]}

    desk.clock.now += 59
    time.sleep(1.2)
    assert desk.looks() == []
    for number in (1, 2):
        desk.clock.now += 60
        desk.wait_for_looks(number)
        time.sleep(1.2)
    assert desk.looks() == [f"{POD}?resourceVersion=0"] * 2
    assert desk.written("pods") == 1


def test_that_the_pod_cannot_be_looked_at_harms_nothing_and_is_no_failed_write(
    desk: Desk,
) -> None:
    desk.begin()
    desk.api.at[POD] = 403, {}
    desk.clock.now += 60
    desk.wait_for_looks(1)
    desk.api.at.clear()
    desk.wait_for_renewal(30)
    desk.table.failed("a", "the disk is full")
    desk.wait_for_writes(2)
    assert desk.metrics.unreported._value.get() == 0
