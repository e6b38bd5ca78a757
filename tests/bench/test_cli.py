"""Running several benchmarks: each has a folder of its own, and what one measured is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
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


def _kept(path: Path, *cases: int) -> str:
    rows = [Row(benchmark="b", case={"pods": pods}, figures={"s": float(pods)}) for pods in cases]
    run = results.begin(kubernetes="1.37", quick=False)
    results.write(path, msgspec.structs.replace(run, rows=rows))
    return str(path)


def test_what_only_one_of_two_runs_has_is_named(tmp_path: Path) -> None:
    before, after = _kept(tmp_path / "before", 500, 2000), _kept(tmp_path / "after", 600, 2000)
    ran = CliRunner().invoke(cli.main, ["compare", before, after])
    assert ran.exit_code == 0, ran.output
    assert "pods=2000 | s      | 2000   | 2000  | 1.00" in ran.output
    assert "only before:\nb pods=500\n\nonly after:\nb pods=600\n" in ran.output


@pytest.mark.parametrize("command", [["compare"], ["publish"]])
def test_a_file_that_is_no_run_is_named(command: list[str], tmp_path: Path) -> None:
    kept = _kept(tmp_path / "kept", 1)
    (tmp_path / "odd").write_text('{"rows": 3}')
    for name, said in (("odd", "is no run that was kept"), ("gone", "No such file")):
        ran = CliRunner().invoke(cli.main, [*command, kept, str(tmp_path / name)])
        assert ran.exit_code == 1
        assert said in ran.output
        assert str(tmp_path / name) in ran.output
