"""Fetching on demand: whom is asked for what, within which bounds, and when that ends."""

from __future__ import annotations

import msgspec
import pytest

from extender.kube.objects import KubeObject, Pod
from extender.kube.times import time_text
from extender.placement.policy import Policy
from extender.report import (
    WISH_SECONDS,
    Disk,
    Progress,
    Report,
    ReportedState,
    Wanted,
    WantedModel,
)
from extender.verbs.context import Context
from extender.waiting.fetching import (
    RENEW_SECONDS,
    UNASKED_SECONDS,
    Bounds,
    Wishes,
    Wishing,
)
from extender.waiting.wishes import changes
from tests.builders import (
    READY,
    deleted,
    loader_lease,
    node,
    our_loader,
    reported,
    reporting_pod,
    tmpfs,
    vllm,
)
from tests.builders import namespace as build_namespace
from tests.waiting.room import Room

MODEL = "llama-3.1-8b-instruct"
GB = 10**9
ON_DEMAND = reported(ReportedState.ABSENT, on_demand=True, bytes=16 * GB)


def disk(free: int, total: int = 1000, speed: float | None = None) -> Progress:
    """Return the progress of a loader with a disk, in GB."""
    return Progress(
        disk=Disk(free_bytes=free * GB, total_bytes=total * GB, read_bytes_per_second=speed)
    )


class Fleet(Room):
    """Nodes whose loaders fetch on demand, and what they are asked for."""

    def __init__(self, *names: str, bounds: Bounds | None = None) -> None:
        super().__init__()
        self.bounds = bounds or Bounds()
        self.apply(our_loader())
        for name in names:
            self.apply(node(name), reporting_pod(name, READY, ON_DEMAND), self.lease(name))

    def apply(self, *objects: KubeObject) -> None:
        for obj in objects:
            self.state.upsert(obj)

    def lease(
        self, name: str, progress: Progress | None = None, wanted: Wanted | None = None
    ) -> KubeObject:
        return loader_lease(
            name, time_text(self.now), progress=progress or disk(500), wanted=wanted
        )

    def wishing(self) -> Wishing:
        view = self.state.view()
        return Wishing(
            self.state,
            view,
            self.context.policy,
            self.bounds,
            asked=view.leases,
            apart=self.pods.apart,
        )

    def wishes(self) -> Wishes:
        """Work out what is asked for, and let the Leases say so."""
        found = self.wishing().wishes(self.pods.all())
        for (namespace, name), lease in self.state.view().leases.items():
            models = found.get((namespace, name), ())
            self.apply(self.lease(name, lease.progress, Wanted(models=models)))
        return found

    def asked(self) -> list[str]:
        """Return the nodes whose loaders are asked for something."""
        return sorted(name for _, name in self.wishes())


def test_one_loader_is_asked_for_what_a_pod_waits_for() -> None:
    fleet = Fleet("a", "b")
    fleet.refuse(vllm(), "a", "b")
    wishes = fleet.wishes()
    assert wishes == {
        ("inference", "a"): (
            WantedModel(
                path=MODEL,
                until=time_text(fleet.now + WISH_SECONDS),
                pod="inference/llama",
                asked_at=time_text(fleet.now),
            ),
        )
    }


def test_what_was_asked_for_stays_asked_for_where_it_is() -> None:
    """A node that looks better meanwhile does not make a second download of it."""
    fleet = Fleet("a", "b")
    fleet.apply(fleet.lease("a", disk(500, speed=1e8)), fleet.lease("b", disk(500, speed=1e8)))
    fleet.refuse(vllm(), "a", "b")
    before = fleet.wishes()
    fleet.apply(fleet.lease("b", disk(500, speed=4e9)))
    fleet.now += 5
    assert fleet.wishes() == before


