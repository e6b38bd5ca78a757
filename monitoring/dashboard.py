"""What the dashboard asks, row by row.

Of what every replica sees alike (models, memory, waiting pods, starts) the largest is taken; what
one replica counts for itself (decisions, binds, requests) is summed. Loaders are one a node.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monitoring.panels import Panel, Query, Row, laid_out

FILE = Path(__file__).resolve().parents[1] / "deploy" / "monitoring" / "dashboard.json"

_P = "model_cache_extender"
_L = f"{_P}_loader"
_RATE = "$__rate_interval"
_RANGE = "$__range"
_GB = "1e9"
"""Clouds bill traffic by the decimal gigabyte, or close to it."""


def _rate(name: str, *by: str, of: str = "") -> str:
    return f"sum{_grouped(by)} (rate({_P}_{name}{of}[{_RATE}]))"


def _grouped(by: tuple[str, ...]) -> str:
    return f" by ({', '.join(by)})" if by else ""


def _total(name: str, *by: str, of: str = "") -> str:
    return f"sum{_grouped(by)} (increase({_P}_{name}{of}[{_RANGE}]))"


def _alike(name: str, *by: str) -> str:
    """Ask for what every replica sees; ``by`` are the labels that stay."""
    return f"max by ({', '.join(by)}) ({_P}_{name})" if by else f"max({_P}_{name})"


def _quantile(quantile: float, name: str, *by: str, alike: bool = False) -> str:
    labels = ", ".join(("le", *by))
    gather = "max" if alike else "sum"
    rate = f"rate({_P}_{name}_bucket[{_RATE}])"
    return f"histogram_quantile({quantile}, {gather} by ({labels}) ({rate}))"


_BOUND = _total("bound_pods_total", of='{start!="unknown"}')
_WARM = _total("bound_pods_total", of='{start="warm"}') + f" / {_BOUND}"
_BEYOND_ONE = f"max({_P}_held_bytes - {_P}_distinct_bytes)"
_AGAIN = _total("loader_repeated_bytes_total")
_GATED = f'{_P}_waiting_pods_by_reason{{reason="SchedulingGated"}}'
_WAITING_NOW = f"max({_P}_waiting_pods - ignoring (reason) {_GATED})"

_GLANCE = Row(
    "At a glance",
    (
        Panel(
            title="Started warm",
            about="Which share of pods started where their model was already?",
            queries=(Query(_WARM, instant=True),),
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
            limits=(0.9, 0.5),
        ),
        Panel(
            title="Seconds saved",
            about="Estimated, against the slowest node that each pod could have gone to.",
            queries=(Query(_total("saved_seconds_total"), instant=True),),
            unit="s",
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            title="Waiting pods",
            about="How many pods of our schedulers have no node, refused here or not? Without "
            "those that a scheduling gate holds back.",
            queries=(Query(_WAITING_NOW),),
            kind="stat",
            width=4,
            height=4,
            limits=(1, 20),
        ),
        Panel(
            title="Memory promised",
            about="Which share of the nodes' allocatable memory may their pods take?",
            queries=(Query(f"max({_P}_memory_promised_bytes / {_P}_memory_allocatable_bytes)"),),
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
            limits=(0.85, 0.95),
        ),
        Panel(
            title="Knowledge is old",
            about="1 while decisions are made with knowledge older than the bound.",
            queries=(Query(_alike("stale")),),
            kind="stat",
            width=4,
            height=4,
            limits=(0.5, 1),
        ),
        Panel(
            title="Slowest answer, p99",
            about="kube-scheduler gives up after its httpTimeout, 5 s as shipped.",
            queries=(Query(f"max({_quantile(0.99, 'request_duration_seconds', 'verb')})"),),
            unit="s",
            kind="stat",
            width=4,
            height=4,
            limits=(0.5, 2),
        ),
    ),
)

_PLACING = Row(
    "Placing pods",
    (
        Panel(
            title="Decisions by strategy",
            about="What is decided for which way of getting weights?",
            queries=(Query(_rate("decisions_total", "strategy"), "{{strategy}}"),),
            unit="ops",
            width=6,
            stacked=True,
        ),
        Panel(
            title="Filter by outcome",
            about="Do all, some or none of the nodes pass?",
            queries=(
                Query(
                    _rate("decisions_total", "strategy", "outcome", of='{verb="filter"}'),
                    "{{strategy}}: {{outcome}}",
                ),
            ),
            unit="ops",
            width=6,
        ),
        Panel(
            title="Binds by outcome",
            about="How did placements end?",
            queries=(Query(_rate("binds_total", "outcome"), "{{outcome}}"),),
            unit="ops",
            width=6,
            stacked=True,
        ),
        Panel(
            title="Pods by start",
            about="Did pods start where their model was (warm), or elsewhere (cold)?",
            queries=(
                Query(_rate("bound_pods_total", "strategy", "start"), "{{strategy}}: {{start}}"),
            ),
            unit="ops",
            width=6,
            stacked=True,
        ),
        Panel(
            title="Bound to Ready",
            about="How long do pods take to start, by where the weights are read from?",
            queries=(
                Query(
                    _quantile(0.5, "start_duration_seconds", "strategy", "tier", alike=True),
                    "{{strategy}}, {{tier}}: p50",
                ),
                Query(
                    _quantile(0.99, "start_duration_seconds", "strategy", "tier", alike=True),
                    "{{strategy}}, {{tier}}: p99",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Longer than estimated",
            about="How far were starts from their estimates? Below 0 they were sooner.",
            queries=(
                Query(
                    _quantile(0.5, "start_difference_seconds", "strategy", "tier", alike=True),
                    "{{strategy}}, {{tier}}: p50",
                ),
                Query(
                    _quantile(0.9, "start_difference_seconds", "strategy", "tier", alike=True),
                    "{{strategy}}, {{tier}}: p90",
                ),
            ),
            unit="s",
            least=None,
        ),
        Panel(
            title="Correction of estimates",
            about="By which factor do starts that happened correct later estimates? 0.5 to 2.",
            queries=(
                Query(
                    _alike("start_correction", "strategy", "evidence", "tier"),
                    "{{strategy}}, {{evidence}}, {{tier}}",
                ),
            ),
        ),
    ),
)

_WAITING = Row(
    "Waiting, and waking",
    (
        Panel(
            title="Waiting pods by reason",
            about="Why have they no node? A pod counts under each of its reasons. Unschedulable: "
            "kube-scheduler refuses it by itself; SchedulerSilent: nobody looks at it.",
            queries=(Query(_alike("waiting_pods_by_reason", "reason"), "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            title="Longest wait by reason",
            about="Since when does the pod wait that has waited longest?",
            queries=(Query(_alike("waiting_longest_seconds", "reason"), "{{reason}}"),),
            unit="s",
        ),
        Panel(
            title="Nodes refused by reason",
            about="Why did nodes not pass?",
            queries=(Query(_rate("nodes_refused_total", "reason"), "{{reason}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            title="Wakes and retries",
            about="Are refused pods tried again because we woke them, or by chance?",
            queries=(
                Query(_rate("wakes_total", "result"), "woken: {{result}}"),
                Query(_rate("retries_total", "by"), "tried again by {{by}}"),
                Query(_rate("takebacks_total", "result"), "nomination taken back: {{result}}"),
                Query(_rate("waiting_forgotten_total"), "forgotten for want of room"),
                Query(_rate("left_out_total"), "left out by a fault"),
                Query(_rate("log_lines_lost_total"), "lines of the log lost"),
            ),
            unit="ops",
        ),
        Panel(
            title="Events told",
            about="What were people told on their pods?",
            queries=(Query(_rate("events_total", "reason", "result"), "{{reason}}: {{result}}"),),
            unit="ops",
        ),
        Panel(
            title="Asked of loaders",
            about="How often were loaders asked to fetch what pods wait for?",
            queries=(Query(_rate("wishes_total", "result"), "{{result}}"),),
            unit="ops",
        ),
    ),
)

_KNOWN = Row(
    "What is known, and how fresh",
    (
        Panel(
            title="Models by state",
            about="What do nodes hold, as far as anybody vouches for it?",
            queries=(
                Query(f"sum by (state) ({_alike('models', 'state', 'evidence')})", "{{state}}"),
            ),
            stacked=True,
        ),
        Panel(
            title="Memory",
            about="What pods may take (memory-backed volumes counted), of what there is.",
            queries=(
                Query(_alike("memory_promised_bytes"), "promised"),
                Query(_alike("memory_allocatable_bytes"), "allocatable"),
            ),
            unit="bytes",
        ),
        Panel(
            title="Age of knowledge",
            about="Seconds since anything was heard of a resource, of the replica that lags most.",
            queries=(Query(_alike("watch_age_seconds", "resource"), "{{resource}}"),),
            unit="s",
        ),
        Panel(
            title="Watch trouble",
            about="Lists begun anew, connections made anew, failures.",
            queries=(
                Query(_rate("watch_relists_total", "resource"), "{{resource}}: lists"),
                Query(_rate("watch_reconnects_total", "resource"), "{{resource}}: reconnects"),
                Query(_rate("watch_failures_total", "resource"), "{{resource}}: failures"),
            ),
            unit="ops",
        ),
        Panel(
            title="Drift",
            about="What audits found wrongly known, and mended. It should be nothing.",
            queries=(
                Query(
                    _total("watch_drifted_total", "resource", "drift"), "{{resource}}: {{drift}}"
                ),
            ),
        ),
        Panel(
            title="Unreadable objects",
            about="Objects of the cluster that could not be read; /readyz names them.",
            queries=(Query(_alike("unreadable_objects")),),
        ),
    ),
)

_ANSWERING = Row(
    "Answering",
    (
        Panel(
            title="Latency by verb",
            about="From the first byte read to the answer, waiting for a thread included.",
            queries=(
                Query(_quantile(0.5, "request_duration_seconds", "verb"), "{{verb}}: p50"),
                Query(_quantile(0.99, "request_duration_seconds", "verb"), "{{verb}}: p99"),
            ),
            unit="s",
            width=12,
        ),
        Panel(
            title="Requests",
            about="By verb and HTTP status; a refusal is a 200.",
            queries=(Query(_rate("requests_total", "verb", "code"), "{{verb}}: {{code}}"),),
            unit="reqps",
            width=12,
        ),
    ),
)

_LOADERS = Row(
    "Node caches",
    (
        Panel(
            title="Download rate",
            about="Of all loaders together, now.",
            queries=(Query(f"sum({_L}_download_bytes_per_second)"),),
            unit="Bps",
        ),
        Panel(
            title="Left to download",
            about="What downloads under way still lack.",
            queries=(Query(f"sum({_L}_download_left_bytes)"),),
            unit="decbytes",
        ),
        Panel(
            title="Loaders' models",
            about="By state, of all nodes.",
            queries=(Query(f"sum by (state) ({_L}_models)", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            title="Failures by cause",
            about="Why were models not obtained?",
            queries=(Query(_rate("loader_failures_total", "cause"), "{{cause}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            title="Oldest proof",
            about="How long ago was the model proven that was proven longest ago?",
            queries=(Query(f"max({_L}_oldest_proof_seconds)"),),
            unit="s",
        ),
        Panel(
            title="Damage found",
            about="Models that were whole once and are not any more.",
            queries=(Query(_total("loader_proofs_total", of='{result="damaged"}'), "damaged"),),
        ),
        Panel(
            title="Free disk, the fullest nodes",
            about="Share of the cache's disk that is free, on the ten fullest.",
            queries=(
                Query(
                    f"bottomk(10, {_L}_disk_free_bytes / {_L}_disk_total_bytes)",
                    "{{pod}} {{instance}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Models let go",
            about="To make room, or because they left the catalog.",
            queries=(Query(_rate("loader_evicted_models_total", "reason"), "{{reason}}"),),
            unit="ops",
        ),
        Panel(
            title="Models that stay",
            about="They are to go and cannot be removed: the loader's report and log say why.",
            queries=(Query(f"sum({_L}_not_removed_models)"),),
            limits=(0.5, 1),
        ),
        Panel(
            title="Catalogs refused",
            about="Loaders whose catalog file is not in force: their logs name the field.",
            queries=(Query(f"sum({_L}_catalog_refused)"),),
            limits=(0.5, 1),
        ),
    ),
)

_COST = Row(
    "What is fetched more than once, and what it costs",
    (
        Panel(
            title="Fetched",
            about="Bytes of models that loaders fetched in the time shown.",
            queries=(Query(_total("loader_downloaded_bytes_total"), instant=True),),
            unit="decbytes",
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            title="Fetched again by the same node",
            about="Lost when a connection was cut, found damaged, or let go and wished for again.",
            queries=(Query(_total("loader_repeated_bytes_total", "why"), "{{why}}", instant=True),),
            unit="decbytes",
            kind="bargauge",
            width=6,
            height=5,
        ),
        Panel(
            title="Copies beyond the first",
            about="Bytes that nodes hold of models which another node holds too: what a cache on "
            "each node costs, each copy fetched once.",
            queries=(Query(_BEYOND_ONE),),
            unit="decbytes",
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            title="Cost",
            about="Of what the same nodes fetched again in the time shown, and of all copies "
            "beyond the first, at the price per GB above.",
            queries=(
                Query(f"{_AGAIN} / {_GB} * $price_per_gb", "fetched again", instant=True),
                Query(f"{_BEYOND_ONE} / {_GB} * $price_per_gb", "copies", instant=True),
            ),
            unit="currencyUSD",
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            title="Fetched, and fetched again",
            about="Over time.",
            queries=(
                Query(f"sum(rate({_L}_downloaded_bytes_total[{_RATE}]))", "all"),
                Query(_rate("loader_repeated_bytes_total", "why"), "again: {{why}}"),
            ),
            unit="Bps",
            width=24,
        ),
    ),
)

ROWS = (_GLANCE, _PLACING, _WAITING, _KNOWN, _ANSWERING, _LOADERS, _COST)


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "model-cache-extender",
        "title": "Model cache",
        "tags": ["kubernetes", "model-cache"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_data_source(), _price()]},
        "panels": laid_out(ROWS),
    }


def text() -> str:
    """Return it as the file has it."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _price() -> dict[str, Any]:
    """0.09 is what clouds ask for the first terabytes of traffic to the internet; set your own."""
    value = "0.09"
    return {
        "name": "price_per_gb",
        "type": "textbox",
        "label": "Price of a GB fetched",
        "query": value,
        "current": {"text": value, "value": value},
        "options": [{"selected": True, "text": value, "value": value}],
    }
