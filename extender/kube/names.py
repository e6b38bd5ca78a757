"""Names of labels and resources, as the apiserver and kube-scheduler check them.

Sources, of kubernetes v1.37: apimachinery/pkg/util/validation/validation.go (``IsQualifiedName``,
``IsValidLabelValue``) and pkg/apis/core/v1/helper/helpers.go (``IsExtendedResourceName``).
"""

from __future__ import annotations

import re

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
_VALUE = re.compile(rf"(?:{_NAME})?")
_QUALIFIED = re.compile(rf"(?:(?P<domain>{_DOMAIN})/)?{_NAME}")
_LONGEST_DOMAIN = 253
_QUOTA = "requests."
"""``DefaultResourceRequestsPrefix``: what a quota writes before a resource's name."""


def is_qualified_name(name: str) -> bool:
    """Tell whether a name is one of labels and resources: ``[DOMAIN/]NAME``."""
    found = _QUALIFIED.fullmatch(name)
    return found is not None and len(found["domain"] or "") <= _LONGEST_DOMAIN


def is_label_value(value: str) -> bool:
    """Tell whether a label can have this value."""
    return _VALUE.fullmatch(value) is not None


def is_extended_resource(name: str) -> bool:
    """Tell whether a resource is one that a device plugin brings, by its name."""
    native = "/" not in name or "kubernetes.io/" in name
    return (
        not native
        and not name.startswith(_QUOTA)
        and is_qualified_name(name)
        and is_qualified_name(_QUOTA + name)
    )
