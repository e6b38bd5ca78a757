"""The rights that ``deploy/`` gives, what each is for, and what lacking one comes to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from extender.doctor.finding import Finding, Severity


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """One verb on one resource. ``namespace`` is empty for all of them, ``name`` for any object."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        group = f".{self.group}" if self.group else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {resource}{group}{where}"


class Allowed(msgspec.Struct, frozen=True):
    """The apiserver's answer; ``problem`` says why there is none."""

    yes: bool
    problem: str = ""


_READ = (
    ("", "nodes", "what nodes have and hold"),
    ("", "pods", "what pods ask for and take"),
    ("", "namespaces", "whose loaders are trusted"),
    ("", "persistentvolumeclaims", "whether a model's claim is bound"),
    ("", "persistentvolumes", "where a claim's volume can be reached"),
    ("apps", "daemonsets", "the loaders"),
    ("batch", "jobs", "the Jobs that fill shared volumes"),
    ("storage.k8s.io", "storageclasses", "where a claim's volume can be reached"),
    ("coordination.k8s.io", "leases", "the loaders' proof of life and progress"),
)
READ_RIGHTS: dict[Right, str] = {
    Right(verb=verb, group=group, resource=resource): purpose
    for group, resource, purpose in _READ
    for verb in ("get", "list", "watch")
}
"""What decisions rest on: ``deploy/common/read-rights.yaml``."""

WRITE_RIGHTS: dict[Right, str] = {
    Right(verb="create", resource="pods", subresource="binding"): "pods are bound with it",
    Right(verb="patch", resource="pods", subresource="status"): "refused pods are woken with it",
    Right(verb="create", group="events.k8s.io", resource="events"): "pods are told what to do",
}
"""What the extender writes: ``deploy/write/rights.yaml``."""


def lease_rights(namespace: str, name: str) -> dict[Right, str]:
    """Return what the scheduler beside the extender does with its lease, and the fence reads."""
    lease = {"group": "coordination.k8s.io", "resource": "leases", "namespace": namespace}
    return {
        Right(verb="get", name=name, **lease): "bindings are fenced on it (serve --lease)",
        Right(verb="update", name=name, **lease): "the kube-scheduler beside it leads by it",
        Right(verb="create", **lease): "the kube-scheduler beside it makes it",
    }


def check_permissions(
    answers: Mapping[Right, Allowed], purposes: Mapping[Right, str], account: str
) -> Iterator[Finding]:
    """Yield the rights that an account lacks, one finding for each resource."""
    lacking: dict[tuple[str, str, str, str], list[Right]] = {}
    for right, answer in answers.items():
        if answer.problem:
            yield Finding(
                severity=Severity.WARNING,
                check="RightUnknown",
                object=account,
                message=f"whether it may {right} cannot be told: {answer.problem}",
                remedy="ask as somebody who may create selfsubjectaccessreviews (or "
                "subjectaccessreviews, for --service-account)",
            )
            return
        if not answer.yes:
            key = right.group, right.resource, right.subresource, right.namespace
            lacking.setdefault(key, []).append(right)
    for rights in lacking.values():
        yield _lacks(rights, purposes, account)


def _lacks(rights: list[Right], purposes: Mapping[Right, str], account: str) -> Finding:
    first = rights[0]
    lease = first.resource == "leases"
    return Finding(
        severity=Severity.WARNING if lease else Severity.ERROR,
        check="RightMissing",
        object=account,
        message=f"may not {_joined(rights)}: {purposes[first]}"
        + ("; not needed where no kube-scheduler runs in the same pod" if lease else ""),
        remedy=f"kubectl apply -k {_folder(first)}, or add to its role: {_rule(rights)}",
    )


def _joined(rights: list[Right]) -> str:
    verbs = ", ".join(right.verb for right in rights)
    return str(msgspec.structs.replace(rights[0], verb=verbs))


def _folder(right: Right) -> str:
    if right.resource == "leases":
        return "deploy/overlays/second-scheduler"
    return "deploy/write" if right in WRITE_RIGHTS else "deploy/common"


def _rule(rights: Iterable[Right]) -> str:
    listed = list(rights)
    first = listed[0]
    resource = f"{first.resource}/{first.subresource}" if first.subresource else first.resource
    verbs = ", ".join(right.verb for right in listed)
    return f'{{apiGroups: ["{first.group}"], resources: [{resource}], verbs: [{verbs}]}}'
