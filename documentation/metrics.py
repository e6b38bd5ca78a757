"""The metrics of both programs, as their own collectors describe themselves."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from documentation.tables import code, table
from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.loader.metrics import LoaderMetrics
from extender.loader.table import ModelTable
from extender.serving.knowledge import FileKnowledge
from extender.serving.service import Service
from extender.verbs.context import Context

_SUFFIX = {"counter": "_total", "info": "_info"}


def extender_metrics() -> str:
    """Return the metrics of ``serve``."""
    state = ClusterState(clock=time.time)
    service = Service(Context(state=state), FileKnowledge(), ExtenderConfiguration())
    return _table(service.metrics.registry)


def loader_metrics() -> str:
    """Return the metrics of ``loader run``."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = LoaderMetrics(ModelTable(), Path(folder), catalog_error=lambda: "")
        metrics.read_speed = 1.0  # else it says nothing of the disk's speed
        return _table(metrics.registry)


def _table(registry: CollectorRegistry) -> str:
    rows = {}
    for family in registry.collect():
        collector: Any = registry._names_to_collectors.get(family.name, family)  # noqa: SLF001 - labels stand nowhere else
        source = collector if hasattr(collector, "_labelnames") else family
        name = f"{family.name}{_SUFFIX.get(family.type, '')}"
        labels = ", ".join(code(label) for label in getattr(source, "_labelnames", ()))
        rows[name] = (code(name), family.type, labels, family.documentation)
    return table(("metric", "type", "labels", "meaning"), (rows[name] for name in sorted(rows)))
