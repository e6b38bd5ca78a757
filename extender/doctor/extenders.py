"""The extenders that run in the cluster, by what their containers run."""

from __future__ import annotations

from collections.abc import Iterator

from extender.doctor.examined import Examined, Group, containers_of
from extender.doctor.finding import Finding, Severity
from extender.workload.commands import Call

_PROGRAM = "model-cache-extender"


def check_extenders(examined: Examined) -> Iterator[Finding]:
    """Tell extenders of which several may bind at once (docs/operations/high-availability.md).

    Each has a table of reservations of its own: what one has promised the other does not see.
    """
    unfenced = [group for group in examined.groups if any(map(_binds_unfenced, _served(group)))]
    pods = sum(len(group.pods) for group in unfenced)
    if pods < 2:
        return
    for owner in dict.fromkeys(group.owner for group in unfenced):
        yield Finding(
            severity=Severity.ERROR,
            check="NotFenced",
            object=str(owner),
            message=f"{pods} extenders serve without --lease: each may bind, and none sees what "
            "the others have promised, so that the same memory is given twice",
            remedy="--lease model-cache-system/model-cache-scheduler, the Lease of the "
            f"kube-scheduler beside it, in the arguments of serve in {owner.at('spec')}; or one "
            "replica with strategy Recreate",
        )


def _served(group: Group) -> Iterator[Call]:
    """Yield the arguments of each ``serve`` that a pod runs; a sidecar is an init container."""
    for init in (True, False):
        for view in containers_of(group.pod, init=init):
            yield from view.after(_PROGRAM, "serve")
            yield from view.after("-m", "extender", "serve")


def _binds_unfenced(call: Call) -> bool:
    return not call.has("--observe") and call.option("--lease") is None
