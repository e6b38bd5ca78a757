"""Downloads for people: a line in the log now and then, or a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import structlog

from extender.report import Transfer

log = structlog.get_logger("extender.loader")

LOG_EVERY_SECONDS = 10.0
RATE_SECONDS = 5.0


Tell = Callable[[Transfer], None]
"""Takes how far a download is, as often as it is called."""


class Rate:
    """Bytes per second of late. ``clock`` is monotonic."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._counted = 0
        self._rate = 0.0

    def of(self, count: int) -> float:
        """Take how many bytes there were until now; return the rate of the last whole spell."""
        seconds = self._clock() - self._since
        if seconds >= RATE_SECONDS or (not self._rate and seconds >= 1.0):
            self._rate = (count - self._counted) / seconds
            self._since, self._counted = self._clock(), count
        return self._rate


def percent(transfer: Transfer) -> int:
    """Return how much is done, in whole percent, 100 only where it is all."""
    if transfer.bytes_done >= transfer.bytes_total:
        return 100
    return min(99, 100 * transfer.bytes_done // transfer.bytes_total)


def seconds_left(transfer: Transfer) -> int | None:
    """Return how long the rest takes at the rate of late; None where nothing has come of late."""
    if transfer.bytes_per_second <= 0:
        return None
    return round((transfer.bytes_total - transfer.bytes_done) / transfer.bytes_per_second)


class LogLines:
    """One line in the log every few seconds for each model."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}

    def __call__(self, transfer: Transfer) -> None:
        """Write a line where the last one is long enough ago."""
        now = self._clock()
        before = self._last.get(transfer.path)
        if before is not None and now - before < LOG_EVERY_SECONDS:
            return
        self._last[transfer.path] = now
        log.info(
            "downloading",
            model=transfer.path,
            percent=percent(transfer),
            bytes_done=transfer.bytes_done,
            bytes_total=transfer.bytes_total,
            megabytes_per_second=round(transfer.bytes_per_second / 1e6, 1),
            seconds_left=seconds_left(transfer),
        )


@contextmanager
def telling() -> Iterator[Tell]:
    """Give the best way to tell a person at this terminal: a bar, or lines in the log."""
    if not sys.stderr.isatty():
        yield LogLines()
        return
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskID,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
    except ImportError:  # the extra "cli" is not installed
        yield LogLines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(transfer: Transfer) -> None:
            task = tasks.get(transfer.path)
            if task is None:
                task = tasks[transfer.path] = bars.add_task(transfer.path)
            bars.update(task, completed=transfer.bytes_done, total=transfer.bytes_total)

        yield tell
