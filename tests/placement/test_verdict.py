"""One node's answer for one pod: fits or not, the reason, what it rests on."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest

from extender.cluster.holdings import Evidence, ModelState
from extender.cluster.memory import VolumeCounting
from extender.kube.decode import convert
from extender.kube.objects import Job, KubeObject, Node, Pod, PodStatus
from extender.placement.images import image_names
from extender.placement.policy import OnStale, Policy
from extender.placement.reasons import TEXTS, Reason
from extender.placement.verdict import Verdict
from extender.report import Progress, Report, ReportedState, Transfer, Unlisted
from tests.builders import (
    CRASHING,
    DOWNLOAD,
    LOADING,
    READY,
    STOPPED,
    claim,
    job,
    loader,
    loader_lease,
    loader_pod,
    namespace,
    node,
    our_loader,
    relist,
    reported,
    reporting_pod,
    storage_class,
    tmpfs,
    vllm,
    volume,
)
from tests.placement.situations import (
    GI,
    IMAGE,
    ZONE,
    Clock,
    annotated,
    cluster,
    copied_to_memory,
    from_claim,
    from_hub,
    from_image,
    judge,
    memory_pod,
    plain,
    provides,
)

ANOTHER_MODEL = DOWNLOAD.replace("llama-3.1-8b-instruct", "qwen3-8b")


def on_n(asker: Pod, *objects: KubeObject, clock: Clock | None = None) -> Verdict:
    """Return what is said of node ``n``."""
    return judge(asker, cluster(*objects, clock=clock)).verdict("n")


def test_a_download_under_way_is_told_in_words_and_never_on_the_wire() -> None:
    loading = reported(ReportedState.LOADING, bytes=16 * 10**9)
    transfer = Transfer(
        path="llama-3.1-8b-instruct",
        bytes_done=41 * 2**20,
        bytes_total=100 * 2**20,
        bytes_per_second=2**20,
    )
    lease = loader_lease("n", "2026-01-01T00:15:00Z", progress=Progress(transfers=(transfer,)))
    verdict = on_n(vllm(), node("n"), our_loader(), reporting_pod("n", READY, loading), lease)
    assert verdict.reason is Reason.MODEL_LOADING
    assert verdict.detail.endswith("41 % of 100.0 MiB, 59 s left")
    assert TEXTS[Reason.MODEL_LOADING] == "node cache is still loading the model"


def test_a_node_whose_report_had_no_room_for_the_model_is_not_refused() -> None:
    full = Report(directory="/var/lib/models", unlisted=Unlisted(count=1, digest="sha256:0"))
    verdict = on_n(vllm(), node("n"), our_loader(), reporting_pod("n", READY, full))
    assert (verdict.reason, verdict.state, verdict.evidence) == (None, None, None)


# -- strategy node-cache -------------------------------------------------------------------------


class Cached(NamedTuple):
    """What is known of the cache on node ``n``, and what the pod that requires it is told."""

    objects: tuple[KubeObject, ...]
    reason: Reason | None
    state: ModelState | None
    evidence: Evidence | None


NODE_CACHE: dict[str, Cached] = {
    "ready": Cached(
        (node("n"), loader(), loader_pod("n", READY)), None, ModelState.READY, Evidence.DECLARED
    ),
    "still loading": Cached(
        (node("n"), loader(), loader_pod("n", LOADING)),
        Reason.MODEL_LOADING,
        ModelState.LOADING,
        Evidence.DECLARED,
    ),
    "the loader crashes": Cached(
        (node("n"), loader(), loader_pod("n", CRASHING)),
        Reason.MODEL_FAILED,
        ModelState.FAILED,
        Evidence.DECLARED,
    ),
    "the loader stopped five minutes ago": Cached(
        (node("n"), loader(), loader_pod("n", STOPPED)),
        None,
        ModelState.STALE,
        Evidence.DECLARED,
    ),
    "no loader pod on this node": Cached(
        (node("n"), node("m"), loader(), loader_pod("m", READY)),
        Reason.MODEL_ABSENT,
        ModelState.ABSENT,
        None,
    ),
    "the loader loads another model": Cached(
        (node("n"), loader(script=ANOTHER_MODEL), loader_pod("n", READY, script=ANOTHER_MODEL)),
        Reason.MODEL_ABSENT,
        ModelState.ABSENT,
        None,
    ),
    "a directory that nobody is known to fill": Cached((node("n"),), None, None, None),
    "a loader of a namespace that is not trusted": Cached(
        (
            node("n"),
            loader(namespace="tenant"),
            loader_pod("n", LOADING, namespace="tenant"),
        ),
        None,
        None,
        None,
    ),
    "a loader of a namespace that is labelled as trusted": Cached(
        (
            node("n"),
            namespace("tenant", trusted=True),
            loader(namespace="tenant"),
            loader_pod("n", READY, namespace="tenant"),
        ),
        None,
        ModelState.READY,
        Evidence.DECLARED,
    ),
    "an untrusted loader does not make a trusted one's failure good": Cached(
        (
            node("n"),
            loader(),
            loader_pod("n", CRASHING),
            loader(namespace="tenant"),
            loader_pod("n", READY, namespace="tenant"),
        ),
        Reason.MODEL_FAILED,
        ModelState.FAILED,
        Evidence.DECLARED,
    ),
    "baked into the machine": Cached(
        (node("n", annotations=provides()),), None, ModelState.READY, Evidence.DECLARED
    ),
    "baked into other machines": Cached(
        (node("n"), node("m", annotations=provides())),
        Reason.MODEL_ABSENT,
        ModelState.ABSENT,
        None,
    ),
    "baked in, whatever the loader does": Cached(
        (node("n", annotations=provides()), loader(), loader_pod("n", CRASHING)),
        None,
        ModelState.READY,
        Evidence.DECLARED,
    ),
    "the directory above is baked in": Cached(
        (node("n", annotations=provides("/var/lib/models")),),
        None,
        ModelState.READY,
        Evidence.DECLARED,
    ),
    "a directory that only begins alike is baked in": Cached(
        (node("n", annotations=provides("/var/lib/mod")),), None, None, None
    ),
}


@pytest.mark.parametrize("case", NODE_CACHE)
def test_a_required_model_fits_where_its_cache_is_vouched_for(case: str) -> None:
    objects, reason, state, evidence = NODE_CACHE[case]
    verdict = on_n(vllm(), *objects)
    assert verdict.reason is reason
    assert verdict.fits is (reason is None)
    assert (verdict.state, verdict.evidence) == (state, evidence)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ("2026-01-01T00:20:00Z", None),
        ("2026-01-01T00:20:01Z", Reason.MODEL_STALE),
    ],
    ids=["to the last second of the grace", "not a second longer"],
)
def test_files_of_a_stopped_loader_pass_for_the_grace(now: str, reason: Reason | None) -> None:
    """The loader stopped being Ready at 00:10:00; the grace is ten minutes."""
    objects = (node("n"), loader(), loader_pod("n", STOPPED))
    verdict = on_n(vllm(), *objects, clock=Clock(now))
    assert verdict.reason is reason
    assert verdict.state is ModelState.STALE


def test_files_of_a_deleted_loader_pod_pass_for_the_grace_from_its_deletion() -> None:
    clock = Clock()
    state = cluster(node("n"), loader(), loader_pod("n", READY), clock=clock)
    state.delete(loader_pod("n", READY))
    verdicts = []
    for later in (0, 600, 601):
        clock.set("2026-01-01T00:15:00Z")
        clock.now += later
        verdicts.append(judge(vllm(), state).verdict("n"))
    assert [verdict.reason for verdict in verdicts] == [None, None, Reason.MODEL_STALE]
    assert {verdict.state for verdict in verdicts} == {ModelState.STALE}


def test_a_loader_that_starts_again_after_it_was_ready_leaves_stale_files() -> None:
    state = cluster(node("n"), loader(), loader_pod("n", READY, uid="old"))
    state.upsert(loader_pod("n", LOADING, uid="new"))
    state.delete(loader_pod("n", READY, uid="old"))
    verdict = judge(vllm(), state).verdict("n")
    assert (verdict.fits, verdict.state) == (True, ModelState.STALE)


def test_a_model_that_leaves_its_node_takes_pods_until_minutes_before_and_comes_last() -> None:
    clock = Clock()
    leaving = reported(leaves_at="2026-01-01T01:00:00Z", reason="the catalog does not have it here")
    state = cluster(node("n"), node("stays"), our_loader(), clock=clock)
    state.upsert(reporting_pod("n", READY, leaving))
    state.upsert(reporting_pod("stays", READY, reported()))
    verdicts = []
    for now in ("2026-01-01T00:55:00Z", "2026-01-01T00:55:01Z", "2026-01-01T02:00:00Z"):
        clock.set(now)
        verdicts.append(judge(vllm(), state).verdict("n"))
    assert [verdict.reason for verdict in verdicts] == [None, *[Reason.MODEL_ABSENT] * 2]
    assert {verdict.state for verdict in verdicts} == {ModelState.READY}
    assert verdicts[1].detail == (
        "inference/model-cache-loader-n: the catalog does not have it here"
    )
    stays = judge(vllm(), state).verdict("stays")
    assert stays.fits
    assert verdicts[0].start is not None
    assert stays.start is not None
    assert stays.start.seconds < verdicts[0].start.seconds


@pytest.mark.parametrize("need", ["preferred", "ignore"])
def test_a_model_that_is_not_required_refuses_no_node(need: str) -> None:
    objects = (node("n"), loader(), loader_pod("n", CRASHING))
    assert on_n(annotated(vllm(), need=need), *objects).fits


def test_a_directory_made_where_it_is_missing_is_no_requirement() -> None:
    """Something may fill a writable DirectoryOrCreate; what cannot be told refuses nothing."""
    asker = vllm(volume={"hostPath": {"path": "/var/lib/models", "type": "DirectoryOrCreate"}})
    container = asker.spec.containers[0]
    mount = msgspec.structs.replace(container.volume_mounts[0], read_only=False)
    container = msgspec.structs.replace(container, volume_mounts=(mount,))
    spec = msgspec.structs.replace(asker.spec, containers=(container,))
    asker = msgspec.structs.replace(asker, spec=spec)
    assert on_n(asker, node("n"), loader(), loader_pod("n", CRASHING)).fits


def test_the_detail_of_a_failure_names_the_loader_pod_and_the_kubelets_reason() -> None:
    verdict = on_n(vllm(), node("n"), loader(), loader_pod("n", CRASHING))
    assert verdict.detail == "inference/model-loader-n: CrashLoopBackOff, OOMKilled exit 137"


# -- strategy shared-volume ----------------------------------------------------------------------

PENDING = {"phase": "Pending", "volumeName": "", "storageClassName": "late"}
MISSING_ZONE = node("n")
IN_ZONE_A = node("n", labels={ZONE: "a"})


PART = DOWNLOAD.replace("/models/llama-3.1-8b-instruct", "/models/llama-3.1-8b-instruct/adapters")


def running(asker: Pod, on: str) -> Pod:
    """Return a pod like another one, Ready on a node."""
    metadata = msgspec.structs.replace(asker.metadata, name="reader", uid="uid-reader")
    ready = convert({"phase": "Running", "conditions": READY["conditions"]}, PodStatus)
    spec = msgspec.structs.replace(asker.spec, node_name=on)
    return Pod(metadata=metadata, spec=spec, status=ready)


def foreign(made: Job) -> Job:
    """Return the Job as one of another namespace."""
    metadata = msgspec.structs.replace(made.metadata, namespace="tenant")
    return msgspec.structs.replace(made, metadata=metadata)


SHARED_VOLUME: dict[str, tuple[tuple[KubeObject, ...], Reason | None]] = {
    "the claim does not exist": ((node("n"),), Reason.CLAIM_MISSING),
    "bound": ((node("n"), claim()), None),
    "bound, to a volume of no node in particular": (
        (node("n"), claim(), volume("pv-model-store")),
        None,
    ),
    "not bound": ((node("n"), claim(phase="Pending", volumeName="")), Reason.CLAIM_NOT_BOUND),
    "not bound, of a class that binds at once": (
        (node("n"), claim(**PENDING), storage_class("late", mode="Immediate")),
        Reason.CLAIM_NOT_BOUND,
    ),
    "waiting for its first consumer": ((node("n"), claim(**PENDING), storage_class("late")), None),
    "has lost its volume": (
        (node("n"), claim(phase="Lost", storageClassName="late"), storage_class("late")),
        Reason.CLAIM_NOT_BOUND,
    ),
    "volume of the node's zone": (
        (IN_ZONE_A, claim(), volume("pv-model-store", zone="a")),
        None,
    ),
    "volume of another zone": (
        (IN_ZONE_A, claim(), volume("pv-model-store", zone="b")),
        Reason.CLAIM_UNREACHABLE,
    ),
    "volume of a zone, and a node that is in none": (
        (MISSING_ZONE, claim(), volume("pv-model-store", zone="b")),
        Reason.CLAIM_UNREACHABLE,
    ),
    "waiting, for consumers of the node's zone": (
        (IN_ZONE_A, claim(**PENDING), storage_class("late", zone="a")),
        None,
    ),
    "waiting, for consumers of another zone": (
        (IN_ZONE_A, claim(**PENDING), storage_class("late", zone="b")),
        Reason.CLAIM_UNREACHABLE,
    ),
    "a job is writing the model": ((node("n"), claim(), job("download")), Reason.CLAIM_FILLING),
    "a suspended job would write the model": (
        (node("n"), claim(), job("download", ("Suspended",))),
        Reason.CLAIM_FILLING,
    ),
    "the job failed": (
        (node("n"), claim(), job("download", ("Failed",))),
        Reason.CLAIM_FILL_FAILED,
    ),
    "the job failed and another one tries": (
        (node("n"), claim(), job("download", ("Failed",)), job("again")),
        Reason.CLAIM_FILLING,
    ),
    "the job completed": ((node("n"), claim(), job("download", ("Complete",))), None),
    "the job completed once and runs again": (
        (node("n"), claim(), job("first", ("Complete",)), job("refresh")),
        None,
    ),
    "the job completed once and failed the second time": (
        (node("n"), claim(), job("first", ("Complete",)), job("refresh", ("Failed",))),
        None,
    ),
    "a job is writing another model": (
        (node("n"), claim(), job("download", script=ANOTHER_MODEL)),
        None,
    ),
    "a job is writing another model to the claim's root": (
        (node("n"), claim(), job("download", script="hf download a/b --local-dir /models")),
        None,
    ),
    "a job is copying nobody knows what to the claim's root": (
        (node("n"), claim(), job("download", script="rsync -a /x/ /models/")),
        Reason.CLAIM_FILLING,
    ),
    "the job completed, and another one writes a part of it": (
        (node("n"), claim(), job("download", ("Complete",)), job("adapter", script=PART)),
        None,
    ),
    "a job runs again, and a ready pod reads the model": (
        (node("n"), node("m"), claim(), job("refresh"), running(from_claim(), "m")),
        None,
    ),
    "a job of another namespace writes a claim of that name": (
        (node("n"), claim(), foreign(job("download"))),
        None,
    ),
    "a job was never seen": ((node("n"), claim()), None),
}


@pytest.mark.parametrize("case", SHARED_VOLUME)
def test_a_required_model_in_a_claim_fits_where_the_claim_can_be_opened_and_is_filled(
    case: str,
) -> None:
    objects, reason = SHARED_VOLUME[case]
    assert on_n(from_claim(), *objects).reason is reason


@pytest.mark.parametrize("need", ["preferred", "ignore"])
def test_a_claim_that_is_not_required_refuses_no_node(need: str) -> None:
    assert on_n(annotated(from_claim(), need=need), node("n")).fits


# -- strategy memory -----------------------------------------------------------------------------

EMPTY = (node("n", "64Gi"),)
FORTY_TAKEN = (node("n", "64Gi"), tmpfs("other", size="39Gi", memory="1Gi", on="n"))
OVERCOMMITTED = (node("n", "64Gi"), tmpfs("other", size="70Gi", memory="1Gi", on="n"))

# name -> (pod, what is there, bytes missing)
MEMORY: dict[str, tuple[Pod, tuple[KubeObject, ...], int]] = {
    "fits an empty node": (memory_pod(request="1Gi", size="20Gi"), EMPTY, 0),
    "fits to the last byte": (memory_pod(request="1Gi", size="23Gi"), FORTY_TAKEN, 0),
    "lacks one gibibyte": (memory_pod(request="1Gi", size="24Gi"), FORTY_TAKEN, GI),
    "is larger than the node": (memory_pod(request="1Gi", size="100Gi"), EMPTY, 37 * GI),
    "has no sizeLimit: capacity, not use": (memory_pod(request="1Gi"), FORTY_TAKEN, 0),
    "is shared memory: capacity, not use": (
        memory_pod(request="1Gi", size="60Gi", mount="/dev/shm"),
        FORTY_TAKEN,
        0,
    ),
    "can take no more than the pod's limit": (
        memory_pod(request="1Gi", size="60Gi", limit="10Gi"),
        FORTY_TAKEN,
        0,
    ),
    "has a limit that is too much as well": (
        memory_pod(request="1Gi", size="60Gi", limit="30Gi"),
        FORTY_TAKEN,
        6 * GI,
    ),
    "has a request that other pods' volumes leave no room for": (
        vllm(memory="32Gi", volume={"emptyDir": {}}),
        FORTY_TAKEN,
        8 * GI,
    ),
    "asks for nothing, on a node that is over-committed": (plain(), OVERCOMMITTED, 0),
    "asks for little, on a node that is over-committed": (
        memory_pod(request="1Gi"),
        OVERCOMMITTED,
        8 * GI,
    ),
}


@pytest.mark.parametrize("case", MEMORY)
def test_memory_fits_where_the_demand_is_no_more_than_what_is_left(case: str) -> None:
    asker, objects, missing = MEMORY[case]
    verdict = on_n(asker, *objects)
    assert verdict.missing == missing
    assert verdict.reason is (Reason.INSUFFICIENT_MEMORY if missing else None)


@pytest.mark.parametrize(
    ("counting", "asker", "objects", "fits"),
    [
        (VolumeCounting.STRICT, memory_pod(request="1Gi"), EMPTY, True),
        (VolumeCounting.STRICT, memory_pod(request="1Gi"), FORTY_TAKEN, False),
        (VolumeCounting.STRICT, memory_pod(size="60Gi", mount="/dev/shm"), FORTY_TAKEN, False),
        (VolumeCounting.OFF, memory_pod(request="1Gi", size="99Gi"), EMPTY, True),
    ],
    ids=[
        "strict: no sizeLimit needs a node of its own",
        "strict: and does not get one that is used",
        "strict: shared memory counts",
        "off: no volume counts",
    ],
)
def test_the_configured_counting_decides_what_a_volume_is_worth(
    counting: VolumeCounting, asker: Pod, objects: tuple[KubeObject, ...], *, fits: bool
) -> None:
    assert judge(asker, cluster(*objects, counting=counting)).verdict("n").fits is fits


def test_the_memory_before_the_pod_is_said() -> None:
    assert on_n(memory_pod(size="1Gi"), *FORTY_TAKEN).memory_free == 24 * GI


def test_a_memory_volume_needs_what_it_is_copied_from() -> None:
    here = (node("n"), loader(), loader_pod("n", READY))
    elsewhere = (node("n"), node("m"), loader(), loader_pod("m", READY))
    assert on_n(copied_to_memory(), *here).fits
    assert on_n(copied_to_memory(), *elsewhere).reason is Reason.MODEL_ABSENT


def test_the_model_is_named_before_the_memory_and_both_are_measured() -> None:
    verdict = on_n(copied_to_memory("100Gi"), node("n"), loader())
    assert verdict.reason is Reason.MODEL_ABSENT
    assert verdict.missing == 37 * GI


# -- strategies image and none -------------------------------------------------------------------


@pytest.mark.parametrize("images", [{}, {IMAGE: 16 * GI}], ids=["absent", "present"])
def test_an_image_refuses_no_node(images: dict[str, int]) -> None:
    """The kubelet pulls it; whether it is there is a matter of time alone."""
    assert on_n(from_image(), node("n", images=images)).fits


@pytest.mark.parametrize(
    ("asked", "listed"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("vllm/vllm-openai:v0.11.0", "docker.io/vllm/vllm-openai:v0.11.0"),
        ("registry.example/a/b", "registry.example/a/b:latest"),
        ("registry.example:5000/a:1", "registry.example:5000/a:1"),
        ("registry.example:5000/a", "registry.example:5000/a:latest"),
        ("localhost/a:1", "localhost/a:1"),
        ("nginx@sha256:0a", "docker.io/library/nginx@sha256:0a"),
        ("nginx:1.29@sha256:0a", "docker.io/library/nginx@sha256:0a"),
        ("registry.example:5000/a:1@sha256:0a", "registry.example:5000/a@sha256:0a"),
        ("registry.example:5000/a@sha256:0a", "registry.example:5000/a@sha256:0a"),
    ],
)
def test_an_image_is_found_under_the_name_that_nodes_list(asked: str, listed: str) -> None:
    assert listed in image_names(asked)


@pytest.mark.parametrize("asker", [plain(), from_hub()], ids=["no model", "model of a hub"])
@pytest.mark.parametrize("where", ["n", "never-seen"])
def test_a_pod_that_needs_nothing_of_the_node_fits_everywhere(asker: Pod, where: str) -> None:
    assert judge(asker, cluster(*OVERCOMMITTED)).verdict(where).fits


# -- what is not known, or no longer -------------------------------------------------------------

NEEDY = {
    "a required node cache": vllm(),
    "a required claim": from_claim(),
    "memory that nobody else counts": memory_pod(request="1Gi", size="2Gi"),
}
EASY = {
    "nothing": plain(),
    "a download": from_hub(),
    "an image": from_image(),
    "a preferred cache": annotated(vllm(), need="preferred"),
    "an unsized volume": memory_pod(request="1Gi"),
}
WELL = (node("n"), loader(), loader_pod("n", READY), claim())


@pytest.mark.parametrize("case", NEEDY)
def test_a_node_that_is_not_known_yet_is_refused_to_pods_that_need_certainty(case: str) -> None:
    verdict = judge(NEEDY[case], cluster(*WELL)).verdict("new")
    assert verdict.reason is Reason.NODE_UNKNOWN


@pytest.mark.parametrize("case", EASY)
def test_a_node_that_is_not_known_yet_is_good_enough_for_others(case: str) -> None:
    assert judge(EASY[case], cluster(*WELL)).verdict("new").fits


@pytest.mark.parametrize("case", [*NEEDY, *EASY])
def test_a_node_that_was_seen_to_be_deleted_is_refused_to_every_pod(case: str) -> None:
    state = cluster(*WELL)
    state.upsert(node("gone"))
    state.delete(node("gone"))
    pod = {**NEEDY, **EASY}[case]
    assert judge(pod, state).verdict("gone").reason is Reason.NODE_GONE
    assert judge(pod, state).reason("gone") is Reason.NODE_GONE
    state.upsert(node("gone"))
    assert judge(pod, state).verdict("gone").reason is not Reason.NODE_GONE


@pytest.mark.parametrize("listed", [False, True], ids=["watched", "listed"])
def test_a_node_that_cannot_be_read_any_more_is_not_taken_for_deleted(*, listed: bool) -> None:
    """Pods that need nothing of it go on: that the object is odd says nothing of the node."""
    state = cluster(*WELL)
    if listed:
        relist(state, Node, [])
    state.unreadable(Node, node("n").metadata, "spec.taints: not a list")
    assert judge(EASY["nothing"], state).verdict("n").fits


def test_a_volume_without_bound_needs_certainty_where_it_counts() -> None:
    state = cluster(*WELL, counting=VolumeCounting.STRICT)
    verdict = judge(memory_pod(request="1Gi"), state).verdict("new")
    assert verdict.reason is Reason.NODE_UNKNOWN


@pytest.mark.parametrize("where", ["n", "new"])
@pytest.mark.parametrize("case", [*NEEDY, *EASY])
def test_old_knowledge_refuses_every_node_to_pods_that_need_certainty(
    case: str, where: str
) -> None:
    asker = (NEEDY | EASY)[case]
    verdict = judge(asker, cluster(*WELL), stale=("Pod",)).verdict(where)
    assert verdict.reason is (Reason.KNOWLEDGE_STALE if case in NEEDY else None)
    assert verdict.start is None
    assert verdict.memory_free is None


@pytest.mark.parametrize("where", ["n", "new"])
@pytest.mark.parametrize("case", [*NEEDY, *EASY])
def test_old_knowledge_is_held_against_no_node_where_that_is_configured(
    case: str, where: str
) -> None:
    """Not even against a node that old knowledge does not have."""
    policy = Policy(on_stale=OnStale.NEUTRAL)
    state = cluster(node("n", "1Gi"), loader())
    assert judge((NEEDY | EASY)[case], state, policy, stale=("Node",)).verdict(where).fits


# -- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*NODE_CACHE, *SHARED_VOLUME, *MEMORY])
def test_nothing_that_only_this_program_sees_is_to_be_mended_by_evictions(case: str) -> None:
    if case in MEMORY:
        asker, objects, _ = MEMORY[case]
    elif case in NODE_CACHE:
        asker, objects = vllm(), NODE_CACHE[case].objects
    else:
        asker, objects = from_claim(), SHARED_VOLUME[case][0]
    assert on_n(asker, *objects).resolvable is False


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_text_that_counts_into_one_line(reason: Reason) -> None:
    """kube-scheduler counts equal texts: no names, no numbers, one short sentence."""
    text = TEXTS[reason]
    assert 0 < len(text) <= 80
    assert not any(letter.isdigit() for letter in text)
    assert "\n" not in text


def test_no_two_reasons_share_a_text() -> None:
    assert len(set(TEXTS.values())) == len(Reason)