@pytest.mark.parametrize("on_demand", [True, False])
def test_what_the_only_node_fetches_stays_asked_for_until_it_is_there(on_demand: bool) -> None:
    fleet = Fleet("a")
    fleet.refuse(vllm(), "a")
    before = fleet.wishes()
    loading = reported(ReportedState.LOADING, on_demand=on_demand, bytes=16 * GB)
    fleet.apply(reporting_pod("a", READY, loading))
    assert fleet.wishes() == before
    fleet.apply(reporting_pod("a", READY, reported()))
    assert fleet.wishes() == {}


def test_the_node_where_the_pod_would_start_soonest_is_asked() -> None:
    fleet = Fleet("a", "b")
    fleet.apply(fleet.lease("a", disk(500, speed=1e8)), fleet.lease("b", disk(500, speed=4e9)))
    fleet.refuse(vllm(), "a", "b")
    assert fleet.asked() == ["b"]


def test_only_nodes_that_were_asked_about_are_asked() -> None:
    """kube-scheduler asks about those that have the GPUs, tolerations and affinity for it."""
    fleet = Fleet("a", "b")
    fleet.refuse(vllm(), "b")
    assert fleet.asked() == ["b"]


def test_a_node_without_the_memory_is_not_asked() -> None:
    fleet = Fleet("a", "b")
    fleet.apply(tmpfs("full", size="60Gi", on="a"))
    fleet.refuse(vllm(memory="8Gi"), "a", "b")
    assert fleet.asked() == ["b"]


@pytest.mark.parametrize(
    ("state", "on_demand"),
    [(ReportedState.ABSENT, False), (ReportedState.FAILED, True)],
    ids=["the catalog does not allow it", "it failed there"],
)
def test_a_node_that_would_not_get_it_is_not_asked(state: ReportedState, on_demand: bool) -> None:
    fleet = Fleet("a", "b")
    fleet.apply(reporting_pod("a", READY, reported(state, on_demand=on_demand)))
    fleet.refuse(vllm(), "a", "b")
    assert fleet.asked() == ["b"]


def test_a_loader_that_gives_no_sign_of_life_is_not_asked() -> None:
    fleet = Fleet("a", "b")
    fleet.now += 91
    fleet.apply(fleet.lease("b"))
    fleet.refuse(vllm(), "a", "b")
    assert fleet.asked() == ["b"]


def test_nobody_is_asked_while_a_node_takes_the_pod() -> None:
    fleet = Fleet("a", "b")
    fleet.apply(reporting_pod("b", READY, reported()))
    fleet.refuse(vllm(), "a", "b")
    assert fleet.asked() == []


def test_a_disk_with_room_comes_first_and_one_that_never_has_it_not_at_all() -> None:
    fleet = Fleet("a", "b", "c")
    fleet.apply(fleet.lease("a", disk(10)), fleet.lease("b", disk(1, total=16)))
    fleet.refuse(vllm(), "a", "b", "c")
    assert fleet.asked() == ["c"]
    tight = Fleet("a", "b")
    tight.apply(tight.lease("a", disk(10)), tight.lease("b", disk(1, total=16)))
    tight.refuse(vllm(), "a", "b")
    assert tight.asked() == ["a"]  # its loader makes room


def test_a_wish_ends_with_the_wait() -> None:
    fleet = Fleet("a")
    fleet.refuse(vllm(), "a")
    assert fleet.asked() == ["a"]
    fleet.state.upsert(vllm(on="a"))
    assert fleet.asked() == []


def test_a_wish_ends_once_its_pod_is_being_deleted() -> None:
    fleet = Fleet("a")
    fleet.refuse(vllm(), "a")
    (models,) = fleet.wishes().values()
    fleet.state.upsert(deleted(vllm()))
    found = changes(fleet.state, fleet.pods, fleet.context.policy, fleet.bounds)
    assert found.leases == {("inference", "a"): (models, ())}


