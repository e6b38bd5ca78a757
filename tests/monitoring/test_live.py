"""Every query of the dashboard and every rule, asked of a Prometheus that scrapes both programs.

The extender lists and watches a cluster, and is asked as kube-scheduler asks it, about hundreds of
pods while it is scraped; the loader fetches one model and fails at another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
import yaml

from extender.watch.resources import RESOURCES
from tests.cli.program import PODS as DEMO_PODS
from tests.controlplane.processes import wait_for
from tests.loader.hub import Hub, Repository
from tests.loader.loader_process import LoaderProcess, catalog
from tests.loader.models import small_model
from tests.monitoring.load import HELD, Load, ask, put, reader
from tests.monitoring.prometheus import RULES, Prometheus, answering, scraping
from tests.monitoring.test_dashboard import SHOWN
from tests.serving.running import DEMO_CLUSTER, kubeconfig, running
from tests.watch.fake_apiserver import FakeApiserver

SECONDS = 90.0
FILLED_IN = {"$__rate_interval": "1m", "$__range": "1h", "$price_per_gb": "0.09"}
HUNDREDS = 300
WAITING = 20
"""Pods that are refused here, and as many that kube-scheduler refuses by itself."""

KILLED: dict[str, Any] = {
    "metadata": {"name": "killed", "namespace": "inference", "uid": "killed"},
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": "busybox:1.37",
                "resources": {"limits": {"memory": "4Gi"}},
                "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
            }
        ],
        "volumes": [{"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "20Gi"}}],
    },
}
"""A pod of which an event says that its volume will have it killed."""


def put_waiting(api: FakeApiserver) -> None:
    """Put pods that kube-scheduler refuses by itself."""
    said = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
    }
    for number in range(WAITING):
        pod = reader(f"no-gpu-{number}", HELD)
        put(api, pod | {"status": {"phase": "Pending", "conditions": [said]}})


def put_demo(api: FakeApiserver) -> None:
    """Put the demo's cluster where a watch finds it."""
    paths = {resource.name: resource.path for resource in RESOURCES}
    for item in yaml.safe_load(DEMO_CLUSTER.read_text("utf-8"))["items"]:
        fields = {key: item[key] for key in ("metadata", "spec", "status") if key in item}
        api.put(paths[item["kind"]], item["metadata"]["name"], **fields)


class Live(NamedTuple):
    """What is asked, and the load that goes on meanwhile."""

    prometheus: Prometheus
    load: Load


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A Prometheus that scrapes an extender and a loader, with something to see in both."""
    place = tmp_path_factory.mktemp("monitoring")
    with ExitStack() as stack:
        hub = stack.enter_context(Hub())
        hub.repositories["org/small"] = Repository(files=small_model())
        models = [{"name": name, "source": f"hf://org/{name}"} for name in ("small", "absent")]
        (place / "catalog.yaml").write_text(catalog(*models), "utf-8")
        loader = stack.enter_context(
            LoaderProcess(place / "catalog.yaml", place / "cache", "--hub-endpoint", hub.url)
        )
        api = stack.enter_context(FakeApiserver())
        put_demo(api)
        put_waiting(api)
        server = stack.enter_context(running(place, "--kubeconfig", kubeconfig(place, api.url)))
        wait_for(lambda: server.ask("GET", "/readyz").status == 200, SECONDS, "the extender")
        wait_for(lambda: loader.models("ready") == loader.models("failed") == 1, SECONDS, "loader")
        targets = {
            "extender": "{}:{}".format(*server.address),
            "loader": f"127.0.0.1:{loader.port}",
        }
        scraped = stack.enter_context(scraping(place, targets))
        wait_for(lambda: len(scraped.values("up == 1")) == 2, SECONDS, "both to be scraped")
        for pod in [*yaml.safe_load_all(DEMO_PODS.read_text("utf-8")), KILLED]:
            ask(server, pod)
        for number in range(WAITING):
            assert not ask(server, reader(f"refused-{number}", "absent"))
        yield Live(scraped, stack.enter_context(Load(server, api)))


@contextmanager
def under_load(live: Live) -> Iterator[Prometheus]:
    """Ask while pods are placed all the time."""
    before = len(live.load.placed)
    yield live.prometheus
    wait_for(lambda: live.load.failed or len(live.load.placed) > before, SECONDS, "the load")
    assert live.load.failed == []


def filled_in(expression: str) -> str:
    for name, value in FILLED_IN.items():
        expression = expression.replace(name, value)
    assert not re.search(r"\$\w", expression), f"a variable that is not known: {expression}"
    return expression


def wait_for_data(prometheus: Prometheus, expressions: dict[str, str]) -> None:
    """Wait until each gives something; tell of those that do not."""
    without = dict(expressions)

    def all_there() -> bool:
        for name, expression in list(without.items()):
            if prometheus.values(expression):
                del without[name]
        return not without

    try:
        wait_for(all_there, SECONDS, "data", poll=0.5)
    except AssertionError:
        pytest.fail(f"no data of {without}")


def test_every_query_of_the_dashboard_has_data(live: Live) -> None:
    queries = {
        f"{panel['title']} {target['refId']}": filled_in(target["expr"])
        for panel in SHOWN
        for target in panel["targets"]
    }
    assert len(queries) > 40
    with under_load(live) as prometheus:
        wait_for_data(prometheus, queries)


def test_every_rule_has_data_and_none_fails(live: Live) -> None:
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: rule["record"] for rule in rules if "record" in rule}
    compared = {rule["alert"]: answering(rule["expr"]) for rule in rules if "alert" in rule}
    assert all(" bool " in expression for expression in compared.values())
    with under_load(live) as prometheus:
        wait_for_data(prometheus, recorded | compared)
        for group in prometheus.ask("rules")["groups"]:
            for rule in group["rules"]:
                assert rule["health"] == "ok", rule


def test_what_has_happened_is_what_is_shown(live: Live) -> None:
    """The figures are those of what was done, not merely there: to the pod, of hundreds.

    Of the demo's pods five are bound, two of them where their model is.
    """
    wait_for(lambda: live.load.failed or len(live.load.placed) >= HUNDREDS, 180, "the load")
    with live.load.at_rest():
        assert live.load.failed == []
        placed = len(live.load.placed)
        figures = {
            'sum(model_cache_extender_binds_total{outcome="bound"})': 5 + placed,
            "sum(model_cache_extender_bound_pods_total)": 5 + placed,
            'sum(model_cache_extender_bound_pods_total{start="warm"})': 2 + placed,
            "sum(model_cache_extender_start_duration_seconds_count)": placed,
            'sum(model_cache_extender_decisions_total{verb="prioritize"})': 5 + placed,
            'sum(model_cache_extender_loader_models{state="ready"})': 1,
            'sum(model_cache_extender_loader_failures_total{cause="not-found"}) > bool 0': 1,
            "sum(model_cache_extender_loader_downloaded_bytes_total)": sum(
                map(len, small_model().values())
            ),
            "model_cache_extender_waiting_pods": 1 + 2 * WAITING,
            'model_cache_extender_waiting_pods_by_reason{reason="ModelAbsent"}': 1 + WAITING,
            'model_cache_extender_waiting_pods_by_reason{reason="Unschedulable"}': WAITING,
        }

        def shown() -> dict[str, list[float]]:
            return {
                expression: [float(one["value"][1]) for one in live.prometheus.values(expression)]
                for expression in figures
            }

        wanted = {expression: [float(figure)] for expression, figure in figures.items()}
        try:
            wait_for(lambda: shown() == wanted, SECONDS, "the figures")
        except AssertionError:
            assert shown() == wanted
