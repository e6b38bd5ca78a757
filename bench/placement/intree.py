"""kube-scheduler's own scores, as far as they differ between the machines of the benchmark.

After kubernetes v1.37 pkg/scheduler/framework/plugins, with the default weights of
apis/config/v1/default_plugins.go. Not modelled, because all machines are alike in them:
TaintToleration, NodeAffinity, InterPodAffinity, VolumeBinding, and BalancedAllocation (pods ask for
CPU and memory in proportion to their GPUs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.placement.cluster import Pod
from bench.placement.machine import Machine

_SPREAD_WEIGHT = 2
_MAX_SKEW = 3
_MB = 1024 * 1024
_LEAST_IMAGE, _MOST_IMAGE = 23 * _MB, 1000 * _MB


def in_tree(pod: Pod, fitting: Sequence[Machine]) -> list[float]:
    """Return NodeResourcesFit plus PodTopologySpread of machines: at most 300 points."""
    spread = topology_spread(pod, fitting)
    return [
        least_allocated(pod, machine) + _SPREAD_WEIGHT * points
        for machine, points in zip(fitting, spread, strict=True)
    ]


def least_allocated(pod: Pod, machine: Machine) -> int:
    """Return the percentage that would be left (noderesources/least_allocated.go)."""
    gpus = machine.hardware.gpus
    return 100 * (gpus - machine.busy_gpus - pod.model.gpus) // gpus


def topology_spread(pod: Pod, fitting: Sequence[Machine]) -> list[int]:
    """Return how few pods of the same Deployment are there (podtopologyspread/scoring.go).

    The system's default constraint by host, maxSkew 3; that by zone needs labels that no node has.
    """
    weight = math.log(len(fitting) + 2)
    counts = [round(one.open.get(pod.model, 0) * weight + _MAX_SKEW - 1) for one in fitting]
    low, high = min(counts), max(counts)
    return [100 * (high + low - count) // high for count in counts]


def image_locality(pod: Pod, fitting: Sequence[Machine], machines: Sequence[Machine]) -> list[int]:
    """Return ImageLocality's 0 to 100 points (imagelocality/image_locality.go).

    The size counts by the share of ``machines`` (all there are) that have the image, and saturates
    at 1000 MiB for each container or image volume, all together; of these a pod has two, the
    engine's (which is everywhere) and the model's. The engine's is taken to have 1000 MiB: a larger
    one alone would saturate the sum, and nothing would be left to tell by.
    """
    scaled = pod.model.bytes * sum(one.holds(pod.model) for one in machines) // len(machines)
    points = []
    for machine in fitting:
        total = _MOST_IMAGE + (scaled if machine.holds(pod.model) else 0)
        total = min(max(total, _LEAST_IMAGE), 2 * _MOST_IMAGE)
        points.append(100 * (total - _LEAST_IMAGE) // (2 * _MOST_IMAGE - _LEAST_IMAGE))
    return points
