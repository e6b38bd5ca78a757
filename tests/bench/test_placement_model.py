"""The placement benchmark's models: what could be wrong without anybody seeing it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from random import Random

import pytest

from bench.placement.cluster import Cluster, Policy
from bench.placement.flows import Flows, by_owner, evenly
from bench.placement.hardware import GB, Hardware
from bench.placement.machine import Lru
from bench.placement.omniscient import bound
from bench.placement.outcome import interval, jain, outcome, percentile
from bench.placement.settings import GRID, ONE_BY_ONE, OURS, POLICIES, RIVALS
from bench.placement.workload import Workload, arrivals, catalogue, zipf
from simulation.timeline import Timeline
from tests.bench.machines import MODEL, OTHER, SMALL, empty

HARDWARE = Hardware()


def run(name: str, seed: int = 0, *, workload: Workload = SMALL, failures: int = 0) -> Cluster:
    cluster = Cluster(workload, seed, POLICIES[name], hardware=HARDWARE, failures=failures)
    cluster.run()
    return cluster


def _begin(flows: Flows, owner: str, size: float, done: Callable[[], None]) -> None:
    flows.begin(owner, size, done)


@pytest.mark.parametrize("seed", range(5))
def test_bytes_arrive_as_many_as_were_sent_however_the_sharing_changes(seed: int) -> None:
    random, timeline, sent = Random(seed), Timeline(1.7e9), 0.0
    done: list[int] = []
    flows = Flows(timeline, by_owner(each=2e8, together=5e8))
    for number in range(20):
        size = random.uniform(1e9, 2e10)
        sent += size
        arrived = partial(done.append, number)
        timeline.after(
            random.uniform(0, 100), partial(_begin, flows, f"m{number % 4}", size, arrived)
        )
    while timeline.next():
        assert sum(flow.rate for flow in flows.active) <= 5e8 * (1 + 1e-9)
        for owner in {flow.owner for flow in flows.active}:
            assert sum(f.rate for f in flows.active if f.owner == owner) <= 2e8 * (1 + 1e-9)
    assert sorted(done) == list(range(20))
    assert flows.moved == pytest.approx(sent)


def test_two_transfers_that_share_take_as_long_as_one_after_the_other() -> None:
    timeline, ends = Timeline(), []
    flows = Flows(timeline, evenly(1.0 * GB))
    for name in ("a", "b"):
        flows.begin(name, 10 * GB, lambda: ends.append(timeline.now))
    while timeline.next():
        pass
    assert ends == pytest.approx([20.0, 20.0])


def test_a_transfer_that_is_stopped_moves_no_more_and_gives_its_share_back() -> None:
    timeline, ends = Timeline(), []
    flows = Flows(timeline, evenly(1.0 * GB))
    flows.begin("a", 10 * GB, lambda: ends.append(timeline.now))
    other = flows.begin("b", 10 * GB, lambda: ends.append(-1.0))
    timeline.after(4.0, lambda: flows.stop(other))
    while timeline.next():
        pass
    assert ends == pytest.approx([12.0])
    assert flows.moved == pytest.approx(12 * GB)


def test_what_was_used_longest_ago_goes_first_and_what_is_kept_never() -> None:
    lru = Lru(2 * MODEL.bytes)
    third = catalogue(1, Random(0))[0]
    lru.put(MODEL)
    lru.put(OTHER)
    lru.use(MODEL)
    assert lru.put(third) == [OTHER]
    assert lru.put(OTHER, keep=lambda model: model in {MODEL, third}) == []
    assert set(lru.models) == {MODEL, third}
    assert lru.used == MODEL.bytes + third.bytes


def test_a_model_is_downloaded_once_for_all_who_want_it_and_then_read_from_the_page_cache() -> None:
    cluster, ends = empty(), []
    machine = cluster.machines[0]
    for _ in range(3):
        machine.weights(MODEL, lambda: ends.append(cluster.now))
    cluster.timeline.until(cluster.timeline.now + 1000)
    seconds = MODEL.bytes / HARDWARE.hub + MODEL.bytes / HARDWARE.page_cache
    assert ends == pytest.approx([seconds] * 3, rel=1e-3)
    assert cluster.network.moved == pytest.approx(MODEL.bytes)


def test_a_file_that_is_being_read_is_read_along_and_its_bytes_come_from_the_disk_once() -> None:
    cluster, ends = empty(), []
    machine = cluster.machines[0]
    machine.disk.put(MODEL)
    disk = MODEL.bytes / machine.disk_speed
    for wait in (0.0, disk / 2, disk + 1):
        cluster.timeline.after(
            wait, lambda: machine.weights(MODEL, lambda: ends.append(cluster.now))
        )
    cluster.timeline.until(cluster.timeline.now + 100)
    cached = MODEL.bytes / HARDWARE.page_cache
    expected = [disk, max(disk, disk / 2 + cached), disk + 1 + cached]
    assert ends == pytest.approx(expected, rel=1e-3)
    assert machine.read.moved == pytest.approx(MODEL.bytes)


@pytest.mark.parametrize("name", POLICIES)
def test_every_run_keeps_its_books(name: str) -> None:
    cluster = run(name, failures=2)
    pods = cluster.pods
    assert [pod.created for pod in pods] == sorted(pod.created for pod in pods)
    for pod in pods:
        if pod.bound is not None:
            assert pod.created < pod.bound
        if pod.ready is not None:
            assert pod.bound is not None
            assert pod.ready >= pod.bound + pod.arrival.engine
    assert not cluster.running
    for machine in cluster.machines:
        assert (machine.busy_gpus, machine.open) == (0, {})
        assert machine.disk.used == sum(model.bytes for model in machine.disk.models)
        assert machine.disk.used <= machine.disk.capacity
        assert machine.page_cache.used <= machine.page_cache.capacity


@pytest.mark.parametrize("name", POLICIES)
def test_no_machine_gives_more_gpus_than_it_has(name: str) -> None:
    events = []
    for pod in run(name).pods:
        if pod.machine is not None and pod.bound is not None and pod.gone is not None:
            events.append((pod.bound, pod.model.gpus, pod.machine.name))
            events.append((pod.gone, -pod.model.gpus, pod.machine.name))
    busy: dict[str, int] = {}
    for _, gpus, machine in sorted(events):
        busy[machine] = busy.get(machine, 0) + gpus
        assert busy[machine] <= HARDWARE.gpus


@pytest.mark.parametrize("name", POLICIES)
def test_the_bound_bounds_every_pod_of_every_policy(name: str) -> None:
    cluster = run(name)
    fastest = max(machine.disk_speed for machine in cluster.machines)
    least = bound(cluster.arrivals, HARDWARE, fastest)
    for pod in cluster.pods:
        assert pod.ready is None or pod.ready - pod.created >= least[pod.arrival.number] - 1e-3


def test_all_policies_see_the_same_pods_disks_and_failures() -> None:
    def seen(name: str) -> object:
        cluster = Cluster(SMALL, 3, POLICIES[name], hardware=HARDWARE, failures=2)
        homes = {m.name: [one.name for one in homes] for m, homes in cluster.homes.items()}
        return cluster.arrivals, homes, [machine.disk_speed for machine in cluster.machines]

    assert all(seen(name) == seen("random") for name in POLICIES)


@pytest.mark.parametrize("name", ["on demand", "Fluid"])
def test_a_seed_gives_the_same_run_again(name: str) -> None:
    first, second = (outcome(run(name, failures=1)) for _ in range(2))
    assert first == second


def test_every_model_has_equally_many_homes_and_they_have_the_room() -> None:
    cluster = Cluster(Workload(models=60), 0, POLICIES["random"], hardware=HARDWARE)
    assert len({len(homes) for homes in cluster.homes.values()}) == 1
    for machine in cluster.machines:
        assert set(machine.disk.models) == {
            model for model, homes in cluster.homes.items() if machine in homes
        }


def test_the_load_is_what_was_asked_for_whatever_the_rhythm() -> None:
    for rhythm in ("gamma", "conv", "code"):
        workload = Workload(rhythm=rhythm, pods=400, load=0.5)
        random = Random(1)
        came = arrivals(workload, HARDWARE, catalogue(60, random), random)
        gpu_seconds = sum(
            a.model.gpus
            * (HARDWARE.serving + HARDWARE.engine_median + a.model.bytes / HARDWARE.page_cache)
            for a in came
        )
        given = came[-1].at * HARDWARE.machines * HARDWARE.gpus
        assert gpu_seconds / given == pytest.approx(0.5, rel=0.25)


def test_gamma_gaps_are_as_uneven_as_they_are_said_to_be() -> None:
    for cv in (1.0, 4.0):
        workload, random = Workload(models=20, cv=cv, pods=20_000), Random(2)
        came = arrivals(workload, HARDWARE, catalogue(20, random), random)
        gaps = [after.at - before.at for before, after in pairwise(came)]
        mean = sum(gaps) / len(gaps)
        deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
        assert deviation / mean == pytest.approx(cv, rel=0.1)


def test_zipf_gives_the_first_rank_twice_what_the_second_has() -> None:
    first, second, *_ = zipf(50, 1.0)
    assert first == pytest.approx(2 * (second - first))
    assert zipf(50, 1.0)[-1] == pytest.approx(1.0)


def test_percentiles_fairness_and_intervals() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([0.0, 10.0], 0.99) == pytest.approx(9.9)
    assert jain([1.0, 1.0, 1.0]) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    low, high = interval([1.0, 2.0, 3.0, 4.0])
    assert 1.0 <= low < 2.5 < high <= 4.0
    assert interval([2.0] * 5) == (2.0, 2.0)


def test_every_setting_has_a_name_of_its_own_and_every_policy_is_ours_or_somebodys() -> None:
    for settings in (GRID, ONE_BY_ONE):
        assert len({setting.name for setting in settings}) == len(settings)
    assert POLICIES.keys() == {*OURS, *RIVALS, "omniscient"}


def test_a_policy_that_lets_all_wait_is_charged_for_it() -> None:
    class Nobody:
        def choose(self, *_: object) -> None:
            return None

    def nobody(_: Cluster) -> Policy:
        return Nobody()

    cluster = Cluster(SMALL, 0, nobody, hardware=HARDWARE)
    cluster.run()
    came = outcome(cluster)
    assert came.unready == len(cluster.arrivals)
    assert min(came.starts) > 3000
