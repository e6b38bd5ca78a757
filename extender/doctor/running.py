"""A running extender, by what it says of itself: ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from extender.doctor.finding import Finding, Severity

_PREFIX = "model_cache_extender_"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What an extender answered. ``problem`` says why there is no answer, empty where there is."""

    url: str
    problem: str = ""
    ready: bool = True
    said: str = ""
    metrics: str = ""


Samples = dict[str, list[tuple[dict[str, str], float]]]
"""A metric's name, without our prefix, to its samples: labels and value."""


def check_running(status: Status) -> Iterator[Finding]:
    """Yield what a running extender suffers from."""
    if status.problem:
        yield Finding(
            severity=Severity.ERROR,
            check="ExtenderUnreachable",
            object=status.url,
            message=status.problem,
            remedy="kubectl -n model-cache-system port-forward deployment/model-cache-scheduler "
            "8889, then --extender http://127.0.0.1:8889 (with statusTls 8888 in place of 8889)",
        )
        return
    if not status.ready:
        yield Finding(
            severity=Severity.ERROR,
            check="ExtenderNotReady",
            object=f"{status.url}/readyz",
            message="; ".join(status.said.strip().splitlines()) or "not ready",
            remedy="see what it names: the apiserver, and the rights of its service account",
        )
    yield from _measured(status.url, status.metrics)


def _measured(url: str, text: str) -> Iterator[Finding]:
    samples = _samples(text)
    if "build_info" not in samples:
        yield Finding(
            severity=Severity.ERROR,
            check="NotAnExtender",
            object=f"{url}/metrics",
            message="has no metrics of this program",
            remedy="give the address of the extender's status listener (statusListen, 8889)",
        )
        return
    drifted = ", ".join(
        f"{labels.get('resource')} {value:g} {labels.get('drift')}"
        for labels, value in samples.get("watch_drifted_total", [])
        if value
    )
    rules = (
        (
            _sum(samples, "stale"),
            Severity.ERROR,
            "KnowledgeStale",
            "decides with knowledge that is older than freshness.boundSeconds",
            "look at /readyz: a watch is broken or silent",
        ),
        (
            _sum(samples, "watch_drifted_total"),
            Severity.WARNING,
            "KnowledgeDrifted",
            f"{{}} objects were not as the watch had told when they were compared with a fresh "
            f"list ({drifted}); they were mended",
            "if it grows: the apiserver, or a proxy before it, loses watch events",
        ),
        (
            _sum(samples, "unreadable_objects"),
            Severity.WARNING,
            "ObjectsUnreadable",
            "{} objects cannot be read and count for nothing",
            "its log names each; mend their fields",
        ),
        (
            _sum(samples, "binds_total", outcome="unknown"),
            Severity.WARNING,
            "BindingsLost",
            "of {} bindings it is not known what became of them",
            "the apiserver answers too late: see its latency, and the extender's log",
        ),
        (
            _sum(samples, "wakes_total", result="failed"),
            Severity.WARNING,
            "WakesFailed",
            "{} waiting pods could not be woken",
            "give it the right to patch pods/status (deploy/write)",
        ),
        (
            _sum(samples, "takebacks_total", result="failed"),
            Severity.WARNING,
            "NominationsStay",
            "{} times a nomination that leads nowhere could not be taken back",
            "apply deploy/write or deploy/write-alone of this version; its log names the cause",
        ),
        (
            _sum(samples, "events_total", result="failed"),
            Severity.WARNING,
            "EventsFailed",
            "{} events could not be told",
            "give it the right to create events in events.k8s.io (deploy/write)",
        ),
    )
    for number, severity, check, message, remedy in rules:
        if number:
            yield Finding(
                severity=severity,
                check=check,
                object=f"{url}/metrics",
                message=message.format(f"{number:g}"),
                remedy=remedy,
            )


def _sum(samples: Samples, name: str, **wanted: str) -> float:
    return sum(value for labels, value in samples.get(name, ()) if wanted.items() <= labels.items())


def _samples(text: str) -> Samples:
    """Return all samples of this program; none where the text is no exposition of metrics."""
    found: Samples = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith(_PREFIX):
                    row = dict(sample.labels), float(sample.value)
                    found.setdefault(sample.name.removeprefix(_PREFIX), []).append(row)
    except ValueError:
        return {}
    return found
