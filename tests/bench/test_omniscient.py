"""The yardstick that knows everything: what it takes, and what it fetches while it waits."""

from __future__ import annotations

from bench.placement.hardware import GB
from bench.placement.omniscient import omniscient
from tests.bench.machines import MODEL, OTHER, chosen, empty, pod


def test_it_takes_a_machine_with_the_model_at_once_the_one_whose_page_cache_has_it_first() -> None:
    cluster = empty(3)
    slow, fast, _ = cluster.machines
    slow.disk_speed, fast.disk_speed = 1.0 * GB, 4.0 * GB
    for machine in (slow, fast):
        for model in (MODEL, OTHER):
            machine.disk.put(model)
    policy = omniscient(cluster)
    assert chosen(policy, cluster) == fast.name
    fast.weights(OTHER, lambda: None)
    assert chosen(policy, cluster) == fast.name, "two that share 4 GB/s are faster than one at 1"
    slow.page_cache.put(MODEL)
    assert chosen(policy, cluster) == slow.name


def test_it_has_a_model_fetched_once_and_goes_where_there_is_room_before_that() -> None:
    cluster = empty(3)
    holder, *others = cluster.machines
    holder.disk.put(MODEL)
    policy = omniscient(cluster)
    assert [policy.choose(pod(), others) for _ in range(2)] == [None, None]
    assert sum(MODEL in machine.fetching for machine in others) == 1, "though it was asked twice"
    assert chosen(policy, cluster) == holder.name


def test_it_has_as_many_copies_made_as_waiting_pods_need_and_no_more_than_three() -> None:
    for waiting, copies in ((7, 1), (8, 2), (16, 3), (40, 3)):
        cluster = empty(5)
        cluster.waiting.extend(pod() for _ in range(waiting))
        assert omniscient(cluster).choose(pod(), cluster.machines) is None
        assert sum(MODEL in machine.fetching for machine in cluster.machines) == copies
