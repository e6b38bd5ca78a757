"""What loaders report of their nodes: whom it binds, when it ages, and what it may not say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from extender import report
from extender.cluster.holdings import Evidence, ModelState
from extender.cluster.inventory import Answer, Inventory
from extender.cluster.state import ClusterState
from extender.explain.inventory import inventory
from extender.kube.objects import KubeObject, Pod
from extender.report import MAX_REPORT_BYTES, Report, ReportedModel, ReportedState, Unlisted
from tests.builders import (
    CRASHING,
    HOST_MODEL,
    LOADING,
    READY,
    loader,
    loader_pod,
    namespace,
    node,
    our_loader,
    reported,
    reporting_pod,
)
from tests.clock import Clock

NOTHING = Report(directory="/var/lib/models")
NOT_READY = {**READY, "conditions": LOADING["conditions"]}


@pytest.fixture
def clock() -> Clock:
    return Clock(1_767_225_600.0)  # 2026-01-01T00:00:00Z


@pytest.fixture
def state(clock: Clock) -> ClusterState:
    made = ClusterState(clock=clock, trusted_namespaces=["infra"])
    for obj in (node("a"), node("b"), our_loader()):
        made.upsert(obj)
    return made


def asked(state: ClusterState, path: str = HOST_MODEL, by: str = "inference") -> Answer:
    return state.view().inventory.lookup(path, by)


def on(state: ClusterState, name: str = "a", path: str = HOST_MODEL) -> ModelState | None:
    """Return the state of a path on a node: None where nothing is known, absent where that is."""
    answer = asked(state, path)
    if not answer.known or (name in answer.untold and name not in answer.nodes):
        return None
    holding = answer.nodes.get(name)
    return holding.state if holding is not None else ModelState.ABSENT


def apply(state: ClusterState, *objects: KubeObject) -> None:
    for obj in objects:
        state.upsert(obj)


def test_a_report_is_the_surest_evidence_and_brings_size_and_time(state: ClusterState) -> None:
    report = reported(model="hf://a/b", bytes=16_000, proven_at="2025-12-31T23:00:00Z")
    apply(state, reporting_pod("a", READY, report))
    held = asked(state).nodes["a"]
    assert (held.state, held.evidence) == (ModelState.READY, Evidence.VERIFIED)
    assert (held.model, held.bytes, held.proven_at) == ("hf://a/b", 16_000, 1_767_222_000.0)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (ReportedState.READY, ModelState.READY),
        (ReportedState.LOADING, ModelState.LOADING),
        (ReportedState.FAILED, ModelState.FAILED),
        (ReportedState.ABSENT, ModelState.ABSENT),
    ],
)
def test_what_a_report_says_counts_at_once(
    state: ClusterState, said: ReportedState, expected: ModelState
) -> None:
    apply(state, reporting_pod("a", READY, reported()))
    apply(state, reporting_pod("a", READY, reported(said, reason="because")))
    held = asked(state).nodes["a"]
    assert (held.state, held.reason) == (expected, "because")


@pytest.mark.parametrize(
    ("said", "leaves_at"),
    [("2026-01-01T01:00:00Z", 1_767_229_200.0), (None, None), ("soon", None)],
)
def test_a_report_says_when_a_model_leaves(
    state: ClusterState, said: str | None, leaves_at: float | None
) -> None:
    apply(state, reporting_pod("a", READY, reported(leaves_at=said)))
    held = asked(state).nodes["a"]
    assert (held.state, held.leaves_at) == (ModelState.READY, leaves_at)
    assert inventory(state.view())["nodes"][0]["models"][0]["leavesAt"] == (
        said if leaves_at else None
    )


def test_what_a_report_does_not_name_is_absent(state: ClusterState) -> None:
    apply(state, reporting_pod("a", READY, reported(path="other")))
    assert on(state) is ModelState.ABSENT


def test_what_a_report_had_no_room_for_is_unknown_and_not_absent(state: ClusterState) -> None:
    models = (ReportedModel(path="other", state=ReportedState.READY),)
    cut = Report(
        directory="/var/lib/models", models=models, unlisted=Unlisted(count=3, digest="sha256:0")
    )
    apply(state, reporting_pod("a", READY, cut), reporting_pod("b", READY, reported(path="x")))
    assert on(state, "a") is None
    assert on(state, "b") is ModelState.ABSENT
    assert on(state, "a", "/var/lib/models/other") is ModelState.READY


def test_our_loader_that_has_not_reported_yet_is_loading_though_it_is_ready(
    state: ClusterState,
) -> None:
    apply(state, reporting_pod("a", READY, None))
    held = asked(state).nodes["a"]
    assert (held.state, held.reason) == (ModelState.LOADING, "its loader has not reported yet")
    assert on(state, "b") is ModelState.ABSENT


def test_our_loader_that_crashes_before_it_reported_has_failed(state: ClusterState) -> None:
    apply(state, reporting_pod("a", CRASHING, None))
    assert on(state) is ModelState.FAILED


def test_a_report_of_a_pod_that_is_not_ready_is_stale(state: ClusterState) -> None:
    apply(state, reporting_pod("a", NOT_READY, reported()))
    assert on(state) is ModelState.STALE


def test_a_rolling_update_never_makes_a_reported_model_absent(
    state: ClusterState, clock: Clock
) -> None:
    """From the old pod's end to the new pod's first report, what the old one said stands."""
    seen = []
    apply(state, reporting_pod("a", READY, reported(), uid="old"))
    steps: list[Callable[[], None]] = [
        lambda: state.upsert(reporting_pod("a", READY, reported(), uid="old", deleted=True)),
        lambda: state.delete(reporting_pod("a", READY, reported(), uid="old")),
        lambda: state.upsert(reporting_pod("a", {"phase": "Pending"}, None, uid="new")),
        lambda: state.upsert(reporting_pod("a", READY, None, uid="new")),
        lambda: state.upsert(reporting_pod("a", READY, reported(), uid="new")),
    ]
    for step in steps:
        clock.now += 1
        step()
        seen.append(on(state))
    assert seen == [ModelState.STALE] * 4 + [ModelState.READY]


def test_a_surge_of_pods_keeps_a_reported_model_ready(state: ClusterState, clock: Clock) -> None:
    """The new pod reports before its readiness is probed, and is Ready before the old one goes."""
    seen = []
    apply(state, reporting_pod("a", READY, reported(), uid="old"))
    steps: list[Callable[[], None]] = [
        lambda: state.upsert(reporting_pod("a", {"phase": "Pending"}, None, uid="new")),
        lambda: state.upsert(reporting_pod("a", NOT_READY, None, uid="new")),
        lambda: state.upsert(reporting_pod("a", NOT_READY, reported(), uid="new")),
        lambda: state.upsert(reporting_pod("a", READY, reported(), uid="new")),
        lambda: state.upsert(reporting_pod("a", READY, reported(), uid="old", deleted=True)),
        lambda: state.delete(reporting_pod("a", READY, reported(), uid="old")),
    ]
    for step in steps:
        clock.now += 1
        step()
        seen.append(on(state))
    assert seen == [ModelState.READY] * 6


def test_a_surge_of_pods_does_not_bring_back_what_the_newer_report_took_back(
    state: ClusterState, clock: Clock
) -> None:
    apply(state, reporting_pod("a", READY, reported(), uid="old"))
    clock.now += 10
    apply(state, reporting_pod("a", READY, None, uid="new"))
    assert on(state) is ModelState.READY
    apply(state, reporting_pod("a", READY, reported(ReportedState.FAILED), uid="new"))
    assert on(state) is ModelState.FAILED
    state.delete(reporting_pod("a", READY, reported(), uid="old"))
    assert on(state) is ModelState.FAILED


@pytest.mark.parametrize(
    ("status", "deleted"), [(READY, True), (NOT_READY, False)], ids=["deleted", "not Ready"]
)
def test_a_surge_of_pods_vouches_for_nothing_that_the_newer_report_leaves_out(
    state: ClusterState, clock: Clock, status: dict[str, Any], deleted: bool
) -> None:
    apply(state, reporting_pod("a", status, reported(), uid="old", deleted=deleted))
    clock.now += 10
    apply(state, reporting_pod("a", READY, None, uid="new"))
    assert on(state) is ModelState.READY
    apply(state, reporting_pod("a", READY, NOTHING, uid="new"))
    assert on(state) is ModelState.STALE


def test_what_failed_does_not_come_back_with_the_death_of_its_pod(state: ClusterState) -> None:
    apply(state, reporting_pod("a", READY, reported(ReportedState.FAILED)))
    state.delete(reporting_pod("a", READY, None))
    assert on(state) is ModelState.FAILED


def test_what_was_stale_does_not_grow_fresh_by_the_end_of_its_pod(
    state: ClusterState, clock: Clock
) -> None:
    apply(state, reporting_pod("a", NOT_READY, reported()))
    since = asked(state).nodes["a"].since
    clock.now += 1_000
    state.delete(reporting_pod("a", NOT_READY, reported()))
    assert asked(state).nodes["a"].since == since


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a report"),
        ('{"version": 2, "directory": "/var/lib/models"}', "version 2"),
        ('{"directory": "/etc"}', "mount that directory"),
        ('{"directory": "/var/lib"}', "mount that directory"),
        ('{"directory": "/var/lib/models/../../lib"}', "mount that directory"),
        ('{"directory": "/var/lib/models", "models": 5}', "$.models"),
        ('{"version": 2, "directory": "/var/lib/models", "models": [5]}', "version 2"),
        (" " * (MAX_REPORT_BYTES + 1), "more than"),
    ],
)
def test_a_report_that_cannot_be_read_or_claims_too_much_is_named_and_does_not_count(
    state: ClusterState, text: str, said: str
) -> None:
    apply(state, reporting_pod("a", READY, text))
    (name,), (problem,) = zip(*state.problems().items(), strict=True)
    assert name == "Pod inference/model-cache-loader-a"
    assert said in problem
    assert on(state) is ModelState.LOADING
    apply(state, reporting_pod("a", READY, reported()))
    assert state.problems() == {}
    assert on(state) is ModelState.READY


GOOD = '{"path": "other", "state": "ready", "bytes": 5}'


def with_entries(*entries: str) -> str:
    return f'{{"directory": "/var/lib/models", "models": [{", ".join(entries)}]}}'


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('{"path": "llama-3.1-8b-instruct", "state": "evicting"}', "$.state"),
        ('{"path": "llama-3.1-8b-instruct"}', "state"),
        ('{"path": "llama-3.1-8b-instruct", "state": "ready", "bytes": -1}', "$.bytes"),
        ('{"path": "llama-3.1-8b-instruct", "state": "ready", "bytes": 1e999}', ""),
        (
            '{"path": "llama-3.1-8b-instruct", "state": "ready", "reason": {"\\u001b": 1}}',
            "$.reason",
        ),
    ],
)
def test_a_model_whose_entry_cannot_be_read_failed_and_the_others_count(
    state: ClusterState, entry: str, said: str
) -> None:
    apply(state, reporting_pod("a", READY, reported()))
    assert on(state) is ModelState.READY
    apply(state, reporting_pod("a", READY, with_entries(GOOD, entry)))
    assert on(state, path="/var/lib/models/other") is ModelState.READY
    assert on(state, path="/var/lib/models/neither") is ModelState.ABSENT
    held = asked(state).nodes["a"]
    assert (held.state, held.evidence) == (ModelState.FAILED, Evidence.VERIFIED)
    assert said in held.reason
    (problem,) = state.problems().values()
    assert "models[1] 'llama-3.1-8b-instruct'" in problem
    assert said in problem
    assert problem.isprintable()
    apply(state, reporting_pod("a", READY, reported()))
    assert on(state) is ModelState.READY
    assert state.problems() == {}


@pytest.mark.parametrize(
    "entry",
    [
        '{"path": "../x", "state": "ready"}',
        '{"path": "", "state": "ready"}',
        '{"path": ".", "state": "ready"}',
        '{"path": "x/..", "state": "ready"}',
        '{"path": "\\u001b", "state": "ready"}',
        '{"path": 5, "state": "ready"}',
        '{"state": "ready"}',
        "null",
        "[[]]",
    ],
)
def test_an_entry_that_tells_no_path_leaves_what_the_report_does_not_name_as_unreported(
    state: ClusterState, entry: str
) -> None:
    """It may speak of any: what is not named is neither there nor absent."""
    apply(state, reporting_pod("a", READY, with_entries(GOOD, entry)))
    assert on(state, path="/var/lib/models/other") is ModelState.READY
    held = asked(state).nodes["a"]
    assert (held.state, held.evidence) == (ModelState.LOADING, Evidence.ASSUMED)
    (problem,) = state.problems().values()
    assert held.reason == problem
    assert "1 of its report's models do not count: models[1]" in problem
    assert problem.isprintable()
    assert on(state, path="/etc") is None


def test_of_two_entries_for_one_path_neither_counts(state: ClusterState) -> None:
    ready, failed = (
        f'{{"path": "{path}", "state": "{said}"}}'
        for path, said in (("llama-3.1-8b-instruct", "ready"), ("llama-3.1-8b-instruct/", "failed"))
    )
    for entries in ((ready, failed), (failed, ready), (ready, ready)):
        apply(state, reporting_pod("a", READY, with_entries(GOOD, *entries)))
        assert on(state) is ModelState.FAILED
        assert on(state, path="/var/lib/models/other") is ModelState.READY
        assert "is there twice" in "".join(state.problems().values())


def test_many_entries_that_cannot_be_read_are_counted(state: ClusterState) -> None:
    odd = [f'{{"path": "{"x" * 500}{at}"}}' for at in range(50)]
    apply(state, reporting_pod("a", READY, with_entries(*odd)))
    (problem,) = state.problems().values()
    assert "50 of its report's models" in problem
    assert len(problem) < 1_000


def test_a_report_that_is_odd_altogether_does_not_count_and_costs_little(
    state: ClusterState, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[msgspec.Raw] = []
    entry = report._entry

    def noted(raw: msgspec.Raw) -> object:
        read.append(raw)
        return entry(raw)

    monkeypatch.setattr(report, "_entry", noted)
    apply(state, reporting_pod("a", READY, with_entries(GOOD, *["5"] * 10_000)))
    (problem,) = state.problems().values()
    assert "101 of its report's models do not count" in problem
    assert on(state, path="/var/lib/models/other") is ModelState.LOADING
    assert len(read) < 200


def test_an_odd_entry_of_the_newer_of_two_pods_is_not_vouched_for_by_the_older_one(
    state: ClusterState, clock: Clock
) -> None:
    """In a rolling update both reports stand; what the newer one cannot say is not there."""
    apply(state, reporting_pod("a", READY, reported(), uid="old"))
    clock.now += 5
    odd = with_entries('{"path": "llama-3.1-8b-instruct", "state": "?"}')
    apply(state, reporting_pod("a", READY, odd, uid="new"))
    assert on(state) is ModelState.FAILED
    state.delete(reporting_pod("a", READY, reported(), uid="old"))
    assert on(state) is ModelState.FAILED


def test_what_is_wrong_with_an_object_is_told_once_for_each_text(clock: Clock) -> None:
    told: list[tuple[str, str]] = []
    state = ClusterState(
        clock=clock, name_problem=lambda name, problem: told.append((name, problem))
    )
    apply(state, our_loader(), node("a"))
    odd = reporting_pod("a", READY, with_entries("5"))
    apply(state, odd, odd, reporting_pod("a", READY, "{"), reporting_pod("a", READY, "{"))
    assert [name for name, _ in told] == ["Pod inference/model-cache-loader-a"] * 2
    assert "models[0]" in told[0][1]
    apply(state, reporting_pod("a", READY, reported()), odd)
    assert len(told) == 3


def test_the_nearest_of_a_reports_models_answers_for_a_path(state: ClusterState) -> None:
    """An old model that is kept for its grace may have one of the catalog below it."""
    models = (
        ReportedModel(path="llama-3.1-8b-instruct", state=ReportedState.READY),
        ReportedModel(path="llama-3.1-8b-instruct/b", state=ReportedState.LOADING),
    )
    apply(state, reporting_pod("a", READY, Report(directory="/var/lib/models", models=models)))
    assert on(state, path=f"{HOST_MODEL}/b/shard") is ModelState.LOADING
    assert on(state, path=f"{HOST_MODEL}/c") is ModelState.READY


def test_a_pod_whose_report_is_spoilt_is_believed_for_a_while(state: ClusterState) -> None:
    apply(state, reporting_pod("a", READY, reported()))
    apply(state, reporting_pod("a", READY, "{"))
    assert on(state) is ModelState.STALE


def labelled(pod: Pod, report: Report) -> Pod:
    """Return a foreign loader's pod with a report, as somebody's own loader may write one."""
    text = msgspec.json.encode(report).decode()
    metadata = msgspec.structs.replace(pod.metadata, annotations={"modelcache.dev/report": text})
    return msgspec.structs.replace(pod, metadata=metadata)


def test_a_report_takes_the_place_of_what_a_manifest_declares(state: ClusterState) -> None:
    apply(state, loader(), loader_pod("a", READY))
    assert asked(state).nodes["a"].evidence is Evidence.DECLARED
    apply(state, labelled(loader_pod("a", READY), reported(ReportedState.FAILED)))
    assert on(state) is ModelState.FAILED


def test_a_verified_no_beats_anothers_declared_yes(state: ClusterState) -> None:
    apply(state, loader(), loader_pod("a", READY))
    apply(state, reporting_pod("a", READY, reported(ReportedState.FAILED)))
    assert on(state) is ModelState.FAILED


def test_of_two_reports_the_newer_one_counts(state: ClusterState, clock: Clock) -> None:
    apply(state, our_loader(namespace="infra"))
    apply(state, reporting_pod("a", READY, reported()))
    clock.now += 5
    negative = reported(ReportedState.ABSENT)
    apply(state, reporting_pod("a", READY, negative, namespace="infra"))
    clock.now += 5
    assert on(state) is ModelState.ABSENT
    apply(state, reporting_pod("a", READY, reported(proven_at="2026-01-01T00:00:09Z")))
    assert on(state) is ModelState.READY


def test_a_tenants_report_counts_for_its_own_pods_alone(state: ClusterState) -> None:
    apply(state, our_loader(namespace="tenant"))
    apply(state, reporting_pod("a", READY, reported(), namespace="tenant"))
    assert asked(state, by="tenant").nodes["a"].state is ModelState.READY
    assert "a" not in asked(state, by="inference").nodes
    apply(state, namespace("tenant", trusted=True))
    assert asked(state, by="inference").nodes["a"].state is ModelState.READY


def test_a_tenants_report_takes_nothing_from_a_trusted_one(
    state: ClusterState, clock: Clock
) -> None:
    apply(state, our_loader(namespace="infra"), our_loader(namespace="tenant"))
    apply(state, reporting_pod("a", READY, reported(), namespace="infra"))
    clock.now += 1
    failed = reported(ReportedState.FAILED)
    apply(state, reporting_pod("a", READY, failed, namespace="tenant"))
    assert on(state) is ModelState.READY
    assert asked(state, by="tenant").nodes["a"].state is ModelState.FAILED


def test_an_annotation_on_a_pod_that_is_no_loader_claims_nothing(state: ClusterState) -> None:
    plain = labelled(loader_pod("a", READY, name="shipper", script="echo"), reported())
    apply(state, plain)
    assert on(state) is ModelState.ABSENT
    assert "carry the label" in state.problems()["Pod inference/shipper-a"]
    bare = msgspec.structs.replace(plain.metadata, owner_references=(), uid="bare")
    apply(state, msgspec.structs.replace(plain, metadata=bare))
    assert on(state) is ModelState.ABSENT


def test_a_directory_that_the_pod_mounts_read_only_is_not_its_to_report(
    state: ClusterState,
) -> None:
    pod = reporting_pod("a", READY, reported())
    (container,) = pod.spec.containers
    (mount,) = container.volume_mounts
    only = msgspec.structs.replace(
        container, volume_mounts=(msgspec.structs.replace(mount, read_only=True),)
    )
    spec = msgspec.structs.replace(pod.spec, containers=(only,))
    apply(state, msgspec.structs.replace(pod, spec=spec))
    assert on(state) is ModelState.ABSENT


@pytest.mark.parametrize(
    "path",
    [HOST_MODEL, f"{HOST_MODEL}/snapshots/abc", f"{HOST_MODEL}/original/tokenizer.model"],
)
def test_a_reported_model_answers_for_what_lies_in_it(state: ClusterState, path: str) -> None:
    apply(state, reporting_pod("a", READY, reported()))
    assert on(state, path=path) is ModelState.READY


def test_a_repository_is_there_as_far_as_its_reported_parts_are(state: ClusterState) -> None:
    apply(state, reporting_pod("a", READY, reported(path="hub/models--a--b")))
    assert on(state, path="/var/lib/models/hub") is ModelState.READY
    assert on(state, path="/var/lib/models/hub/models--a--b/snapshots/1") is ModelState.READY
    assert on(state, path="/var/lib/models/hub/models--a--c") is ModelState.ABSENT


def test_a_reported_part_does_not_make_a_model_whole_that_others_report(
    state: ClusterState,
) -> None:
    apply(state, reporting_pod("a", READY, reported()))
    part = reported(path="llama-3.1-8b-instruct/adapters/x")
    apply(state, reporting_pod("b", READY, part))
    assert on(state, "b") is ModelState.ABSENT


def test_an_inventory_that_was_mended_says_what_a_new_one_says(
    state: ClusterState, clock: Clock
) -> None:
    """Answers are carried over from change to change; they must not differ from fresh ones."""
    steps: list[Callable[[], None]] = [
        lambda: state.upsert(reporting_pod("a", READY, reported())),
        lambda: state.upsert(reporting_pod("b", READY, reported(ReportedState.LOADING))),
        lambda: state.upsert(reporting_pod("b", READY, reported())),
        lambda: state.upsert(node("b", annotations={"modelcache.dev/provides": "/var/lib"})),
        lambda: state.delete(reporting_pod("a", READY, None)),
        lambda: state.upsert(reporting_pod("a", READY, None, uid="new")),
        lambda: state.delete(node("b")),
        lambda: state.upsert(node("b")),
        lambda: state.upsert(reporting_pod("a", READY, reported(path="x"), uid="new")),
    ]
    for step in steps:
        clock.now += 1
        step()
        mended = state.view().inventory
        fresh = Inventory(loaders=mended.loaders, nodes=mended._nodes, trusted=mended._trusted)
        for path in (HOST_MODEL, "/var/lib/models", f"{HOST_MODEL}/x"):
            assert mended.lookup(path, "inference") == fresh.lookup(path, "inference")


def test_the_readings_of_templates_do_not_grow_with_reports(state: ClusterState) -> None:
    """A report changes; the template that it stands on is read once all the same."""
    first = reporting_pod("a", READY, reported())
    second = reporting_pod("a", READY, reported(ReportedState.FAILED))
    assert state.templates.loader(first) is state.templates.loader(second)


def test_an_audit_sees_a_report_that_the_watch_missed(state: ClusterState, clock: Clock) -> None:
    pod = reporting_pod("a", READY, reported())
    apply(state, pod)
    clock.now += 10
    assert not state.differs(pod)
    assert state.differs(reporting_pod("a", READY, reported(ReportedState.FAILED)))


def test_an_audit_forgets_no_problem(state: ClusterState) -> None:
    spoilt = reporting_pod("a", READY, "{")
    apply(state, spoilt)
    assert not state.differs(spoilt)
    assert list(state.problems()) == ["Pod inference/model-cache-loader-a"]
