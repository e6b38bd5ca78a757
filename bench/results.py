"""Results: rows of figures, kept as JSON with the machine they were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from extender import __version__
from extender.errors import ExtenderError

ROOT = Path(__file__).resolve().parents[1]


class UnfitFiguresError(ExtenderError):
    """These figures cannot be shown; the message says why and what to do."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measured case. Names of figures say their units."""

    benchmark: str
    case: Mapping[str, str | int | float]
    figures: Mapping[str, float | int | str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run: what was measured, where, and when (RFC 3339). ``quick``: not for figures."""

    machine: Mapping[str, str]
    begun: str
    rows: Sequence[Row]
    quick: bool = False


def machine(kubernetes: str) -> dict[str, str]:
    """Describe the machine and the versions; ``load`` is how busy others keep it now."""
    information = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    models = [line.split(":", 1)[1] for line in information.splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{os.cpu_count()} x {models[0].strip() if models else platform.machine()}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "go": _said("go", "env", "GOVERSION"),
        "kubernetes": kubernetes,
        "extender": f"{__version__} {_said('git', 'describe', '--always', '--dirty')}".strip(),
        **{name: version(name) for name in ("msgspec", "flask", "gunicorn")},
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def begin(*, kubernetes: str, quick: bool) -> Report:
    """Return a run that begins now, without rows."""
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(machine=machine(kubernetes), begun=begun, rows=(), quick=quick)


def about(kept: Report) -> str:
    """Say in a line what a run was made on."""
    return ", ".join(f"{key} {value}" for key, value in kept.machine.items())


def read(path: Path) -> Report:
    """Read a kept run. Raises UnfitFiguresError where there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise UnfitFiguresError(f"{path}: {error.strerror}; name a file of build/bench") from error
    except msgspec.DecodeError as error:
        raise UnfitFiguresError(f"{path} is no run that was kept: {error}") from error


def write(path: Path, kept: Report) -> None:
    """Keep a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")


def text(kept: Report) -> str:
    """Return a run as Markdown: the machine, then one table for each benchmark."""
    parts = [f"{kept.begun}: {about(kept)}"]
    for name in dict.fromkeys(row.benchmark for row in kept.rows):
        rows = [{**row.case, **row.figures} for row in kept.rows if row.benchmark == name]
        parts.append(f"### {name}\n\n{table(rows)}")
    return "\n\n".join(parts)


def compared(before: Report, after: Report) -> str:
    """Return the cases that two runs share, each figure with its ratio, after to before.

    The cases that only one of them has are named below.
    """
    old, new = ({_case(row): row for row in run.rows} for run in (before, after))
    lines = []
    for case in (case for case in new if case in old):
        was = old[case].figures
        for name, value in new[case].figures.items():
            earlier = was.get(name)
            if isinstance(value, int | float) and isinstance(earlier, int | float) and earlier:
                line = {"benchmark": case[0], "case": case[1], "figure": name}
                lines.append(line | {"before": earlier, "after": value, "ratio": value / earlier})
    parts = [table(lines) if lines else "the two runs share no case"]
    for when, these, others in (("before", old, new), ("after", new, old)):
        alone = [" ".join(case) for case in these if case not in others]
        if alone:
            parts.append(f"only {when}:\n" + "\n".join(alone))
    return "\n\n".join(parts)


def _case(row: Row) -> tuple[str, str]:
    return row.benchmark, " ".join(f"{key}={value}" for key, value in sorted(row.case.items()))


def table(
    rows: Sequence[Mapping[str, str | int | float]], columns: Sequence[str] | None = None
) -> str:
    """Return rows as a Markdown table with these columns, or all there are, aligned."""
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_cell(row.get(key, "")) for key in columns] for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
             for line in cells]  # fmt: skip
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cell(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip()
