"""What loaders are asked for from now on, beside what their Leases say that they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from extender.cluster.state import ClusterState
from extender.cluster.view import Key, LoaderLease
from extender.placement.policy import Policy
from extender.report import WantedModel
from extender.waiting.fetching import Bounds, Wishing
from extender.waiting.pods import WaitingPod, WaitingPods

Models = tuple[WantedModel, ...]


class Changes(msgspec.Struct, frozen=True):
    """What has to be written, and whom kube-scheduler has to be made to ask about.

    ``leases`` has, by a loader's namespace and node, what it is asked for and what it should be;
    those that need no change are left out. ``unasked``: see ``Wishing``.
    """

    leases: Mapping[Key, tuple[Models, Models]] = {}
    unasked: Sequence[WaitingPod] = ()

    def withdraws(self, key: Key) -> bool:
        """Tell whether a loader is only asked for less than before, which nobody waits for."""
        before, models = self.leases[key]
        return {model.path for model in models} < {model.path for model in before}


def changes(state: ClusterState, pods: WaitingPods, policy: Policy, bounds: Bounds) -> Changes:
    """Work out what the waiting pods need now, and nothing else any more.

    A Lease where no loader of its namespace runs is nobody's business: its wishes run out, and
    whoever may write Leases in some namespace could have any number of them put right.
    """
    waiting, view = pods.present(state), state.view()
    loaders = {(pod.namespace, pod.node) for pod in view.inventory.pods}
    asked = {key for key in loaders if key in view.leases and view.leases[key].wanted.models}
    if not waiting and not asked:
        return Changes()
    wishing = Wishing(state, view, policy, bounds, asked=asked, apart=pods.apart)
    wishes = wishing.wishes(waiting)
    both = {
        key: (view.leases.get(key, LoaderLease()).wanted.models, wishes.get(key, ()))
        for key in sorted(asked | set(wishes))
    }
    new = {key: (before, models) for key, (before, models) in both.items() if before != models}
    return Changes(new, wishing.unasked)
