"""What is there now and would make way for a pod: the pods that its own DaemonSet has.

A manifest of a DaemonSet that runs already is about the pods that come in place of those: what
they take is not in the way of its new ones. Other controllers may run old and new side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from extender.cluster.view import PodFacts, View
from extender.explain.daemons import is_template
from extender.kube.objects import Pod


def without_its_own(view: View, pods: Iterable[PodFacts], pod: Pod) -> tuple[View, list[PodFacts]]:
    """Return the cluster without the pods that a pod of a manifest takes the place of."""
    owner = pod.metadata.controller()
    if owner is None or not is_template(pod):
        return view, list(pods)
    own: dict[str, list[PodFacts]] = defaultdict(list)
    others: list[PodFacts] = []
    for facts in pods:
        same = (facts.namespace, facts.daemon_set) == (pod.metadata.namespace, owner.name)
        (own[facts.node] if same and facts.counts else others).append(facts)
    nodes = dict(view.nodes)
    for name in own.keys() & nodes.keys():
        node = nodes[name]
        freed = sum(one.demand.on(node.allocatable) for one in own[name])
        nodes[name] = msgspec.structs.replace(node, promised=node.promised - freed)
    return msgspec.structs.replace(view, nodes=nodes), others