def test_nothing_is_asked_for_a_pod_that_the_watch_has_not_shown() -> None:
    """It may be gone again: nobody would take the wish off, but its time."""
    fleet = Fleet("a")
    fleet.refuse(vllm(), "a", known=False)
    assert fleet.asked() == []
    fleet.apply(vllm())
    assert fleet.asked() == ["a"]


def test_a_wish_is_renewed_before_it_runs_out_and_keeps_its_beginning() -> None:
    fleet = Fleet("a")
    fleet.refuse(vllm(), "a")
    began = time_text(fleet.now)
    fleet.wishes()
    fleet.now += WISH_SECONDS - RENEW_SECONDS + 1
    fleet.apply(fleet.lease("a", wanted=fleet.state.view().leases["inference", "a"].wanted))
    ((wish,),) = fleet.wishes().values()
    assert wish.until == time_text(fleet.now + WISH_SECONDS)
    assert wish.asked_at == began


YEAR = 365 * 86_400.0


@pytest.mark.parametrize("ahead", [-YEAR, YEAR], ids=["behind", "ahead"])
def test_a_leader_whose_clock_is_another_keeps_and_renews_what_the_one_before_asked_for(
    ahead: float,
) -> None:
    """Its loader counts from when it saw the wish, and so does this one: never too late."""
    fleet = Fleet("a", "b")
    fleet.refuse(vllm(), "a", "b")
    ((key, (wish,)),) = fleet.wishes().items()
    wish = msgspec.structs.replace(wish, until=time_text(fleet.now + WISH_SECONDS - ahead))
    other = Fleet("a", "b")
    other.apply(other.lease("a", wanted=Wanted(models=(wish,))))
    other.refuse(vllm(), "a", "b")
    passed = 0.0
    while passed < WISH_SECONDS - RENEW_SECONDS:
        ((where, (same,)),) = other.wishes().items()
        if same.until != wish.until:
            break
        assert (where, same) == (key, wish)
        passed += 10
        other.now += 10
    ((where, (renewed,)),) = other.wishes().items()
    assert (where, renewed.asked_at) == (key, wish.asked_at)
    assert renewed.until != wish.until


def test_a_wish_is_kept_for_a_pod_that_is_not_refused_again_until_its_loader_forgets_it() -> None:
    fleet = Fleet("a")
    fleet.refuse(vllm(), "a")
    before = fleet.wishes()
    fleet.pods.drop("uid-llama")
    fleet.now += WISH_SECONDS - 1
    assert fleet.wishes() == before
    fleet.now += 1
    assert fleet.wishes() == {}


def test_a_restart_keeps_what_was_asked_for_until_the_pod_is_asked_about_again() -> None:
    fleet = Fleet("a", "b")
    fleet.refuse(vllm(), "a", "b")
    before = fleet.wishes()
    fleet.pods.drop("uid-llama")
    assert fleet.wishes() == before  # nothing is known of what the pod waits for
    fleet.refuse(vllm())  # as after a restart: not known where it was refused
    assert fleet.wishes() == before
    fleet.refuse(vllm(), "a", "b")
    assert fleet.wishes() == before
    fleet.state.delete(vllm())
    fleet.pods.drop("uid-llama")
    assert fleet.wishes() == {}


def unasked(fleet: Fleet) -> list[str]:
    """Return the pods that kube-scheduler has to ask about before anybody can be asked."""
    wishing = fleet.wishing()
    assert wishing.wishes(fleet.pods.all()) == {}
    return [pod.request.name for pod in wishing.unasked]


def test_after_a_restart_a_pod_is_asked_about_where_what_it_waits_for_could_be_fetched() -> None:
    fleet = Fleet("a")
    fleet.refuse(vllm())
    assert unasked(fleet) == ["llama"]
    fleet.pods.touched("uid-llama", fleet.state)
    assert unasked(fleet) == []
    fleet.now += UNASKED_SECONDS
    fleet.apply(fleet.lease("a"))
    assert unasked(fleet) == ["llama"]
    fleet.apply(reporting_pod("a", READY, reported(ReportedState.ABSENT)))
    assert unasked(fleet) == []  # no loader would fetch it


