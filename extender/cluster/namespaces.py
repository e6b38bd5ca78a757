"""What a namespace's labels say of the pods in it."""

from __future__ import annotations

from extender.kube.objects import Namespace
from extender.workload.model import ANNOTATION_PREFIX

SCHEDULING_LABEL = f"{ANNOTATION_PREFIX}scheduling"
"""On namespaces, by you: ``enabled`` sends its pods to this scheduler (deploy/opt-in)."""

DEFAULT_SCHEDULER = "default-scheduler"
"""Where a pod names none: the apiserver fills it in."""

LEFT_ALONE = frozenset({"DaemonSet", "Node", "Job"})
"""The owners whose pods that policy leaves to their scheduler (deploy/opt-in)."""


ENABLED = "enabled"
OPT_IN = f"{SCHEDULING_LABEL}={ENABLED}"
"""The label as kubectl takes it."""


def is_opted_in(namespace: Namespace) -> bool:
    """Tell whether new pods of a namespace go to this scheduler."""
    return namespace.metadata.labels.get(SCHEDULING_LABEL) == ENABLED
