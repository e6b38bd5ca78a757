"""What others do, each as its source has it: scores over the machines that have the GPUs.

They are told more than in reality: what is on every disk, at once and truly. What they make of it
is theirs. In-tree scores of kube-scheduler are modelled in ``intree``, since most of them are added
to those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from bench.placement.cluster import Cluster, Pod, Policy
from bench.placement.intree import image_locality, in_tree
from bench.placement.machine import Machine

Scores = Callable[[Pod, Sequence[Machine]], Sequence[float]]
Allowed = Callable[[Pod, Machine], bool]


class Scoring:
    """Takes the machine with the highest score among those that ``allowed`` lets pass.

    Among equals one is drawn, as kube-scheduler does (schedule_one.go, ``selectHost``).
    """

    def __init__(
        self, cluster: Cluster, scores: Scores, allowed: Allowed = lambda *_: True
    ) -> None:
        self._scores = scores
        self._allowed = allowed
        self._random = Random(f"{cluster.seed} ties")

    def choose(self, pod: Pod, fitting: Sequence[Machine]) -> Machine | None:
        """Return the best machine."""
        among = [machine for machine in fitting if self._allowed(pod, machine)]
        if not among:
            return None
        scores = self._scores(pod, among)
        top = max(scores)
        best = [machine for machine, score in zip(among, scores, strict=True) if score == top]
        return self._random.choice(best)


def random_choice(cluster: Cluster) -> Policy:
    """Take any machine."""
    return Scoring(cluster, lambda _, fitting: [0.0] * len(fitting))


def default_scheduler(cluster: Cluster) -> Policy:
    """Spread: kube-scheduler as it comes, which knows nothing of models."""
    return Scoring(cluster, in_tree)


def image_scoring(cluster: Cluster) -> Policy:
    """Count on ImageLocality: models are OCI images, and the kubelets tell which are there."""

    def scores(pod: Pod, fitting: Sequence[Machine]) -> list[float]:
        images = image_locality(pod, fitting, cluster.machines)
        return [sum(points) for points in zip(in_tree(pod, fitting), images, strict=True)]

    return Scoring(cluster, scores)


def fluid(cluster: Cluster) -> Policy:
    """Prefer nodes with the cache, as Fluid's webhook does: node affinity of weight 100.

    (fluid-cloudnative.github.io, "Pod Scheduling Base on Runtime Tiered Locality": the node's is
    the only weight that it sets by itself.) NodeAffinity normalizes the largest sum to 100 and
    weighs 2. These weights alone are compared: a pod elsewhere downloads, as it does under
    everybody else here, where Fluid's own would read from the caches of other nodes.
    """

    def scores(pod: Pod, fitting: Sequence[Machine]) -> list[float]:
        return [
            points + 2 * 100 * machine.holds(pod.model)
            for points, machine in zip(in_tree(pod, fitting), fitting, strict=True)
        ]

    return Scoring(cluster, scores)


def gpustack(cluster: Cluster) -> Policy:
    """Spread with up to 5 points of 100 for a model file that is ready.

    (gpustack/gpustack: policies/scorers/placement_scorer.py, strategy ``spread``, and
    model_file_locality_scorer.py.) A worker without instances has 100 points; with those of other
    models 90 and more, of this one 80, of both 70. What it adds for the GPUs of the instance is
    that of GPUs which nobody else has.
    """

    def score(pod: Pod, machine: Machine) -> float:
        same = machine.open.get(pod.model, 0)
        others = sum(machine.open.values()) - same
        ready = 5.0 * machine.holds(pod.model)
        if not same and not others:
            return 100.0 + ready
        free = 10.0 / (machine.hardware.gpus + 1)
        return (
            90.0 - 10.0 * bool(same) - 10.0 * bool(same and others) + free * pod.model.gpus + ready
        )

    return Scoring(cluster, lambda pod, fitting: [score(pod, one) for one in fitting])


def ome(cluster: Cluster) -> Policy:
    """Run a model only where its label says Ready, as OME does.

    (ome-projects/ome-docs, "Run the model agent": serving pods run only on nodes with the label.)
    The agent keeps every model on the machines that the operator chose, here its homes, and nowhere
    else; on one that comes back it fetches them anew.
    """
    cluster.watchers.append(_Agent(cluster))
    return Scoring(cluster, in_tree, lambda pod, machine: machine.holds(pod.model))


def kserve(cluster: Cluster) -> Policy:
    """Run a model only in its node group, as the volumes of KServe's LocalModelCache have it.

    (kserve.github.io, "KServe Local Model Cache": PersistentVolumes with the node affinity of the
    group.) The group is the model's homes. Where it is not there yet, the pod waits on the machine.
    """
    cluster.watchers.append(_Agent(cluster))
    return Scoring(cluster, in_tree, lambda pod, machine: machine in cluster.homes[pod.model])


def serverless_llm(cluster: Cluster) -> Policy:
    """Take the node that loads soonest among those that have the model, as ServerlessLLM does.

    (Fu et al., OSDI 2024; ServerlessLLM/ServerlessLLM: sllm/schedulers/storage_aware_scheduler.py,
    without migration.) From the memory of a node a model takes its size over the bandwidth there,
    and waits for nobody; from the disk it waits until all that the node's store is loading is
    loaded (sllm/store_manager.py), and takes its size over the disk's measured bandwidth. A node
    without the model is skipped: where none that has GPUs has it, the pod waits.
    """

    def seconds(pod: Pod, machine: Machine) -> float:
        if pod.model in machine.page_cache.models:
            return pod.model.bytes / machine.hardware.page_cache
        return (machine.still_to_read() + pod.model.bytes) / machine.disk_speed

    return Scoring(
        cluster,
        lambda pod, fitting: [-seconds(pod, machine) for machine in fitting],
        lambda pod, machine: machine.holds(pod.model),
    )


class _Agent:
    """Fetches what belongs on a machine whenever that is empty."""

    def __init__(self, cluster: Cluster) -> None:
        self._homes = cluster.homes
        self._alive = dict.fromkeys(cluster.machines, True)

    def came(self, pod: Pod) -> None:
        """Not its business."""

    was_bound = is_ready = gone = came

    def changed(self, machine: Machine) -> None:
        """Fetch what belongs there on a machine that came back."""
        back = machine.alive and not self._alive[machine]
        self._alive[machine] = machine.alive
        if back:
            for model, homes in self._homes.items():
                if machine in homes:
                    machine.fetch(model)
