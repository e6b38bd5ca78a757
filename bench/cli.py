"""The command line: one command a benchmark, ``all``, ``compare``, and ``publish``."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from bench import (
    answer,
    churn,
    evictions,
    growth,
    loader,
    loader_cut,
    publish,
    realbytes,
    relist,
    results,
    storm,
    throughput,
)
from bench.placement import measure as placement
from bench.placement import tune
from bench.results import Row
from controlplane.build import DEFAULT_VERSION

Measure = Callable[[Path, bool], Iterator[Row]]
_file = click.Path(path_type=Path, dir_okay=False)


@click.group()
def main() -> None:
    """Measure the extender. Figures are kept as JSON under build/bench."""


def _answer(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001 - one kind of function
    return answer.measure(folder, quick=quick)


def _throughput(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return throughput.measure(folder, quick=quick)


def _relist(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return relist.measure(folder, quick=quick)


def _storm(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return storm.measure(folder, quick=quick)


def _evictions(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return evictions.measure(folder, quick=quick)


def _growth(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return growth.measure(folder, quick=quick)


def _churn(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return churn.measure(folder, quick=quick)


def _loader(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return loader.measure(folder, megabytes=100 if quick else 500, rounds=1 if quick else 3)


def _loader_cut(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return loader_cut.measure(folder, megabytes=100 if quick else 1000)


def _placement(_: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return placement.measure(quick=quick)


def _tune(_: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return tune.measure(quick=quick)


def _tune_full(_: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return tune.measure(quick=quick, full=True)


def _realbytes(folder: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
    return realbytes.measure(folder, megabytes=100 if quick else 1000, rounds=1 if quick else 3)


BENCHMARKS: dict[str, Measure] = {
    "answer": _answer,
    "throughput": _throughput,
    "relist": _relist,
    "placement": _placement,
    "realbytes": _realbytes,
}
BESIDE: dict[str, Measure] = {
    "storm": _storm,
    "evictions": _evictions,
    "churn": _churn,
    "loader": _loader,
    "loader-cut": _loader_cut,
}
"""Part of ``all`` where it is quick: they would take it beyond a quarter of an hour."""

ALONE: dict[str, Measure] = {
    "growth": _growth,
    "tune": _tune,
    "tune-full": _tune_full,
}
"""Not part of ``all``: they take longer."""


def _run(measures: Mapping[str, Measure], *, quick: bool, out: Path | None) -> None:
    run = results.begin(kubernetes=DEFAULT_VERSION, quick=quick)
    rows: list[Row] = []
    failed = []
    for name, measure in measures.items():
        click.echo(f"==> {name}", err=True)
        begun = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
                for row in measure(Path(folder), quick):
                    click.echo(f"    {dict(row.case)}: {_brief(row)}", err=True)
                    rows.append(row)
        except Exception:  # noqa: BLE001 - what the others measure is not lost by it
            failed.append(name)
            traceback.print_exc()
        click.echo(f"    took {time.monotonic() - begun:.0f} s", err=True)
    kept = msgspec.structs.replace(run, rows=rows)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = out or results.ROOT / "build" / "bench" / f"{'-'.join(measures)}-{stamp}.json"
    results.write(path, kept)
    click.echo(results.text(kept))
    click.echo(f"==> kept in {path}", err=True)
    if failed:
        raise click.ClickException(f"failed, see above: {', '.join(failed)}")


def _brief(row: Row) -> str:
    return ", ".join(
        f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.figures.items()
    )


_quick = click.option("--quick", is_flag=True, help="Only to see that it runs; not for figures.")
_out = click.option("--out", type=_file, help="Where to keep the results.")


def _command(name: str) -> click.Command:
    @click.command(name, help=f"Run the benchmark: {name}.")
    @_quick
    @_out
    def command(*, quick: bool, out: Path | None) -> None:
        known = {**BENCHMARKS, **BESIDE, **ALONE}
        every = {**BENCHMARKS, **(BESIDE if quick else {})}
        _run(every if name == "all" else {name: known[name]}, quick=quick, out=out)

    return command


for _name in (*BENCHMARKS, *BESIDE, *ALONE, "all"):
    main.add_command(_command(_name))


@main.command(placement.FULL)
@_quick
@_out
@click.option(
    "--seeds",
    type=click.IntRange(2),
    default=placement.SEEDS,
    show_default=True,
    help="Runs of each policy in each setting.",
)
def grid(*, quick: bool, out: Path | None, seeds: int) -> None:
    """Run placement in every combination of catalogue, Zipf and burstiness."""

    def measure(_: Path, quick: bool) -> Iterator[Row]:  # noqa: FBT001
        return placement.measure_grid(quick=quick, seeds=seeds)

    _run({placement.FULL: measure}, quick=quick, out=out)


@main.command()
@click.argument("before", type=_file)
@click.argument("after", type=_file)
def compare(before: Path, after: Path) -> None:
    """Print what two runs share, with ratios."""
    with _told():
        old, new = results.read(before), results.read(after)
    for name, kept in (("before", old), ("after", new)):
        click.echo(f"{name}: {kept.begun} {dict(kept.machine)}")
    sys.stdout.write("\n" + results.compared(old, new) + "\n")


@main.command("publish")
@click.argument("runs", type=_file, nargs=-1, required=True)
def publish_runs(runs: tuple[Path, ...]) -> None:
    """Show the figures of kept runs in the tables of docs/."""
    with _told():
        changed = publish.publish([results.read(path) for path in runs])
    click.echo(f"==> {publish.FIGURES}, {', '.join(changed) or 'no page'} written", err=True)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except results.UnfitFiguresError as error:
        raise click.ClickException(str(error)) from error
