"""Estimated start: laws of the formula, and where each strategy's parts come from."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extender.cluster.holdings import Evidence, Holding, ModelState
from extender.cluster.ledger import OPEN_LATELY
from extender.cluster.tiers import Tier
from extender.kube.objects import KubeObject, Pod
from extender.placement import estimate
from extender.placement.estimate import Start, bytes_from_name, from_cache, model_bytes
from extender.placement.policy import GB, Bandwidths, Policy
from extender.report import Disk, Transfer
from extender.workload.model import ModelReference
from tests.builders import (
    LOADING,
    READY,
    STOPPED,
    claim,
    loader,
    loader_pod,
    node,
    pod,
    vllm,
)
from tests.placement.situations import (
    IMAGE,
    annotated,
    cluster,
    copied_to_memory,
    from_claim,
    from_hub,
    from_image,
    judge,
    provides,
)

SIZES = st.integers(1, 4 * 10**12)
SPEEDS = st.floats(0.001, 10_000)
POLICIES = st.builds(
    Policy,
    engine_start=st.floats(0, 86_400),
    bandwidths=st.builds(
        Bandwidths,
        page_cache=SPEEDS,
        disk=SPEEDS,
        shared_volume=SPEEDS,
        registry=SPEEDS,
        hub=SPEEDS,
    ),
)
STATES = st.sampled_from([*ModelState, None])


def held(state: ModelState | None) -> Holding | None:
    """Return a holding in that state; None for no holding at all."""
    if state is None:
        return None
    return Holding(path="/m", state=state, evidence=Evidence.VERIFIED, witness="w")


Estimator = Callable[[int, bool, ModelState | None, Policy], Start]
ESTIMATORS: dict[str, Estimator] = {
    "cache": lambda size, warm, state, policy: estimate.from_cache(
        size, held(state), warm=warm, policy=policy
    ),
    "claim": lambda size, warm, _, policy: estimate.from_claim(size, warm=warm, policy=policy),
    "image": lambda size, there, _, policy: estimate.from_image(size, present=there, policy=policy),
    "hub": lambda size, _, __, policy: estimate.from_hub(size, policy),
}
estimators = pytest.mark.parametrize("source", ESTIMATORS)


@estimators
@given(size=SIZES, warm=st.booleans(), state=STATES, policy=POLICIES)
def test_an_estimate_is_a_finite_time_and_no_part_is_negative(
    source: str, size: int, state: ModelState | None, policy: Policy, *, warm: bool
) -> None:
    start = ESTIMATORS[source](size, warm, state, policy)
    parts = (start.fetch, start.read, start.engine, start.penalty)
    assert all(math.isfinite(part) and part >= 0 for part in parts)
    assert start.seconds == pytest.approx(sum(parts))
    assert start.seconds >= policy.engine_start


@estimators
@given(
    sizes=st.tuples(SIZES, SIZES).map(sorted),
    warm=st.booleans(),
    state=STATES,
    policy=POLICIES,
)
def test_a_larger_model_never_starts_sooner(
    source: str, sizes: list[int], state: ModelState | None, policy: Policy, *, warm: bool
) -> None:
    small, large = (ESTIMATORS[source](size, warm, state, policy).seconds for size in sizes)
    assert small <= large


@estimators
@given(
    size=SIZES,
    warm=st.booleans(),
    state=STATES,
    policy=POLICIES,
    tier=st.sampled_from(msgspec.structs.fields(Bandwidths)).map(lambda field: field.name),
    factor=st.floats(1, 100),
)
def test_a_faster_tier_never_makes_a_start_later(
    *,
    source: str,
    size: int,
    warm: bool,
    state: ModelState | None,
    policy: Policy,
    tier: str,
    factor: float,
) -> None:
    faster = getattr(policy.bandwidths, tier) * factor
    speeds = msgspec.structs.replace(policy.bandwidths, **{tier: faster})
    improved = msgspec.structs.replace(policy, bandwidths=speeds)
    make = ESTIMATORS[source]
    now, before = make(size, warm, state, improved).seconds, make(size, warm, state, policy).seconds
    assert now <= before


@given(size=SIZES, policy=POLICIES)
def test_less_to_fetch_is_never_later(size: int, policy: Policy) -> None:
    """Ready, half there, absent: the order of missing bytes is the order of starts."""
    ready, loading, absent, failed, nothing = (
        estimate.from_cache(size, held(state), warm=False, policy=policy).seconds
        for state in (
            ModelState.READY,
            ModelState.LOADING,
            ModelState.ABSENT,
            ModelState.FAILED,
            None,
        )
    )
    assert ready <= loading <= absent == failed == nothing


@given(size=SIZES, policy=POLICIES, warm=st.booleans(), warm_stale=st.booleans())
def test_a_stale_or_leaving_copy_comes_after_every_one_that_stays(
    size: int, policy: Policy, *, warm: bool, warm_stale: bool
) -> None:
    """Where memory is read no slower than disk, as it is everywhere."""
    assume(policy.bandwidths.page_cache >= policy.bandwidths.disk)
    ready = estimate.from_cache(size, held(ModelState.READY), warm=warm, policy=policy)
    there = held(ModelState.READY)
    assert there is not None
    for last in (held(ModelState.STALE), msgspec.structs.replace(there, leaves_at=1e9)):
        start = estimate.from_cache(size, last, warm=warm_stale, policy=policy)
        assert start.seconds > ready.seconds


WARM = Start(read=16 / 6, engine=20, tier=Tier.PAGE_CACHE)
SHARED = Start(read=32, engine=20, tier=Tier.SHARED_VOLUME)


def test_the_parts_are_what_the_formula_says() -> None:
    """16 GB at the default bandwidths: hub 0.2, disk 2, page cache 6, shared volume 0.5 GB/s."""
    size, policy = 16 * GB, Policy()

    def cache(state: ModelState | None, *, warm: bool = False) -> Start:
        return estimate.from_cache(size, held(state), warm=warm, policy=policy)

    assert cache(ModelState.READY) == Start(read=8, engine=20, tier=Tier.DISK)
    assert cache(ModelState.READY, warm=True) == WARM
    assert cache(ModelState.STALE) == Start(read=8, engine=20, penalty=5)
    assert cache(ModelState.LOADING) == Start(fetch=40, read=8, engine=20, tier=Tier.HUB)
    assert cache(None) == Start(fetch=80, read=8, engine=20, tier=Tier.HUB)
    assert estimate.from_claim(size, warm=False, policy=policy) == SHARED
    assert estimate.from_claim(size, warm=True, policy=policy) == WARM
    there, pulled = (estimate.from_image(size, present=p, policy=policy) for p in (True, False))
    assert there == Start(read=8, engine=20, tier=Tier.DISK)
    assert pulled == Start(fetch=80, read=8, engine=20, tier=Tier.REGISTRY)
    downloaded = estimate.from_hub(size, policy)
    assert downloaded == Start(fetch=80, read=16 / 6, engine=20, tier=Tier.HUB)


# -- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 16),
        ("/models/llama-3.1-70b-instruct", 140),
        ("Qwen/Qwen2.5-0.5B", 1),
        ("Qwen/Qwen3-30B-A3B", 60),
        ("mistralai/Mixtral-8x7B-v0.1", 112),
        ("neuralmagic/Llama-3.1-8B-FP8", 8),
        ("TheBloke/Llama-2-13B-AWQ", 6.5),
        ("unsloth/llama-3-8b-bnb-4bit", 4),
        ("llama-3.1-8b-instruct.q8_0.gguf", 8),
        ("org/model-4bit", None),
        ("org/bert-base", None),
        ("org/model-0b", None),
        ("org/v1.2.8b", None),
        ("", None),
    ],
)
def test_a_size_is_guessed_from_the_parameters_in_a_name(
    name: str, gigabytes: float | None
) -> None:
    assert bytes_from_name(name) == (None if gigabytes is None else int(gigabytes * GB))


@given(st.text())
def test_any_name_gives_a_positive_size_or_none(name: str) -> None:
    size = bytes_from_name(name)
    assert size is None or size > 0


@pytest.mark.parametrize(
    ("proven", "stated", "name", "expected"),
    [
        (3, 5, "a/model-8b", 3),
        (None, 5, "a/model-8b", 5),
        (None, None, "a/model-8b", 16 * GB),
        (None, None, "a/model", 7),
        (None, None, None, 7),
    ],
    ids=["proven", "stated", "named", "default", "nothing at all"],
)
def test_the_surest_size_is_taken(
    proven: int | None, stated: int | None, name: str | None, expected: int
) -> None:
    reference = ModelReference(model=name, bytes=stated)
    assert model_bytes(reference, proven, Policy(default_model_bytes=7)) == expected


# -- a pod on a node -----------------------------------------------------------------------------


def start(asker: Pod, *objects: KubeObject, policy: Policy | None = None) -> Start:
    """Return the estimate for node ``n``."""
    made = judge(asker, cluster(*objects), policy)
    return made.start(made.view.nodes["n"])


CACHE = (node("n"), loader())


def test_a_cache_counts_as_it_stands() -> None:
    """The 8B model is 16 GB by its name."""

    declared = Start(read=8, engine=20, evidence=Evidence.DECLARED)
    there = msgspec.structs.replace(declared, tier=Tier.DISK)
    coming = msgspec.structs.replace(declared, fetch=40, tier=Tier.HUB)
    left = msgspec.structs.replace(declared, penalty=5)
    for status, expected in ((READY, there), (LOADING, coming), (STOPPED, left)):
        assert start(vllm(), *CACHE, loader_pod("n", status)) == expected
    assert start(vllm(), *CACHE) == Start(fetch=80, read=8, engine=20, tier=Tier.HUB)


def test_a_running_pod_that_has_the_model_open_keeps_it_warm() -> None:
    objects = (*CACHE, loader_pod("n", READY), vllm("other", on="n"))
    warm = msgspec.structs.replace(WARM, evidence=Evidence.DECLARED)
    assert start(vllm(), *objects) == warm


CLAIM = {"persistentVolumeClaim": {"claimName": "model-store"}}


def read_one_after_another(*sizes: int, memory: str) -> list[Start]:
    """Let a pod each read a model of so many billion parameters and go; return what is left.

    The answers are for each of the models, in the order read.
    """
    names = [f"llama-{number}-{size}b" for number, size in enumerate(sizes)]
    held_there = provides("\n".join(f"/var/lib/models/{name}" for name in names))
    state = cluster(node("n", memory, annotations=held_there))
    for name in names:
        reader = vllm(name, model=f"/models/{name}", on="n")
        state.upsert(reader)
        state.delete(reader)
    asked = (judge(vllm("asker", model=f"/models/{name}"), state) for name in names)
    return [one.start(state.view().nodes["n"]) for one in asked]


def test_a_model_whose_reader_is_gone_stays_in_the_page_cache_where_there_is_room() -> None:
    (start_of,) = read_one_after_another(8, memory="64Gi")
    assert start_of.tier is Tier.PAGE_CACHE
    (start_of,) = read_one_after_another(8, memory="8Gi")
    assert start_of.tier is Tier.DISK


def test_what_was_read_later_takes_the_room_of_what_was_read_before() -> None:
    tiers = [one.tier for one in read_one_after_another(8, 8, memory="24Gi")]
    assert tiers == [Tier.DISK, Tier.PAGE_CACHE]


def test_of_many_models_that_were_read_only_the_last_few_count_as_cached() -> None:
    tiers = [one.tier for one in read_one_after_another(*[1] * 5, memory="640Gi")]
    assert tiers == [Tier.DISK] * (5 - OPEN_LATELY) + [Tier.PAGE_CACHE] * OPEN_LATELY


def test_what_a_claim_held_is_gone_with_its_last_reader() -> None:
    reader = vllm("reader", volume=CLAIM, on="n")
    state = cluster(node("n"), claim(), reader)
    asker = vllm("asker", volume=CLAIM)
    assert judge(asker, state).start(state.view().nodes["n"]) == WARM
    state.delete(reader)
    assert judge(asker, state).start(state.view().nodes["n"]) == SHARED


def test_a_heartbeat_of_the_node_forgets_nothing_and_a_new_node_of_the_name_all() -> None:
    state = cluster(*CACHE, loader_pod("n", READY), vllm("other", on="n"))
    state.delete(vllm("other", on="n"))
    for _ in range(2):
        state.upsert(node("n", labels={"changed": "since"}))
        assert judge(vllm(), state).start(state.view().nodes["n"]).tier is Tier.PAGE_CACHE
    state.delete(node("n"))
    state.upsert(node("n"))
    assert judge(vllm(), state).start(state.view().nodes["n"]).tier is Tier.DISK


def test_another_reader_of_the_same_claim_keeps_the_model_warm_and_one_elsewhere_does_not() -> None:
    reader = msgspec.structs.replace(
        from_claim(), spec=msgspec.structs.replace(from_claim().spec, node_name="n")
    )
    running = msgspec.structs.replace(reader, status=vllm(on="n").status)
    asker = vllm("asker", volume={"persistentVolumeClaim": {"claimName": "model-store"}})
    other = vllm("other", volume={"persistentVolumeClaim": {"claimName": "other-store"}})
    assert start(asker, node("n"), claim(), running) == WARM
    assert start(other, node("n"), claim(), running) == SHARED


def test_an_image_is_pulled_where_it_is_not_and_weighs_what_the_node_says() -> None:
    there = node("n", images={IMAGE: 4 * GB})
    assert start(from_image(), there) == Start(read=2, engine=20, tier=Tier.DISK)
    assert start(from_image(), node("n")) == Start(fetch=80, read=8, engine=20, tier=Tier.REGISTRY)


def test_a_copy_to_memory_starts_as_soon_as_what_it_is_copied_from() -> None:
    objects = (*CACHE, loader_pod("n", READY))
    assert start(copied_to_memory(), *objects) == start(vllm(), *objects)


def test_a_download_is_the_same_wherever_it_lands() -> None:
    made = judge(from_hub(), cluster(*CACHE, node("m"), loader_pod("n", READY)))
    assert {made.start(n).seconds for n in made.view.nodes.values()} == {80 + 16 / 6 + 20}
    assert not made.has_preference


def test_a_cache_of_which_nothing_is_known_costs_nothing() -> None:
    assert start(vllm(), node("n")) == Start(engine=20)
    assert not judge(vllm(), cluster(node("n"))).has_preference


def test_a_model_that_the_author_says_to_ignore_is_not_waited_for() -> None:
    assert start(annotated(vllm(), need="ignore"), *CACHE) == Start(engine=20)


def test_several_models_are_read_one_after_another_and_the_engine_starts_once() -> None:
    drafted = pod(
        "drafted",
        spec={
            "containers": [
                {
                    "name": "vllm",
                    "image": "vllm/vllm-openai:v0.11.0",
                    "args": [
                        "--model=meta-llama/Llama-3.1-8B-Instruct",
                        '--speculative-config={"model": "meta-llama/Llama-3.2-1B"}',
                    ],
                }
            ]
        },
    )
    both = start(drafted, node("n"))
    assert both.fetch == pytest.approx(80 + 10)
    assert both.read == pytest.approx(18 / 6)
    assert both.engine == 20


LOADING_HOLDING = Holding(
    path="/m", state=ModelState.LOADING, evidence=Evidence.VERIFIED, witness="w", entry="m"
)


def test_bytes_in_flight_count_at_the_rate_that_was_measured() -> None:
    """Not as half of the model at a rate that somebody configured."""
    transfer = Transfer(path="m", bytes_done=12 * GB, bytes_total=16 * GB, bytes_per_second=1e9)
    start = from_cache(16 * GB, LOADING_HOLDING, warm=False, policy=Policy(), transfer=transfer)
    assert start.fetch == 4


@pytest.mark.parametrize("rate", [0.0, 1.0, 1e15])
def test_a_rate_that_cannot_be_believed_counts_as_configured(rate: float) -> None:
    transfer = Transfer(path="m", bytes_done=12 * GB, bytes_total=16 * GB, bytes_per_second=rate)
    start = from_cache(16 * GB, LOADING_HOLDING, warm=False, policy=Policy(), transfer=transfer)
    assert start.fetch == 4 / Policy().bandwidths.hub


@pytest.mark.parametrize(("measured", "counts"), [(4e9, 4.0), (None, 2.0), (0.0, 2.0), (1e12, 2.0)])
def test_a_disk_counts_as_fast_as_it_was_measured_if_that_can_be(
    measured: float | None, counts: float
) -> None:
    disk = Disk(free_bytes=0, total_bytes=1, read_bytes_per_second=measured)
    start = from_cache(16 * GB, None, warm=False, policy=Policy(), disk=disk)
    assert start.read == 16 / counts
