"""The table behind the report: what is ready stays ready until it is known to be damaged."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.leaving import Left
from extender.loader.table import ModelRow, ModelTable
from extender.report import ReportedState, Transfer

A = CatalogModel(name="a", source="hf://org/a")
B = CatalogModel(name="b", source="hf://org/b", path="b/deep")
HALF = Transfer(path="a", bytes_done=5, bytes_total=10)
PROVEN = "2026-01-01T00:00:00Z"


@pytest.fixture
def table() -> ModelTable:
    table = ModelTable()
    table.follow([A], [A, B])
    return table


def held(table: ModelTable, path: str = "a") -> ModelRow:
    found = table.get(path)
    assert found is not None
    return found


def test_a_model_is_absent_until_something_is_known(table: ModelTable) -> None:
    assert held(table).state is ReportedState.ABSENT
    assert not held(table).on_demand
    assert held(table, "b/deep").on_demand


def test_a_download_is_loading_and_ends_ready(table: ModelTable) -> None:
    table.loading("a", HALF)
    assert held(table).state is ReportedState.LOADING
    assert table.progress(None).transfers == (HALF,)
    table.ready("a", revision="c0ffee", size=10, proven_at=PROVEN)
    assert held(table).state is ReportedState.READY
    assert table.progress(None).transfers == ()


def test_a_ready_model_stays_ready_while_another_revision_is_fetched(table: ModelTable) -> None:
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    table.loading("a", HALF)
    assert held(table).state is ReportedState.READY
    table.failed("a", "the hub does not answer")
    assert held(table).state is ReportedState.READY
    assert held(table).reason == "the hub does not answer"


@pytest.mark.parametrize("say", [ModelTable.ready, ModelTable.whole])
def test_what_came_from_another_source_than_the_catalog_has_now_makes_nothing_ready(
    table: ModelTable, say: Callable[..., None]
) -> None:
    say(table, "a", source="hf://org/before", revision="one", size=10, proven_at=PROVEN)
    assert (held(table).state, held(table).revision) == (ReportedState.ABSENT, None)
    say(table, "a", source="hf://org/a", revision="two", size=10, proven_at=PROVEN)
    assert (held(table).state, held(table).revision) == (ReportedState.READY, "two")


def test_what_waits_for_its_place_is_said_until_it_has_it(table: ModelTable) -> None:
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    table.waits("a", "new revision ready, waits for 1 reader")
    table.whole("a", revision="one", size=10, proven_at=PROVEN)
    assert held(table).state is ReportedState.READY
    assert held(table).reason == "new revision ready, waits for 1 reader"
    table.ready("a", revision="two", size=10, proven_at=PROVEN)
    assert held(table).reason == ""


def test_what_another_program_left_is_said_only_once_it_is_known_not_to_be_the_model(
    table: ModelTable,
) -> None:
    table.unproven("a")
    table.failed("a", "the hub does not answer")
    assert [model.path for model in table.report("/models", None).models] == ["b/deep"]
    table.refused("a", "it is not what the hub has")
    table.unproven("a")
    table.failed("a", "the hub does not answer")
    assert held(table).state is ReportedState.FAILED
    assert held(table).reason == "it is not what the hub has"
    assert len(table.report("/models", None).models) == 2


def test_damage_takes_a_ready_model_back_at_once(table: ModelTable) -> None:
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    table.damaged("a", "model.safetensors: its SHA-256 is another")
    assert held(table).state is ReportedState.FAILED


def test_a_damaged_model_is_failed_until_it_is_mended(table: ModelTable) -> None:
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    table.damaged("a", "model.safetensors: its SHA-256 is another")
    table.loading("a", HALF)
    assert held(table).state is ReportedState.FAILED
    assert table.progress(None).transfers == (HALF,)
    table.failed("a", "the hub does not answer")
    assert held(table).damaged
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    assert not held(table).damaged


def test_that_a_failed_download_is_tried_again_is_no_news_until_more_bytes_come(
    table: ModelTable,
) -> None:
    table.failed("a", "the disk is full")
    for _ in range(3):
        table.loading("a", HALF)
        assert held(table).state is ReportedState.FAILED
        assert held(table).reason == "the disk is full"
    table.loading("a", Transfer(path="a", bytes_done=6, bytes_total=10))
    assert held(table).state is ReportedState.LOADING
    assert held(table).reason == ""


def test_a_download_that_stands_still_keeps_its_state_and_has_no_rate(table: ModelTable) -> None:
    table.paused("a")
    assert table.progress(None).transfers == ()
    table.loading("a", msgspec.structs.replace(HALF, bytes_per_second=1e9))
    table.paused("a")
    assert (held(table).state, held(table).transfer) == (ReportedState.LOADING, HALF)


def test_a_download_that_is_given_up_leaves_what_was_there(table: ModelTable) -> None:
    table.loading("a", HALF)
    table.let_go("a")
    assert held(table).state is ReportedState.ABSENT
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    table.loading("a", HALF)
    table.let_go("a")
    assert held(table).state is ReportedState.READY
    assert table.progress(None).transfers == ()
    table.unproven("a")
    table.let_go("a")
    assert held(table).unproven


def test_where_fetching_on_demand_is_switched_off_nobody_is_told_to_ask(table: ModelTable) -> None:
    table.follow([A], [A, B], asked=Catalog(on_demand=False).fetches_on_demand)
    assert not held(table, "b/deep").on_demand


def test_what_the_catalog_left_is_ready_and_says_when_it_goes(table: ModelTable) -> None:
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    table.follow([], [B], [Left(model=A, leaves_at="2026-01-02T00:00:00Z")])
    (left,) = [one for one in table.report("/models", None).models if one.path == "a"]
    assert (left.state, left.leaves_at) == (ReportedState.READY, "2026-01-02T00:00:00Z")
    assert "goes after 2026-01-02T00:00:00Z unless a pod of the node reads it" in left.reason
    assert not left.on_demand
    table.follow([A], [A, B])
    (back,) = [one for one in table.report("/models", None).models if one.path == "a"]
    assert (back.state, back.leaves_at, back.reason) == (ReportedState.READY, None, "")


def test_what_is_about_to_go_is_reported_absent_whatever_is_found_of_it(table: ModelTable) -> None:
    table.ready("a", revision="one", size=10, proven_at=PROVEN)

    def said() -> ReportedState:
        return table.report("/models", None).models[0].state

    with table.going({"a"}):
        assert said() is ReportedState.ABSENT
        table.ready("a", revision="one", size=10, proven_at=PROVEN)
        assert said() is ReportedState.ABSENT
    assert said() is ReportedState.READY


def test_a_changed_catalog_keeps_what_is_known_and_drops_what_left(table: ModelTable) -> None:
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    table.follow([A], [A])
    assert held(table).state is ReportedState.READY
    assert table.get("b/deep") is None
    table.failed("b/deep", "nobody asks for it any more")
    assert table.get("b/deep") is None


def test_the_report_says_what_the_table_says(table: ModelTable) -> None:
    table.ready("a", revision="one", size=10, proven_at=PROVEN)
    catalog = Catalog(models=(A, B))
    report = table.report("/var/lib/models", catalog)
    assert report.directory == "/var/lib/models"
    assert report.catalog == catalog.digest
    ready, absent = report.models
    assert (ready.path, ready.state, ready.bytes) == ("a", ReportedState.READY, 10)
    assert (ready.model, ready.revision, ready.proven_at) == ("hf://org/a", "one", PROVEN)
    assert (absent.path, absent.state, absent.on_demand) == (
        "b/deep",
        ReportedState.ABSENT,
        True,
    )
