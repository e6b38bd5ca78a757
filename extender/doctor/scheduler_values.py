"""Values that kube-scheduler reads and then refuses to start with.

Sources, of kubernetes v1.37: pkg/scheduler/apis/config/validation/validation.go,
staging/src/k8s.io/component-base/config/validation/validation.go (Leases and connections),
staging/src/k8s.io/client-go
tools/leaderelection/leaderelection.go (``NewLeaderElector``) and transport/transport.go. Names of
profiles, back-offs, weights and who binds are told by the traps, beside what else they come to.
"""

from __future__ import annotations

from collections.abc import Iterator

from extender.doctor.decoded import Path, Refusal, from_base64, seconds
from extender.doctor.scheduler_plugins import refused_plugins
from extender.doctor.scheduler_types import (
    ExtenderEntry,
    LeaderElection,
    SchedulerConfiguration,
    Tls,
)
from extender.kube.names import is_extended_resource

_JITTER = 1.2
"""``JitterFactor``: a leader tries to renew its Lease after so many retry periods at the latest."""

_PEM = b"-----BEGIN "


def refused_values(configuration: SchedulerConfiguration) -> Iterator[Refusal]:
    """Yield every value that is of the right type, and is refused."""
    if configuration.parallelism <= 0:
        yield Refusal(
            ("parallelism",), f"is {configuration.parallelism}, less than 1", "parallelism: 16"
        )
    if configuration.client_connection.burst < 0:
        yield Refusal(("clientConnection", "burst"), "is negative", "burst: 100")
    yield from _percentage((), configuration.percentage_of_nodes_to_score)
    for index, profile in enumerate(configuration.profiles):
        yield from _percentage(("profiles", index), profile.percentage_of_nodes_to_score)
    yield from _leases(configuration.leader_election)
    yield from refused_plugins(configuration.profiles)
    yield from _resources(configuration.extenders)
    for index, extender in enumerate(configuration.extenders):
        if extender.tls_config is not None:
            yield from _tls(("extenders", index, "tlsConfig"), extender.tls_config)


def in_range(percentage: int | None) -> bool:
    """Tell whether ``percentageOfNodesToScore`` is one."""
    return percentage is None or 0 <= percentage <= 100


def _percentage(path: Path, given: int | None) -> Iterator[Refusal]:
    if not in_range(given):
        yield Refusal(
            (*path, "percentageOfNodesToScore"),
            f"is {given}, which is no percentage",
            "percentageOfNodesToScore: 100",
        )


def _leases(given: LeaderElection) -> Iterator[Refusal]:
    if not given.leader_elect:
        return
    usual = LeaderElection()
    lasts = _length(given.lease_duration) or _length(usual.lease_duration)
    renews = _length(given.renew_deadline) or _length(usual.renew_deadline)
    retries = _length(given.retry_period) or _length(usual.retry_period)
    at = "leaderElection"
    together = "leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 2s"
    for key, length, mended in (
        ("leaseDuration", lasts, usual.lease_duration),
        ("renewDeadline", renews, usual.renew_deadline),
        ("retryPeriod", retries, usual.retry_period),
    ):
        if length < 0:
            yield Refusal((at, key), "is negative", f"{key}: {mended}")
    if lasts <= renews:
        yield Refusal(
            (at, "leaseDuration"),
            f"is {lasts:g} s, not longer than renewDeadline ({renews:g} s)",
            together,
        )
    if 0 < renews <= _JITTER * retries:
        yield Refusal(
            (at, "renewDeadline"),
            f"is {renews:g} s, not longer than {_JITTER} times retryPeriod ({retries:g} s)",
            together,
        )
    if given.resource_lock not in {"", "leases"}:
        yield Refusal((at, "resourceLock"), f"is {given.resource_lock!r}", "resourceLock: leases")


def _length(duration: str) -> float:
    return seconds(duration) or 0.0


def _resources(extenders: tuple[ExtenderEntry, ...]) -> Iterator[Refusal]:
    seen: set[str] = set()
    for number, extender in enumerate(extenders):
        for index, resource in enumerate(extender.managed_resources):
            path: Path = ("extenders", number, "managedResources", index, "name")
            name = resource.name
            if not is_extended_resource(name):
                yield Refusal(
                    path,
                    f"is {name!r}, which is no extended resource: such have a domain that is not "
                    "kubernetes.io's",
                    "name: nvidia.com/gpu, or take the entry out",
                )
            elif name in seen:
                yield Refusal(path, f"is {name}, which stands here twice", "take one of them out")
            seen.add(name)


def _tls(path: Path, given: Tls) -> Iterator[Refusal]:
    if given.insecure and (given.ca_file or given.ca_data):
        yield Refusal(
            (*path, "insecure"), "is true beside a CA: one excludes the other", "insecure: false"
        )
    pairs = (("caData", given.ca_data, True), ("certData", given.cert_data, bool(given.key_data)),
             ("keyData", given.key_data, bool(given.cert_data)))  # fmt: skip
    for key, data, used in pairs:
        if data and used and _PEM not in (from_base64(data) or b""):
            yield Refusal(
                (*path, key),
                "is no PEM once it is decoded",
                f"{key}: what base64 -w0 prints of the PEM file",
            )
