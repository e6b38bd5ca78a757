"""Who this loader is: its pod and its node, as the downward API tells it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.errors import UsageError

_FIELDS = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_UID": "metadata.uid",
    "NODE_NAME": "spec.nodeName",
}


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A loader pod and the node that it runs on."""

    pod: str
    namespace: str
    uid: str
    node: str


def identity_from(environment: Mapping[str, str]) -> Identity:
    """Read the identity. Raises UsageError that names what is missing and where it comes from."""
    missing = [name for name in _FIELDS if not environment.get(name)]
    if missing:
        told = ", ".join(f"{name} (fieldRef {_FIELDS[name]})" for name in missing)
        raise UsageError(
            f"the environment lacks {told}; set it in the DaemonSet as deploy/loader does, or run "
            "with --standalone, which reports to nobody"
        )
    return Identity(
        pod=environment["POD_NAME"],
        namespace=environment["POD_NAMESPACE"],
        uid=environment["POD_UID"],
        node=environment["NODE_NAME"],
    )
