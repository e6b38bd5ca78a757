"""The gauges of who waits tell of pods that are there, though nobody else looks after them."""

from __future__ import annotations

from extender.config import ExtenderConfiguration
from extender.serving.app import create_app
from extender.serving.service import Service
from tests.builders import tmpfs
from tests.serving.conftest import demo_service


def refuse(service: Service, name: str, *, seconds_ago: float = 0) -> None:
    """Have a pod wait that no node had the memory for."""
    state = service.context.state
    state.upsert(tmpfs(name))
    service.waiting.refuse(
        service.context.request(tmpfs(name)),
        asked=["a"],
        nodes={},
        refused={"InsufficientMemory": 1},
        examples={},
        created="",
        now=state.now() - seconds_ago,
        steady=state.steady(),
    )


def test_a_pod_that_was_bound_elsewhere_waits_no_more_in_the_gauges() -> None:
    """As after a failover, or with waking switched off."""
    service = demo_service(ExtenderConfiguration())
    client, state = create_app(service).test_client(), service.context.state
    for name in ("bound", "waits"):
        refuse(service, name)

    def gauges() -> list[str]:
        lines = client.get("/metrics").text.splitlines()
        return [line for line in lines if "_waiting_pods" in line and line.endswith(" 2.0")]

    assert gauges() == [
        "model_cache_extender_waiting_pods 2.0",
        'model_cache_extender_waiting_pods_by_reason{reason="InsufficientMemory"} 2.0',
    ]
    state.upsert(tmpfs("bound", on="a"))
    assert gauges() == []
    assert "model_cache_extender_waiting_pods 1.0" in client.get("/metrics").text


def test_the_longest_wait_is_that_of_the_oldest_refusal_and_none_without_a_pod() -> None:
    service = demo_service(ExtenderConfiguration())
    client, state = create_app(service).test_client(), service.context.state
    refuse(service, "first", seconds_ago=1900)
    refuse(service, "second", seconds_ago=20)

    def longest(reason: str) -> float:
        label = f'model_cache_extender_waiting_longest_seconds{{reason="{reason}"}} '
        return float(client.get("/metrics").text.partition(label)[2].split()[0])

    assert 1900 <= longest("InsufficientMemory") < 2100
    assert longest("ModelAbsent") == 0
    state.upsert(tmpfs("first", on="a"))
    assert 20 <= longest("InsufficientMemory") < 220
