"""Reading a spec keeps nobody from the state, and is done once for the same spec."""

from __future__ import annotations

from threading import Thread
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

import extender.cluster.reports
import extender.cluster.templates
from extender.cluster.state import LONG_SECONDS, ClusterState
from extender.kube.objects import KubeObject, Pod
from extender.report import REPORT_ANNOTATION
from tests.builders import LOADING, job, loader, loader_pod


def reporting() -> Pod:
    """Return a pod of a DaemonSet that speaks as a loader, whatever it runs."""
    pod = loader_pod("a", LOADING)
    metadata = msgspec.structs.replace(pod.metadata, annotations={REPORT_ANNOTATION: "{}"})
    return msgspec.structs.replace(pod, metadata=metadata)


OBJECTS: list[tuple[KubeObject, str]] = [
    (loader(), "read_loader"),
    (job("fill"), "read_job"),
    (reporting(), "read_loader"),
    (reporting(), "read_workload"),
]
IDS = ["DaemonSet", "Job", "loader's pod", "pod"]


@pytest.fixture(params=OBJECTS, ids=IDS)
def read(request: pytest.FixtureRequest) -> tuple[KubeObject, str]:
    """Return an object, and the name of what reads its spec."""
    found: tuple[KubeObject, str] = request.param
    return found


def another(obj: KubeObject) -> KubeObject:
    """Return the object after one of the changes that it sees all the time."""
    annotations = {**obj.metadata.annotations, "deployed-at": "noon"}
    metadata = msgspec.structs.replace(obj.metadata, annotations=annotations)
    return msgspec.structs.replace(obj, metadata=metadata)


@pytest.mark.parametrize("how", ["told", "listed", "compared"])
def test_who_asks_does_not_wait_for_a_spec_to_be_read(
    read: tuple[KubeObject, str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may create a Job may write one that takes seconds to read."""
    obj, reader = read
    state = ClusterState(clock=lambda: 0.0)
    real = getattr(extender.cluster.templates, reader)
    waited: list[bool] = []

    def reading(*args: Any) -> Any:
        asks = Thread(target=state.view, daemon=True)
        asks.start()
        asks.join(30)
        waited.append(asks.is_alive())
        return real(*args)

    monkeypatch.setattr(extender.cluster.templates, reader, reading)
    if how == "told":
        state.upsert(obj)
    elif how == "listed":
        draft = state.listing(type(obj))
        draft.add([obj])
        draft.replace()
    else:
        state.differs(obj)
    assert not any(waited)
    assert waited or how == "compared", "what only speaks as a loader is not read for that"


@pytest.mark.parametrize("how", ["told", "listed", "compared"])
def test_who_asks_does_not_wait_for_a_report_to_be_read(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of loaders report hundreds of models each."""
    state = ClusterState(clock=lambda: 0.0)
    obj = reporting()
    state.upsert(loader())
    state.upsert(obj)
    real = extender.cluster.reports.read_report
    waited: list[bool] = []

    def reading(*args: Any, **more: Any) -> Any:
        asks = Thread(target=state.view, daemon=True)
        asks.start()
        asks.join(30)
        waited.append(asks.is_alive())
        return real(*args, **more)

    monkeypatch.setattr("extender.cluster.loaders.read_report", reading)
    if how == "told":
        state.upsert(another(obj))
    elif how == "listed":
        draft = state.listing(Pod)
        draft.add([another(obj)])
        draft.replace()
    else:
        state.differs(another(obj))
    assert waited == [False]


def test_a_spec_that_stays_as_it_is_is_read_once(
    read: tuple[KubeObject, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    obj, reader = read
    state = ClusterState(clock=lambda: 0.0)
    real = getattr(extender.cluster.templates, reader)
    times = []

    def reading(*args: Any) -> Any:
        times.append(1)
        return real(*args)

    monkeypatch.setattr(extender.cluster.templates, reader, reading)
    for _ in range(3):
        obj = another(obj)
        state.upsert(obj)
    assert len(times) == 1


@pytest.mark.parametrize("seconds", [LONG_SECONDS - 0.1, LONG_SECONDS])
def test_what_took_long_to_read_is_named_in_the_log(
    read: tuple[KubeObject, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    obj, reader = read
    now = 0.0
    state = ClusterState(clock=lambda: now)
    real = getattr(extender.cluster.templates, reader)

    def reading(*args: Any) -> Any:
        nonlocal now
        now += seconds
        return real(*args)

    monkeypatch.setattr(extender.cluster.templates, reader, reading)
    with capture_logs() as logs:
        state.upsert(obj)
        state.upsert(another(obj))
    named = f"{type(obj).__name__} inference/{obj.metadata.name}"
    assert [line["object"] for line in logs] == [named] * (seconds >= LONG_SECONDS)
