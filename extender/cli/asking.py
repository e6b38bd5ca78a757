"""What ``doctor`` asks a live cluster, beyond listing it: rights, clock, version, our own extender.

Reviews are asked of the authorizer and change nothing
(https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access).
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from extender.doctor.permissions import Allowed, Right
from extender.doctor.running import Status
from extender.doctor.surroundings import Apiserver
from extender.errors import UsageError
from extender.watch.answers import Answer, UnreachableError
from extender.watch.client import Transport

EXTENDER_SECONDS = 5.0
_MOST_BYTES = 16 * 1024 * 1024
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


class ServiceAccount(msgspec.Struct, frozen=True):
    """An account whose rights are asked for in its place."""

    namespace: str
    name: str

    @property
    def user(self) -> str:
        """Return its user name."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the groups that the apiserver puts it into."""
        return (
            "system:serviceaccounts",
            f"system:serviceaccounts:{self.namespace}",
            "system:authenticated",
        )


def service_account(text: str) -> ServiceAccount:
    """Read ``NAMESPACE/NAME``. Raises UsageError."""
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise UsageError(f"--service-account {text!r} is not NAMESPACE/NAME")
    return ServiceAccount(namespace, name)


def rights(
    transport: Transport, wanted: Iterable[Right], account: ServiceAccount | None
) -> dict[Right, Allowed]:
    """Ask for each right whether the caller has it, or the account in its place.

    The first question that cannot be answered is the last: the others would not be either.
    """
    answers: dict[Right, Allowed] = {}
    for right in wanted:
        answers[right] = _allowed(transport, right, account)
        if answers[right].problem:
            break
    return answers


def _allowed(transport: Transport, right: Right, account: ServiceAccount | None) -> Allowed:
    attributes = {
        key: value
        for key, value in (
            ("verb", right.verb),
            ("group", right.group),
            ("resource", right.resource),
            ("subresource", right.subresource),
            ("namespace", right.namespace),
            ("name", right.name),
        )
        if value
    }
    spec: dict[str, Any] = {"resourceAttributes": attributes}
    kind = "SelfSubjectAccessReview"
    if account is not None:
        kind = "SubjectAccessReview"
        spec |= {"user": account.user, "groups": account.groups}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    try:
        answer = transport.request(
            "POST",
            f"/apis/authorization.k8s.io/v1/{kind.lower()}s",
            body=msgspec.json.encode(review),
        )
    except UnreachableError as error:
        return Allowed(yes=False, problem=str(error))
    if not answer.ok:
        return Allowed(yes=False, problem=answer.problem().message or f"HTTP {answer.status}")
    return Allowed(yes=bool(_json(answer).get("status", {}).get("allowed")))


def apiserver(transport: Transport) -> Apiserver:
    """Ask the apiserver for its version, its time and one of its resources."""
    before = time.time()
    version = _get(transport, "/version")
    middle = (before + time.time()) / 2
    said = _json(version)
    digits = re.match(r"\d+", str(said.get("minor", "")))
    served = _json(_get(transport, _ADMISSION)).get("resources") or []
    return Apiserver(
        version=str(said.get("gitVersion", "")),
        minor=int(digits[0]) if digits else None,
        skew=_skew(version, middle),
        mutating_policies=any(
            isinstance(one, dict) and one.get("name") == "mutatingadmissionpolicies"
            for one in served
        ),
    )


def _get(transport: Transport, path: str) -> Answer | None:
    try:
        return transport.request("GET", path)
    except UnreachableError:
        return None


def _json(answer: Answer | None) -> dict[str, Any]:
    if answer is None or not answer.ok:
        return {}
    try:
        document = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _skew(answer: Answer | None, now: float) -> float | None:
    """Return our clock minus the Date header, in whose whole second the truth lies."""
    headers = answer.headers if answer is not None else {}
    date = next((value for name, value in headers.items() if name.lower() == "date"), "")
    try:
        return now - parsedate_to_datetime(date).timestamp() - 0.5
    except ValueError:
        return None


def extender(url: str) -> Status:
    """Ask a running extender how it is. Raises UsageError for what is no address."""
    base = url.rstrip("/")
    if urlsplit(base).scheme not in {"http", "https"} or not urlsplit(base).hostname:
        raise UsageError(f"--extender {url!r} is no http:// or https:// address")
    try:
        code, said = _fetch(f"{base}/readyz")
        _, metrics = _fetch(f"{base}/metrics")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        return Status(url=base, problem=f"does not answer: {why}")
    return Status(url=base, ready=code == 200, said=said[:2000], metrics=metrics)


def _fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=EXTENDER_SECONDS) as answer:  # noqa: S310 - checked
            return answer.status, answer.read(_MOST_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(_MOST_BYTES).decode(errors="replace")
