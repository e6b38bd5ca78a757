"""Taints in words: what takes each away, and where a pod should be let past it.

Most taints are no wish of anybody that a pod can meet: the node controller, autoscalers and agents
set them while something is wrong or under way, and take them away again. A toleration would put the
pod onto a machine that is going, or not there.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence

import msgspec

from extender.explain.naming import yaml_text
from extender.kube.objects import Taint
from extender.placement.objections import CORDON

_KUBELET = "the kubelet of {node} is not heard of, or says that it is not ready"


class _Passing(msgspec.Struct, frozen=True):
    """Taints that whoever set them takes away.

    ``ends`` is the rest of "the pod waits for", ``remedy`` a text with ``{node}`` and ``{key}``.
    """

    keys: str
    ends: str
    remedy: str


_PASSING = tuple(
    _Passing(*row)
    for row in (
        (
            r"node\.kubernetes\.io/(not-ready|unreachable)",
            "the node to be Ready again",
            f"{_KUBELET}; it passes once that is mended: kubectl describe node {{node}}",
        ),
        (
            r"node\.kubernetes\.io/(memory|disk|pid)-pressure",
            "the pressure on the node to end",
            "the kubelet of {node} is short of what {key} names and takes nobody; it passes once "
            "that is mended: kubectl describe node {node}",
        ),
        (
            r"node\.kubernetes\.io/network-unavailable",
            "the node's network",
            "the network of {node} is not set up yet: see its network plugin's pod there: kubectl "
            "get pods --all-namespaces --field-selector spec.nodeName={node}",
        ),
        (
            r"node\.kubernetes\.io/out-of-service",
            "the node to be taken into service again",
            "somebody took {node} out of service; once it is back: kubectl taint node {node} "
            "{key}-",
        ),
        (
            r"node\.cloudprovider\.kubernetes\.io/.*",
            "the cloud provider to start the node",
            "the cloud provider has not initialized {node}, or has shut it down: kubectl describe "
            "node {node}",
        ),
        (
            r"(ToBeDeleted|DeletionCandidate)(By|Of)ClusterAutoscaler",
            "a node that is not about to go",
            "cluster-autoscaler is removing {node}; another node has to take the pod: kubectl "
            "describe node {node}",
        ),
        (
            r"karpenter\.(sh|k8s\.aws)/(disrupted|disruption|disrupting)",
            "a node that is not about to go",
            "Karpenter is replacing {node}; another node has to take the pod: kubectl describe "
            "node {node}",
        ),
        (
            r"karpenter\.sh/unregistered",
            "the node to join",
            "{node} has not joined yet; it passes once Karpenter has registered it: kubectl "
            "describe node {node}",
        ),
        (
            r".*/agent-not-ready|(startup-taint|ignore-taint)\.cluster-autoscaler\.kubernetes\.io/.*"
            r"|readiness\.k8s\.io/.*",
            "the node's agents to be ready",
            "an agent on {node} takes {key} away once it is ready: kubectl get pods "
            "--all-namespaces --field-selector spec.nodeName={node}",
        ),
    )
)
"""Keys: k8s.io/api/core/v1/well_known_taints.go, k8s.io/cloud-provider/api/well_known_taints.go,
https://karpenter.sh/docs/concepts/disruption/ and
https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md (startup taints)."""


def ends_taints(taints: Sequence[Taint]) -> str:
    """Say what a pod waits for where taints that pass keep it out; else empty."""
    return next((p.ends for p in map(_passing, taints) if p is not None), "")


def taints_remedy(taints: Sequence[Taint], node: str) -> str:
    """Say what would end each of these taints of a node for a pod."""
    node = shlex.quote(node)
    cordoned = any(taint.key == CORDON for taint in taints)
    said = [f"kubectl uncordon {node}"] if cordoned else []
    passing = [(taint.key, found) for taint in taints if (found := _passing(taint)) is not None]
    said += dict.fromkeys(found.remedy.format(node=node, key=key) for key, found in passing)
    tolerable = [t for t in taints if t.key != CORDON and _passing(t) is None]
    if tolerable:
        listed = ", ".join(f"{{{', '.join(_toleration(taint))}}}" for taint in tolerable)
        said.append(f"if it may run there: spec.tolerations: [{listed}]")
    return "; ".join(said)


def _passing(taint: Taint) -> _Passing | None:
    return next((row for row in _PASSING if re.fullmatch(row.keys, taint.key)), None)


def _toleration(taint: Taint) -> Iterator[str]:
    yield f"key: {yaml_text(taint.key)}"
    yield f"operator: {'Equal' if taint.value else 'Exists'}"
    if taint.value:
        yield f"value: {json.dumps(taint.value)}"
    yield f"effect: {taint.effect}"
