"""The apiserver itself: its clock against ours, and its version."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from extender.cluster.namespaces import OPT_IN
from extender.doctor.finding import Finding, Severity

OLDEST_MINOR, NEWEST_MINOR = 34, 37
"""The minors of Kubernetes 1 that the tests run on (``make test-versions``)."""

MUTATING_POLICIES_SINCE = 36
"""The minor from which MutatingAdmissionPolicy is on by default (GA)."""

SKEW_WARNING, SKEW_ERROR = 5.0, 60.0
"""Seconds. A Date header has whole seconds; a loader's proof of life lasts 90 s, the grace for a
loader that stopped 600 s."""


class Apiserver(msgspec.Struct, frozen=True, kw_only=True):
    """What the apiserver says of itself.

    ``skew`` is our clock minus its own in seconds, None where it sent no date. ``minor`` is None
    where its version cannot be read. ``mutating_policies``: it serves MutatingAdmissionPolicy v1.
    """

    version: str = ""
    minor: int | None = None
    skew: float | None = None
    mutating_policies: bool = False


def check_clock(server: Apiserver) -> Iterator[Finding]:
    """Compare the clocks."""
    skew = server.skew
    if skew is None or abs(skew) <= SKEW_WARNING:
        return
    way = "ahead of" if skew > 0 else "behind"
    yield Finding(
        severity=Severity.ERROR if abs(skew) > SKEW_ERROR else Severity.WARNING,
        check="ClockSkew",
        object="this machine's clock",
        message=f"is {abs(skew):.0f} s {way} the apiserver's: models count as stale too early or "
        "too late, and leases run out",
        remedy="run a time service (chrony, systemd-timesyncd) on both machines",
    )


def check_version(server: Apiserver, opted_in: tuple[str, ...]) -> Iterator[Finding]:
    """Compare the version with what is supported; ``opted_in`` are namespaces with our label."""
    minor = server.minor
    if minor is None:
        yield Finding(
            severity=Severity.NOTE,
            check="VersionUnknown",
            object="apiserver",
            message=f"its version cannot be read ({server.version[:40] or 'no answer'})",
            remedy=f"compare what kubectl version prints with 1.{OLDEST_MINOR} to "
            f"1.{NEWEST_MINOR}, which the extender is tested with",
        )
        return
    if not OLDEST_MINOR <= minor <= NEWEST_MINOR:
        yield Finding(
            severity=Severity.WARNING,
            check="VersionNotTested",
            object="apiserver",
            message=f"{server.version}: the extender is tested with 1.{OLDEST_MINOR} to "
            f"1.{NEWEST_MINOR}",
            remedy=f"use Kubernetes 1.{OLDEST_MINOR} to 1.{NEWEST_MINOR}, or a newer release of "
            "this program",
        )
    if server.mutating_policies:
        return
    yield Finding(
        severity=Severity.ERROR if opted_in else Severity.NOTE,
        check="NoMutatingPolicies",
        object="apiserver",
        message=f"{server.version} does not serve MutatingAdmissionPolicy (on by default from "
        f"1.{MUTATING_POLICIES_SINCE}): "
        + (
            f"the label {OPT_IN} of {', '.join(opted_in)} has no effect"
            if opted_in
            else "deploy/opt-in and deploy/pod-level-request cannot be used"
        ),
        remedy="deploy/opt-in/kyverno.yaml, or schedulerName: model-cache-scheduler in the pods",
    )
