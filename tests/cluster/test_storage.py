"""What Jobs have written, of every namespace apart."""

from __future__ import annotations

import msgspec
import pytest

import extender.cluster.storage
from extender.cluster.claims import JobFacts, JobState
from extender.cluster.state import ClusterState
from extender.cluster.storage import Storage
from extender.kube.objects import Namespace
from extender.workload.model import ClaimWriter, DeclaredModel
from tests.builders import claim, namespace, relist
from tests.builders import job as completed_job


def job(name: str, namespace: str, writes: int, into: str = "model-store") -> JobFacts:
    return JobFacts(
        uid=name,
        name=name,
        namespace=namespace,
        state=JobState.COMPLETE,
        writes=tuple(
            ClaimWriter(claim=into, model=DeclaredModel(path=f"{name}/{number}"))
            for number in range(writes)
        ),
    )


def test_jobs_of_one_namespace_make_nothing_of_another_forgotten() -> None:
    storage = Storage()
    storage.put_job("download", job("download", "inference", 1))
    for number in range(30):
        storage.put_job(f"u{number}", job(f"job-{number}", "tenant", 500))
    done = storage.completed()
    assert done["inference"] == {("inference", "model-store", "download/0")}
    assert ("tenant", "model-store", "job-29/499") in done["tenant"]
    assert len(done["tenant"]) == 1_000


def test_what_was_written_is_forgotten_with_its_claim_alone() -> None:
    storage = Storage()
    storage.put_claim(claim())
    storage.put_job("a", job("a", "inference", 1))
    storage.put_job("b", job("b", "inference", 1, into="other"))
    storage.put_job("a", None)
    storage.forget_claim(("inference", "model-store"))
    assert storage.completed() == {"inference": {("inference", "other", "b/0")}}


def test_what_was_written_is_put_together_again_only_when_it_changes() -> None:
    storage = Storage()
    written = job("download", "inference", 100)
    storage.put_job("download", written)
    before = storage.completed()
    storage.put_claim(claim())
    storage.put_job("download", written)
    assert storage.completed() is before
    storage.put_job("other", job("other", "tenant", 1))
    assert storage.completed()["inference"] is before["inference"]
    assert "tenant" not in before, "who has it reads on"


@pytest.mark.parametrize("told", ["deleted", "listed"])
def test_what_was_written_is_forgotten_with_its_namespace(told: str) -> None:
    """Its claim may never have been there."""
    state = ClusterState(clock=lambda: 0.0)
    state.upsert(namespace("inference"))
    state.upsert(completed_job("download", ("Complete",)))
    state.delete(completed_job("download", ("Complete",)))
    assert state.view().completed_writes
    if told == "deleted":
        state.delete(namespace("inference"))
    else:
        relist(state, Namespace, [namespace("tenant")])
    assert not state.view().completed_writes


def test_what_was_written_in_any_number_of_namespaces_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extender.cluster.storage, "_MAX_NAMESPACES", 3)
    storage = Storage()
    for number in range(5):
        storage.put_job(f"j{number}", job("download", f"ci-{number}", 1))
    assert set(storage.completed()) == {"ci-2", "ci-3", "ci-4"}


def test_a_job_that_is_complete_without_a_pod_has_written_nothing() -> None:
    """``completions: 0``."""
    state = ClusterState(clock=lambda: 0.0)
    done = completed_job("download", ("Complete",))
    status = msgspec.structs.replace(done.status, succeeded=0)
    state.upsert(msgspec.structs.replace(done, status=status))
    assert not state.view().completed_writes
    assert not state.view().jobs
