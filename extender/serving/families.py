"""How a metric that is computed when it is scraped is written."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily

PREFIX = "model_cache_extender"


def gauge(
    name: str,
    documentation: str,
    labels: tuple[str, ...],
    samples: Iterable[tuple[tuple[str, ...], float]],
) -> GaugeMetricFamily:
    """Return a gauge with its samples, each of them the labels' values and its own."""
    family = GaugeMetricFamily(f"{PREFIX}_{name}", documentation, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