def test_no_more_models_are_fetched_at_once_than_a_node_and_the_cluster_bear() -> None:
    names = ("one", "two", "three")
    models = {name: f"/models/{name}" for name in names}
    fleet = Fleet("a", bounds=Bounds(per_node=2))
    report = Report(
        directory="/var/lib/models",
        models=tuple(
            reported(ReportedState.ABSENT, name, on_demand=True, bytes=GB).models[0]
            for name in names
        ),
    )
    fleet.apply(reporting_pod("a", READY, report))
    for name, path in models.items():
        fleet.refuse(vllm(name, model=path), "a")
    assert [len(wishes) for wishes in fleet.wishes().values()] == [2]
    fresh = Fleet("a", bounds=Bounds(in_cluster=1))
    fresh.apply(reporting_pod("a", READY, report))
    for name, path in models.items():
        fresh.refuse(vllm(name, model=path), "a")
    assert [len(wishes) for wishes in fresh.wishes().values()] == [1]


def test_what_a_tenants_loader_offers_to_its_own_pods_takes_nothing_from_others() -> None:
    """It may offer models that it never fetches, and give its Lease away to nobody."""
    bounds = Bounds(per_node=2, in_cluster=2)
    fleet = Fleet("a", bounds=bounds)
    names = ("one", "two", "three")
    offered = [reported(ReportedState.ABSENT, name, on_demand=True, bytes=GB) for name in names]
    report = msgspec.structs.replace(offered[0], models=tuple(one.models[0] for one in offered))
    fleet.apply(
        our_loader(namespace="evil"),
        reporting_pod("a", READY, report, namespace="evil"),
        loader_lease("a", time_text(fleet.now), namespace="evil", progress=disk(500)),
    )
    for name in names:
        fleet.refuse(vllm(name, model=f"/models/{name}", namespace="evil"), "a")
    fleet.refuse(vllm("good", model=f"/models/{MODEL}"), "a")
    found = fleet.wishing().wishes(fleet.pods.all())
    assert {key: len(models) for key, models in found.items()} == {
        ("evil", "a"): 2, ("inference", "a"): 1,
    }  # fmt: skip


def test_pods_of_a_namespace_do_not_wait_for_all_that_others_have_fetched() -> None:
    """A shared loader's models come one after another, some after hours."""
    fleet = Fleet("a", bounds=Bounds(per_node=10, in_cluster=2))
    names = ("m1", "m2", "m3", "m4", "m5")
    offered = [reported(ReportedState.ABSENT, name, on_demand=True, bytes=GB) for name in names]
    report = msgspec.structs.replace(offered[0], models=tuple(one.models[0] for one in offered))
    fleet.apply(our_loader(namespace="kube-system"), build_namespace("kube-system", trusted=True))
    fleet.apply(reporting_pod("a", READY, report, namespace="kube-system"))
    fleet.apply(
        loader_lease("a", time_text(fleet.now), namespace="kube-system", progress=disk(500))
    )
    for name in names[:3]:
        fleet.refuse(vllm(name, model=f"/models/{name}", namespace="tenant-a"), "a")

    def asked() -> list[str]:
        found = fleet.wishing().wishes(fleet.pods.all())
        models = [model for models in found.values() for model in models]
        wanted = Wanted(models=tuple(models))
        fleet.apply(
            loader_lease(
                "a",
                time_text(fleet.now),
                namespace="kube-system",
                progress=disk(500),
                wanted=wanted,
            )
        )
        return sorted(model.pod for model in models)

    assert asked() == ["tenant-a/m1", "tenant-a/m2"]
    for name in names[3:]:
        fleet.refuse(vllm(name, model=f"/models/{name}", namespace="tenant-b"), "a")
    for _ in range(2):  # one beyond the bound, and no more
        assert asked() == ["tenant-a/m1", "tenant-a/m2", "tenant-b/m4"]
    for one in [one for one in fleet.pods.all() if one.request.name in {"m1", "m2"}]:
        fleet.pods.drop(one.request.uid)
        fleet.state.delete(vllm(one.request.name, namespace="tenant-a"))
    assert asked() == ["tenant-a/m3", "tenant-b/m4"]


