"""What others do, by their sources: the arithmetic on known machines."""

from __future__ import annotations

import math

from bench.placement import rivals
from bench.placement.flows import Flows, evenly
from bench.placement.hardware import GB
from bench.placement.intree import image_locality, least_allocated, topology_spread
from bench.placement.workload import Model
from tests.bench.machines import MODEL, OTHER, chosen, empty, pod


def test_least_allocated_is_the_percentage_left_after_the_pod() -> None:
    machine = empty().machines[0]
    assert least_allocated(pod(), machine) == 87
    machine.busy_gpus = 4
    assert least_allocated(pod(), machine) == 37


def test_topology_spread_takes_off_by_the_pods_of_the_same_deployment() -> None:
    machines = empty(4).machines
    machines[0].open = {MODEL: 2}
    machines[1].open = {OTHER: 5}
    most = round(2 * math.log(6) + 2)
    assert topology_spread(pod(), machines) == [100 * 2 // most, 100, 100, 100]


def test_image_locality_saturates_at_a_thousand_mebibytes_an_image() -> None:
    machines = empty(4).machines
    machines[0].disk.put(MODEL)
    none, all_of_it = 100 * 977 // 1977, 100
    assert image_locality(pod(), machines, machines) == [all_of_it, none, none, none]
    small = Model(name="small", bytes=GB, gpus=1)
    machines[1].disk.put(small)
    here, *elsewhere = image_locality(pod(small), machines[1:], machines)
    assert none < here < all_of_it
    assert set(elsewhere) == {none}


def test_fluid_is_outvoted_by_spreading_where_the_cache_is_crowded_with_the_same_model() -> None:
    cluster = empty(2)
    holder, other = cluster.machines
    holder.disk.put(MODEL)
    policy = rivals.fluid(cluster)
    assert chosen(policy, cluster) == holder.name
    holder.open, holder.busy_gpus = {MODEL: 6}, 6
    assert chosen(policy, cluster) == other.name


def test_gpustack_gives_five_points_which_another_model_on_the_worker_outweighs() -> None:
    cluster = empty(2)
    holder, other = cluster.machines
    holder.disk.put(MODEL)
    policy = rivals.gpustack(cluster)
    assert chosen(policy, cluster) == holder.name
    holder.open = {OTHER: 1}
    assert chosen(policy, cluster) == other.name
    other.open = {OTHER: 1}
    assert chosen(policy, cluster) == holder.name
    holder.open = {OTHER: 1, MODEL: 1}
    assert chosen(policy, cluster) == other.name


def test_ome_lets_a_pod_wait_where_no_machine_is_ready() -> None:
    cluster = empty(2)
    policy = rivals.ome(cluster)
    assert chosen(policy, cluster) is None
    cluster.machines[1].disk.put(MODEL)
    assert chosen(policy, cluster) == cluster.machines[1].name


def test_kserve_keeps_a_pod_in_its_group_ready_or_not() -> None:
    cluster = empty(3)
    cluster.homes[MODEL] = [cluster.machines[2]]
    cluster.machines[0].disk.put(MODEL)
    assert chosen(rivals.kserve(cluster), cluster) == cluster.machines[2].name


def test_their_agents_fetch_what_belongs_on_a_machine_that_comes_back() -> None:
    cluster = empty(2)
    cluster.homes.clear()
    cluster.homes[MODEL] = [cluster.machines[0]]
    rivals.ome(cluster)
    for machine in cluster.machines:
        machine.fail()
        machine.repair()
    assert set(cluster.machines[0].fetching) == {MODEL}
    assert not cluster.machines[1].fetching


def test_serverless_llm_waits_for_a_disk_and_not_for_memory_and_skips_who_has_it_not() -> None:
    cluster = empty(3)
    first, second, nothing = cluster.machines
    for machine in (first, second):
        machine.disk_speed = 2.0 * GB
        for model in (MODEL, OTHER):
            machine.disk.put(model)
    nothing.disk_speed = 100.0 * GB
    policy = rivals.serverless_llm(cluster)
    first.weights(OTHER, lambda: None)
    assert chosen(policy, cluster) == second.name
    first.page_cache.put(MODEL)
    assert chosen(policy, cluster) == first.name


def test_serverless_llm_waits_for_what_is_left_to_read() -> None:
    cluster = empty(2)
    faster, idle = cluster.machines
    faster.disk_speed, idle.disk_speed = 4.0 * GB, 2.0 * GB
    faster.read = Flows(cluster.timeline, evenly(faster.disk_speed))
    large = Model(name="model-2-10b", bytes=20 * GB, gpus=1)
    for machine in cluster.machines:
        for model in (MODEL, large):
            machine.disk.put(model)
    policy = rivals.serverless_llm(cluster)
    faster.weights(large, lambda: None)
    assert chosen(policy, cluster) == idle.name
    cluster.timeline.until(cluster.timeline.now + 2.0)
    assert chosen(policy, cluster) == faster.name
