"""Results: rows of figures, kept as JSON with the machine they were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from extender import __version__

ROOT = Path(__file__).resolve().parents[1]


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
    """Describe the machine and the versions; ``load`` is how busy others kept it at the start."""
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


def report(rows: Iterable[Row], *, kubernetes: str, quick: bool) -> Report:
    """Wrap rows with the machine and the time."""
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(machine=machine(kubernetes), begun=begun, rows=list(rows), quick=quick)


def about(kept: Report) -> str:
    """Say in a line what a run was made on."""
    return ", ".join(f"{key} {value}" for key, value in kept.machine.items())


def read(path: Path) -> Report:
    """Read a kept run. Raises msgspec.DecodeError where it is none."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


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
    """Return the cases that two runs share, each figure with its ratio, after to before."""
    old = {(row.benchmark, frozenset(row.case.items())): row for row in before.rows}
    lines = []
    for row in after.rows:
        other = old.get((row.benchmark, frozenset(row.case.items())))
        for name, value in row.figures.items():
            was = other.figures.get(name) if other else None
            if isinstance(value, int | float) and isinstance(was, int | float) and was:
                case = " ".join(f"{key}={item}" for key, item in row.case.items())
                lines.append(
                    {
                        "benchmark": row.benchmark,
                        "case": case,
                        "figure": name,
                        "before": was,
                        "after": value,
                        "ratio": value / was,
                    }
                )
    return table(lines) if lines else "the two runs share no case"


def table(rows: Sequence[Mapping[str, str | int | float]]) -> str:
    """Return rows as a Markdown table with aligned columns."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
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
