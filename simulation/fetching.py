"""Fetching on demand: asks loaders for what waiting pods need, as ``serving/fetching`` does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from extender.cluster.view import Key
from extender.kube.objects import Lease
from extender.placement.request import PodRequest
from extender.report import WANTED_ANNOTATION, Wanted, lease_name, write
from extender.verbs.context import Context
from extender.waiting.fetching import Bounds
from extender.waiting.pods import WaitingPods
from extender.waiting.telling import Word, note
from extender.waiting.wishes import Models, changes
from simulation.apiserver import Apiserver
from simulation.faults import Faults

LOOK_SECONDS = 2.0


class Fetching:
    """One process's wishes. ``touch`` has kube-scheduler ask about a pod."""

    def __init__(
        self,
        context: Context,
        pods: WaitingPods,
        *,
        api: Apiserver,
        faults: Faults,
        touch: Callable[[PodRequest], Word],
        say: Callable[[str], None],
    ) -> None:
        self._context = context
        self._pods = pods
        self._api = api
        self._faults = faults
        self._touch = touch
        self._say = say

    def look(self) -> None:
        """Ask for what is needed now, and for nothing else any more."""
        context = self._context
        if context.stale():
            return
        found = changes(context.state, self._pods, context.policy, Bounds())
        for key, (_, models) in found.leases.items():
            self._write(key, models)
        for pod in found.unasked:
            request = pod.request
            self._pods.touched(request.uid, context.state)
            note(self._touch(request), request.uid, self._pods, context.state)

    def _write(self, key: Key, models: Models) -> None:
        """Write wishes over what was seen; where it has changed since, that is a conflict."""
        seen, present = self._context.state.lease(key), self._api.get(Lease, lease_name(key[1]))
        if present is None or present is not seen or self._faults.happens(10):
            return
        self._say(f"loader on {key[1]} asked for {', '.join(m.pod for m in models) or 'nothing'}")
        annotations = dict(present.metadata.annotations)
        annotations.pop(WANTED_ANNOTATION, None)
        if models:
            annotations[WANTED_ANNOTATION] = write(Wanted(models=models))
        metadata = msgspec.structs.replace(present.metadata, annotations=annotations)
        self._api.put(msgspec.structs.replace(present, metadata=metadata))
