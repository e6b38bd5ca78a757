"""The loader's metrics: bytes, failures by cause, age of the proof, disk, evictions.

No label grows with the number of models: which model it is stands in the log and in the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extender.kube.times import unix_time
from extender.loader.disk_space import disk_space
from extender.loader.downloading import Repeat
from extender.loader.failing import OwnCause
from extender.loader.sources import Cause
from extender.loader.space import Reason
from extender.loader.table import ModelTable
from extender.loader.transfer.failures import LocalCause
from extender.report import ReportedState

PREFIX = "model_cache_extender_loader"


class LoaderMetrics:
    """The counters, and a collector that reads the table when it is asked."""

    def __init__(
        self,
        table: ModelTable,
        directory: Path,
        *,
        catalog_error: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = CollectorRegistry()
        self.downloaded = self._counter("downloaded_bytes", "Bytes of models fetched.")
        self.repeated = self._counter(
            "repeated_bytes", "Bytes fetched that this node had had, by why", "why", Repeat
        )
        self.downloads = self._counter(
            "downloads", "Tries to obtain a model, by outcome", "outcome", ("obtained", "failed")
        )
        self.failures = self._counter(
            "failures", "Tries that failed, by cause", "cause", (*Cause, *LocalCause, *OwnCause)
        )
        self.proofs = self._counter(
            "proofs", "Proofs of published models, by result", "result", ("whole", "damaged")
        )
        self.evicted = self._counter(
            "evicted_models", "Models removed, by reason", "reason", Reason
        )
        self.evicted_bytes = self._counter("evicted_bytes", "Bytes of models removed.")
        self.unreported = self._counter("report_failures", "Writes to the apiserver that failed.")
        self.read_speed: float | None = None
        self.registry.register(_Present(self, table, directory, catalog_error, clock))

    def _counter(
        self, name: str, text: str, label: str = "", values: Iterable[str] = ()
    ) -> Counter:
        """Make a counter whose text names the label's values.

        They begin at zero, so that the first increment is one to see.
        """
        known = list(map(str, values))
        told = f"{text}: {', '.join(known)}." if known else text
        labels = (label,) if label else ()
        counter = Counter(f"{PREFIX}_{name}", told, labels, registry=self.registry)
        for value in known:
            counter.labels(value)
        return counter


class _Present(Collector):
    """What is true at the moment of the scrape."""

    def __init__(
        self,
        metrics: LoaderMetrics,
        table: ModelTable,
        directory: Path,
        catalog_error: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._table = table
        self._directory = directory
        self._catalog_error = catalog_error
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        rows = self._table.all()
        models = GaugeMetricFamily(
            f"{PREFIX}_models", f"Models by state: {', '.join(ReportedState)}.", labels=["state"]
        )
        for state in ReportedState:
            models.add_metric([state.value], sum(row.state is state for row in rows))
        yield models
        text = "Models that are to go and cannot be removed: the report says why."
        yield _gauge("not_removed_models", text, sum(bool(row.stays) for row in rows))
        transfers = [row.transfer for row in rows if row.transfer is not None]
        rate = sum(transfer.bytes_per_second for transfer in transfers)
        yield _gauge("download_bytes_per_second", "Rate of all downloads together.", rate)
        left = sum(transfer.bytes_total - transfer.bytes_done for transfer in transfers)
        yield _gauge("download_left_bytes", "Bytes that downloads under way still lack.", left)
        proven = [unix_time(row.proven_at) for row in rows if row.proven_at]
        ages = [max(0.0, self._clock() - moment) for moment in proven if moment is not None]
        text = "Seconds since the model proven longest ago was proven."
        yield _gauge("oldest_proof_seconds", text, max(ages, default=0.0))
        space = disk_space(self._directory)
        if space is not None:
            yield _gauge("disk_free_bytes", "Free bytes of the cache's disk.", space.free_bytes)
            yield _gauge("disk_total_bytes", "Bytes of the cache's disk.", space.total_bytes)
        if self._metrics.read_speed is not None:
            text = "Measured read throughput of the cache's disk."
            yield _gauge("disk_read_bytes_per_second", text, self._metrics.read_speed)
        bad = float(bool(self._catalog_error()))
        yield _gauge("catalog_refused", "1 while the catalog's file is not in force.", bad)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
