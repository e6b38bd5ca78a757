"""The figures of the docs: what a run measured, and nothing that somebody typed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.publish import DOCS, figures, filled, publish
from bench.results import Report, Row, UnfitFiguresError

RUN = Report(
    machine={"processor": "2 x slow", "load": "0.1"},
    begun="2026-11-26T20:00:00+00:00",
    rows=[Row(benchmark="answer time", case={"names": 5000}, figures={"p50 ms": 3.14159, "n": 7})],
)
PAGE = "# Page\n\n<!-- figures: answer time{} -->\nold\n<!-- end of figures -->\n\nafter\n"
TABLE = "| names | p50 ms |\n|-------|--------|\n| 5000  | 3.14   |\n"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "page.md").write_text(PAGE.format(": names, p50 ms"))
    (tmp_path / "other.md").write_text("# Other\n")
    return tmp_path


def test_the_tables_of_the_docs_are_those_of_the_published_runs() -> None:
    shown = figures()
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        assert filled(page, shown) == page, (
            f"{path.name}: python -m bench publish writes its tables"
        )


def test_every_published_benchmark_is_shown_somewhere() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert [name for name in figures() if f"<!-- figures: {name}" not in pages] == []


def test_a_table_has_the_columns_of_its_place_and_says_on_what_machine(docs: Path) -> None:
    assert publish([RUN], docs) == ["page.md"]
    page = (docs / "page.md").read_text()
    assert TABLE in page
    assert "2026-11-26T20:00:00+00:00: processor 2 x slow, load 0.1\n<!-- end" in page
    assert page.startswith("# Page\n\n")
    assert page.endswith("\n\nafter\n")


def test_a_place_without_columns_shows_all(docs: Path) -> None:
    (docs / "page.md").write_text(PAGE.format(""))
    publish([RUN], docs)
    assert "| names | p50 ms | n |" in (docs / "page.md").read_text()


def test_what_was_published_before_stays_and_the_same_benchmark_is_replaced(docs: Path) -> None:
    other = Row(benchmark="retries", case={}, figures={"calls": 1})
    publish([msgspec.structs.replace(RUN, rows=[*RUN.rows, other])], docs)
    publish([msgspec.structs.replace(RUN, begun="later")], docs)
    shown = figures(docs)
    assert {name: run.begun for name, run in shown.items()} == {
        "answer time": "later",
        "retries": RUN.begun,
    }


def test_what_was_not_measured_is_said_to_be_so(docs: Path) -> None:
    assert "Not measured yet" in filled((docs / "page.md").read_text(), {})


def test_a_quick_run_has_no_figures(docs: Path) -> None:
    with pytest.raises(UnfitFiguresError, match="make a whole one"):
        publish([msgspec.structs.replace(RUN, quick=True)], docs)


def test_a_run_that_nobody_can_repeat_has_no_figures(docs: Path) -> None:
    changed = msgspec.structs.replace(RUN, machine={"extender": "0.1.0 abc1234-dirty"})
    with pytest.raises(UnfitFiguresError, match=r"0\.1\.0 abc1234-dirty.*commit them"):
        publish([changed], docs)


def test_a_column_that_the_first_row_lacks_keeps_its_place(docs: Path) -> None:
    (docs / "page.md").write_text(PAGE.format(": names, p50 ms, n"))
    few = Row(benchmark="answer time", case={"names": 100}, figures={"n": 1})
    publish([msgspec.structs.replace(RUN, rows=[few, *RUN.rows])], docs)
    page = (docs / "page.md").read_text()
    assert "| names | p50 ms | n |\n|-------|--------|---|\n| 100   |        | 1 |\n" in page


def test_a_column_that_is_not_measured_changes_no_page(docs: Path) -> None:
    (docs / "page.md").write_text(PAGE.format(": names, p51 ms"))
    with pytest.raises(UnfitFiguresError, match="no column p51 ms; there are names, p50 ms, n"):
        publish([RUN], docs)
    assert figures(docs) == {}