def test_many_pods_have_as_many_copies_made_as_their_memory_needs_within_the_bound() -> None:
    def waiting(fleet: Fleet) -> Fleet:
        pods: list[Pod] = [vllm(f"p{number}", memory="40Gi") for number in range(5)]
        asked = frozenset(("a", "b", "c", "d"))
        for pod in pods:
            fleet.refuse(pod, *asked)
        return fleet

    assert len(waiting(Fleet("a", "b", "c", "d")).asked()) == 3
    assert len(waiting(Fleet("a", "b", "c", "d", bounds=Bounds(copies=1))).asked()) == 1


def test_many_pods_have_as_many_copies_made_as_the_gpus_need_that_are_free() -> None:
    def asked(waiting: int, *running: Pod, gpus: int = 8) -> list[str]:
        fleet = Fleet("a", "b", "c")
        fleet.apply(*(node(name, gpus=gpus) for name in "abc"), *running)
        for number in range(waiting):
            fleet.refuse(vllm(f"p{number}", memory="1Gi", gpus=4), "a", "b", "c")
        return fleet.asked()

    assert asked(2) == ["a"]
    assert asked(3) == ["a", "b"]
    assert asked(5) == ["a", "b", "c"]
    other = vllm("other", memory="1Gi", gpus=2, model="/models/other", on="a")
    assert asked(2, other) == ["a", "b"]
    done = msgspec.structs.replace(
        other, status=msgspec.structs.replace(other.status, phase="Succeeded")
    )
    assert asked(2, done) == ["a"]


def test_where_pods_ask_for_no_gpus_one_copy_does_for_many() -> None:
    fleet = Fleet("a", "b")
    for number in range(9):
        fleet.refuse(vllm(f"p{number}", memory="1Gi"), "a", "b")
    assert fleet.asked() == ["a"]


def test_an_older_pod_that_insists_no_longer_hides_what_a_younger_one_waits_for() -> None:
    """Both are of one template, and can fetch by themselves; the older one does by now."""
    fleet = Fleet("a")
    fleet.context = Context(state=fleet.state, policy=Policy(required_timeout=100.0))
    plain = fleet.context.request(vllm()).workload
    fetches = tuple(msgspec.structs.replace(r, can_fetch=True) for r in plain.references)
    template = msgspec.structs.replace(plain, references=fetches)
    for name, age in (("older", 101.0), ("younger", 1.0)):
        fleet.refuse(vllm(name), "a", created=time_text(fleet.now - age))
        waiting = fleet.pods.get(f"uid-{name}")
        assert waiting is not None
        request = msgspec.structs.replace(
            waiting.request, workload=template, created=fleet.now - age
        )
        fleet.pods.add(msgspec.structs.replace(waiting, request=request))
    (wish,) = fleet.wishes()["inference", "a"]
    assert wish.pod == "inference/younger"


def test_wishes_in_a_lease_without_a_loader_are_none_of_those_that_are_counted() -> None:
    fleet = Fleet("a")
    fleet.refuse(vllm(model=f"/models/{MODEL}"), "a")
    forged = tuple(
        WantedModel(path=f"m{n}", until=time_text(fleet.now + 60), pod="inference/llama")
        for n in range(50)
    )
    wanted = Wanted(models=forged)
    fleet.apply(loader_lease("b", time_text(fleet.now), progress=disk(500), wanted=wanted))
    found = changes(fleet.state, fleet.pods, fleet.context.policy, Bounds(in_cluster=1))
    assert set(found.leases) == {("inference", "a")}
