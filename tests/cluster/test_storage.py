"""What Jobs have written, of every namespace apart."""

from __future__ import annotations

from extender.cluster.claims import JobFacts, JobState
from extender.cluster.storage import Storage
from extender.workload.model import ClaimWriter, DeclaredModel
from tests.builders import claim


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
    assert ("inference", "model-store", "download/0") in done
    assert ("tenant", "model-store", "job-29/499") in done
    assert len(done) <= 1_001


def test_what_was_written_is_forgotten_with_its_claim_alone() -> None:
    storage = Storage()
    storage.put_claim(claim())
    storage.put_job("a", job("a", "inference", 1))
    storage.put_job("b", job("b", "inference", 1, into="other"))
    storage.put_job("a", None)
    storage.forget_claim(("inference", "model-store"))
    assert storage.completed() == {("inference", "other", "b/0")}
