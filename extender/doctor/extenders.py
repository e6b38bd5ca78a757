"""The extenders and the kube-schedulers that run in the cluster, by what their containers run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from extender.doctor.examined import Examined, Group
from extender.doctor.finding import Finding, Severity
from extender.doctor.surroundings import Apiserver
from extender.workload.commands import Call

_PROGRAM = "model-cache-extender"
_SCHEDULER = "kube-scheduler"
_KUBE_SCHEDULER = re.compile(r"(?:.*/)?kube-scheduler(?:-\w+)?:v1\.(\d+)\.[\w.-]+(?:@.*)?")


def check_extenders(examined: Examined) -> Iterator[Finding]:
    """Tell extenders of which several may bind at once (docs/operations/high-availability.md).

    Each has a table of reservations of its own: what one has promised the other does not see.
    """
    unfenced = [
        (group, field)
        for group in examined.groups
        for field in dict.fromkeys(f for f, call in _served(group) if _binds_unfenced(call))
    ]
    pods = sum(len(group.pods) for group, _ in unfenced)
    if pods < 2:
        return
    for owner, (group, field) in {group.owner: (group, field) for group, field in unfenced}.items():
        yield Finding(
            severity=Severity.ERROR,
            check="NotFenced",
            object=str(owner),
            message=f"{pods} extenders serve without --lease: each may bind, and none sees what "
            "the others have promised, so that the same memory is given twice",
            remedy=_remedy(group, owner.at(f"spec.{field}.args")),
        )


def _remedy(group: Group, where: str) -> str:
    """Say which Lease it is, by what runs beside an extender; without a scheduler there is none."""
    one = "one replica with strategy Recreate"
    beside = any(
        view.image_name == _SCHEDULER or any(view.after(_SCHEDULER)) for view in group.view.main
    )
    if group.kind == "DaemonSet":
        lease, whose = "kube-system/kube-scheduler", "kube-scheduler on the same host"
    elif beside:
        lease, whose = "model-cache-system/model-cache-scheduler", "kube-scheduler beside it"
    else:
        return f"{one}: no kube-scheduler runs beside it, whose Lease it could go by"
    return f"--lease {lease}, the Lease of the {whose}, in {where}; or {one}"


def check_scheduler_versions(examined: Examined, server: Apiserver) -> Iterator[Finding]:
    """Tell kube-schedulers that the apiserver's version does not take.

    One is never newer than the apiserver, and one minor older at the most
    (https://kubernetes.io/releases/version-skew-policy/).
    """
    found = {
        (group.owner, container.image): int(tag[1])
        for group in examined.groups
        for container in group.pod.spec.containers
        if (tag := _KUBE_SCHEDULER.fullmatch(container.image))
    }
    for (owner, image), minor in found.items():
        if server.minor is None or server.minor - 1 <= minor <= server.minor:
            continue
        newer = "newer than" if minor > server.minor else "more than one minor older than"
        yield Finding(
            severity=Severity.WARNING,
            check="SchedulerVersion",
            object=str(owner),
            message=f"runs {image}, which is {newer} the apiserver ({server.version}): it may ask "
            "for what that does not serve",
            remedy=f"a kube-scheduler of 1.{server.minor} in {owner.at('spec.containers')}: "
            "images: in the kustomization, or scheduler.image.tag of the chart",
        )


def _served(group: Group) -> Iterator[tuple[str, Call]]:
    """Yield each ``serve`` that a pod runs, with the field of its container."""
    for view in (*group.view.before, *group.view.main):
        yield from ((view.field, call) for call in view.after(_PROGRAM, "serve"))
        yield from ((view.field, call) for call in view.after("-m", "extender", "serve"))
        own = view.arguments() if view.image_name == _PROGRAM else None
        if own is not None and own.words and own.words[0].text == "serve":
            yield view.field, own


def _binds_unfenced(call: Call) -> bool:
    return not call.has("--observe") and call.option("--lease") is None
