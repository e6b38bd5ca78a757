"""Panels of a Grafana dashboard, and where they stand: rows of a title and what is below it.

Only the fields that say something are written; Grafana fills in its defaults. The JSON model:
grafana.com/docs/grafana/latest/visualizations/dashboards/build-dashboards/view-dashboard-json-model
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

Kind = Literal["stat", "timeseries", "bargauge"]

_COLUMNS = 24
_ROW_HEIGHT = 1
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Query(msgspec.Struct, frozen=True):
    """A PromQL expression, and what its lines are called (``{{label}}`` is filled in).

    ``instant``: only its value now is asked for, as for a figure over the whole range shown.
    """

    expression: str
    legend: str = ""
    instant: bool = False


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One panel. ``about`` is the question that it answers; ``unit`` one of Grafana's names.

    ``limits`` are values from which on it is yellow and red. ``least`` is where its axis begins;
    None where values may be negative.
    """

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    limits: tuple[float, float] | None = None
    least: float | None = 0


class Row(msgspec.Struct, frozen=True):
    """A titled row of panels; as many stand side by side as there is room for."""

    title: str
    panels: tuple[Panel, ...]


def laid_out(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the panels as Grafana has them, from the top left on."""
    made: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        made.append(_placed({"type": "row", "title": row.title, "panels": []}, 0, y, _COLUMNS, 1))
        y += _ROW_HEIGHT
        x = height = 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y, height = 0, y + height, 0
            made.append(_placed(_json(panel), x, y, panel.width, panel.height))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return [{"id": number, **panel} for number, panel in enumerate(made, start=1)]


def _placed(panel: dict[str, Any], x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {**panel, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _json(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, **_colours(panel.limits)}
    if panel.least is not None:
        defaults["min"] = panel.least
    if panel.kind == "timeseries":
        mode = "normal" if panel.stacked else "none"
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": mode, "group": "A"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            _target(query, letter) for query, letter in zip(panel.queries, "ABCDEF", strict=False)
        ],
    }


def _target(query: Query, letter: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
        "instant": query.instant,
        "range": not query.instant,
    }


def _colours(limits: tuple[float, float] | None) -> dict[str, Any]:
    if limits is None:
        return {"color": {"mode": "palette-classic"}}
    first, second = limits
    low, high = min(limits), max(limits)
    colours = ("green", "yellow", "red") if first < second else ("red", "yellow", "green")
    values = (None, low, high)
    steps = [{"color": c, "value": v} for c, v in zip(colours, values, strict=True)]
    return {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}


_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: Mapping[Kind, dict[str, Any]] = {
    "stat": {"reduceOptions": _LAST, "colorMode": "value", "graphMode": "area"},
    "bargauge": {"reduceOptions": _LAST, "orientation": "horizontal", "displayMode": "basic"},
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
}
