"""Running several benchmarks: each has a folder of its own, and what one measured is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import cli, results
from bench.results import Row


def _measured(folder: Path, quick: bool) -> Iterator[Row]:
    (folder / "control-plane").mkdir()
    yield Row(benchmark="measured", case={"quick": str(quick)}, figures={"seconds": 1.0})


def _breaks(folder: Path, quick: bool) -> Iterator[Row]:
    yield from _measured(folder, quick)
    raise RuntimeError("no room")


def test_one_that_fails_costs_nothing_of_what_the_others_measure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "BENCHMARKS", {"first": _measured, "second": _breaks})
    monkeypatch.setattr(cli, "BESIDE", {"third": _measured})
    out = tmp_path / "run.json"
    ran = CliRunner().invoke(cli.main, ["all", "--quick", "--out", str(out)])
    assert ran.exit_code != 0
    assert "failed, see above: second" in ran.output
    assert len(results.read(out).rows) == 3


def test_what_takes_longest_is_part_of_the_quick_run_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "BENCHMARKS", {"first": _measured})
    monkeypatch.setattr(cli, "BESIDE", {"second": _measured})
    out = tmp_path / "run.json"
    for options, number in ((["--quick"], 2), ([], 1)):
        ran = CliRunner().invoke(cli.main, ["all", *options, "--out", str(out)])
        assert ran.exit_code == 0, ran.output
        assert len(results.read(out).rows) == number
