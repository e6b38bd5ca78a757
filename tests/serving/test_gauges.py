"""The gauges of who waits tell of pods that are there, though nobody else looks after them."""

from __future__ import annotations

import re

from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.kube.objects import Pod
from extender.placement.reasons import TEXTS, Reason
from extender.serving.app import create_app
from extender.serving.knowledge import FileKnowledge
from extender.serving.service import Service
from extender.verbs.context import Context
from tests.builders import deleted, gated, pod, tmpfs, unplaced
from tests.clock import Clock
from tests.serving.conftest import demo_service


def refuse(service: Service, found: Pod, *, seconds_ago: float = 0) -> None:
    """Have a pod wait that no node had the memory for."""
    state = service.context.state
    state.upsert(found)
    service.waiting.refuse(
        service.context.request(found),
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
        refuse(service, tmpfs(name))

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
    refuse(service, tmpfs("first"), seconds_ago=1900)
    refuse(service, tmpfs("second"), seconds_ago=20)

    def longest(reason: str) -> float:
        label = f'model_cache_extender_waiting_longest_seconds{{reason="{reason}"}} '
        return float(client.get("/metrics").text.partition(label)[2].split()[0])

    assert 1900 <= longest("InsufficientMemory") < 2100
    assert longest("ModelAbsent") == 0
    state.upsert(tmpfs("first", on="a"))
    assert 20 <= longest("InsufficientMemory") < 220


# -- those that were not refused here --------------------------------------------------------------


NOW = 1_000_000.0
TOKENS = {
    "no-gpu": "Unschedulable",
    "failed": "SchedulerError",
    "gated": "SchedulingGated",
    "unseen": "SchedulerSilent",
    "chosen": "NodeChosen",
    "new": "NotTriedYet",
    "by-another": "ModelAbsent",
}
"""What each of the pods below counts as."""


def others() -> list[Pod]:
    """Return a pod of each kind, and some that do not wait for us."""
    absent = "0/2 nodes are available: 1 Too many pods, 1 node cache does not hold the model."
    return [
        unplaced(pod("no-gpu"), at=NOW - 300, says="0/2 nodes are available: 2 Insufficient cpu."),
        unplaced(pod("failed"), at=NOW - 300, says="connection refused", reason="SchedulerError"),
        gated(unplaced(pod("gated"), at=NOW - 9000, says="gates", reason="SchedulingGated")),
        unplaced(pod("unseen"), at=NOW - 300),
        unplaced(pod("chosen"), at=NOW - 300, nominated="a"),
        unplaced(pod("new"), at=NOW - 5),
        unplaced(pod("by-another"), at=NOW - 300, says=absent),
        unplaced(pod("elsewhere"), at=NOW - 300, scheduler="default-scheduler"),
        deleted(unplaced(pod("leaves"), at=NOW - 300)),
    ]


class Scraped:
    """A service whose clock stands, and the gauges that it shows."""

    def __init__(self) -> None:
        self.clock = Clock(NOW)
        self.state = ClusterState(clock=self.clock)
        context = Context(state=self.state)
        self.service = Service(context, FileKnowledge(), ExtenderConfiguration())
        self.client = create_app(self.service).test_client()

    def gauge(self, name: str) -> dict[str, float]:
        """Return a gauge's values by reason, "" where it has none, without those that are 0."""
        pattern = re.compile(rf'model_cache_extender_{name}(?:\{{reason="(\w+)"\}})? (\S+)')
        lines = self.client.get("/metrics").text.splitlines()
        found = [match.groups("") for match in map(pattern.fullmatch, lines) if match]
        return {reason: float(value) for reason, value in found if float(value)}


def test_a_pod_that_was_not_refused_here_counts_by_what_is_known_of_it() -> None:
    """As many as the page and the API have."""
    scraped = Scraped()
    for found in others():
        scraped.state.upsert(found)
    assert scraped.gauge("waiting_pods") == {"": len(TOKENS)}
    assert scraped.gauge("waiting_pods_by_reason") == dict.fromkeys(TOKENS.values(), 1)
    assert scraped.gauge("waiting_longest_seconds") == {
        token: {"gated": 9000, "new": 5}.get(name, 300) for name, token in TOKENS.items()
    }
    listed = scraped.client.get("/api/v1/waiting").get_json()["waiting"]
    assert sorted(one["pod"] for one in listed) == sorted(TOKENS)


def test_a_replica_that_did_not_refuse_a_pod_counts_it_as_the_one_that_did() -> None:
    """One that does not lead knows it from kube-scheduler's words; so does one that begins anew."""
    says = f"0/1 nodes are available: 1 {TEXTS[Reason.INSUFFICIENT_MEMORY]}."
    waits = unplaced(tmpfs("ram"), at=NOW, says=says)
    leads, follows, begins = Scraped(), Scraped(), Scraped()
    refuse(leads.service, waits)
    follows.state.upsert(waits)
    begins.state.upsert(waits)
    context = begins.service.context
    begins.service.waiting.recover(begins.state, context.schedulers, context.request_of)
    for one in (leads, follows, begins):
        assert one.gauge("waiting_pods_by_reason") == {"InsufficientMemory": 1}
        assert one.gauge("waiting_pods") == {"": 1}


def test_the_time_behind_a_scheduling_gate_is_no_wait_of_what_comes_after_it() -> None:
    """A queue may hold a pod for hours: the alert would go off as soon as it lets go."""
    scraped = Scraped()
    made = NOW - 9000
    let_go = unplaced(pod("queued"), at=made, says="gates", reason="SchedulingGated")
    scraped.state.upsert(gated(let_go))
    assert scraped.gauge("waiting_longest_seconds") == {"SchedulingGated": 9000}
    scraped.state.upsert(let_go)
    scraped.clock.now += 30
    assert scraped.gauge("waiting_longest_seconds") == {"NotTriedYet": 30}
    says = "0/2 nodes are available: 2 Insufficient cpu."
    scraped.state.upsert(unplaced(pod("queued"), at=made, says=says))
    scraped.clock.now += 30
    assert scraped.gauge("waiting_longest_seconds") == {"Unschedulable": 60}
