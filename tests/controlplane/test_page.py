"""The page in a real browser, over a real control plane with 5,000 nodes.

``tests/browser`` has each widget over a dump; here is what only the real thing shows: what watch,
kube-scheduler, filter and bind make of real objects reaches each view, and goes on doing so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import browser, pictures
from tests.browser.fleet import MODELS, node_name
from tests.browser.watching import Watched, filter_by_keyboard
from tests.builders import CRASHING
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.fleet import (
    HOSTILE_PATH,
    LOADED,
    LOADERS,
    NODES,
    ZONE,
    add_fleet,
)
from tests.controlplane.shipped import EXAMPLE_MODEL, SCHEDULER, Object, done, finish, load
from tests.controlplane.stage import Stage
from tests.controlplane.test_nomination import reader

__all__ = ["browser", "pictures"]

LOADS, FAILS, FILLED, HELD = (node_name(index) for index in range(LOADERS))
"""Nodes with a loader: one that is held for the test that lets it finish, and of each state one."""
ROOMY = node_name(40)
VIEWS = {
    "nodes": "/",
    "groups": f"/?group={ZONE}",
    "waiting": "/?view=waiting",
    "decisions": "/?view=decisions",
    "memory": "/?view=memory&sort=free",
}
PATIENCE_MS = 60_000


class Fleet(Stage):
    """The cluster that all tests of this module look at, and the pods on it."""

    loaders: dict[str, Object]

    def settle(self) -> None:
        """Bring the cluster into a state with something to see in every view."""
        load_on = load(self.control_plane, self.namespace, LOADERS, LOADED)
        self.loaders = load_on
        finish(self.control_plane, self.namespace, load_on[FILLED])
        failed = load_on[FAILS]["metadata"]["name"]
        self.control_plane.set_pod_status(self.namespace, failed, CRASHING)
        self.schedule()
        for pod in (
            self.reads("placed", on=FILLED),
            self.reads("hostile", model=HOSTILE_PATH.rpartition("/")[2]),
            self.reads("nowhere", on="no-such-node"),
        ):
            self.control_plane.apply(pod, self.namespace)
        self.pod("too-big", ram="400Gi")
        self.pod("in-memory", ram="48Gi", node=ROOMY)
        self.wait_bound("placed", "in-memory")

    def reads(self, name: str, *, on: str = "", model: str = EXAMPLE_MODEL) -> Object:
        """Return a pod that reads a model from the node's cache, on one node if it is named."""
        pod = reader(self, name)
        spec = pod["spec"]
        spec["nodeSelector"] = {"kubernetes.io/hostname": on} if on else {}
        for container in spec["containers"]:
            for key in ("command", "args"):
                words = container.get(key, [])
                container[key] = [word.replace(EXAMPLE_MODEL, model) for word in words]
        return pod


@pytest.fixture(scope="module")
def fleet(kubernetes_binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """On a control plane of its own: to stop that takes less than to delete 5,000 nodes."""
    folder = tmp_path_factory.mktemp("fleet")
    control_plane = ControlPlane(kubernetes_binaries, folder)
    control_plane.start()
    scheduler, asked_by = f"{SCHEDULER}-fleet", folder / "extender.yaml"
    asked_by.write_text(
        json.dumps(
            {
                "apiVersion": "modelcache.dev/v1alpha1",
                "kind": "ExtenderConfiguration",
                "waking": {"schedulerNames": [scheduler]},
            }
        )
    )
    try:
        add_fleet(control_plane)
        control_plane.create_namespace("fleet")
        control_plane.start_scheduler(name="default-scheduler")  # for the loaders
        fleet = Fleet(control_plane, "fleet", control_plane.start_extender(f"--config={asked_by}"))
        assert fleet.scheduler == scheduler
        fleet.settle()
        yield fleet
    finally:
        control_plane.stop()


@pytest.fixture
def page(browser: Browser, fleet: Fleet) -> Iterator[Page]:
    expect.set_options(timeout=PATIENCE_MS)
    with Watched.open(browser, fleet.extender.url) as watched:
        watched.page.set_default_timeout(PATIENCE_MS)
        yield watched.page


def row(page: Page, name: str) -> Locator:
    """The row of a node, or of a pod whatever its namespace."""
    header = page.get_by_role("rowheader", name=re.compile(rf"^{name}( |$)"))
    return page.get_by_role("row").filter(has=header)


# -- the views -----------------------------------------------------------------------------------


def test_every_node_of_the_apiserver_is_there_with_what_it_holds(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text(f"1 to 50 of {NODES:,} nodes")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(50)
    for name, state in ((LOADS, "loading"), (FAILS, "failed"), (FILLED, "ready")):
        expect(row(page, name).get_by_text(f"{state}, declared").first).to_be_attached()
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text(f"51 to 100 of {NODES:,} nodes")).to_be_visible()
    page.goto("/?page=100")
    expect(page.get_by_role("rowheader", name=node_name(NODES - 1))).to_be_visible()


def test_waiting_pods_tell_what_kube_scheduler_was_answered_for_all_nodes(page: Page) -> None:
    page.goto("/?view=waiting")
    expect(row(page, "too-big")).to_contain_text(
        f"InsufficientMemory on {NODES:,} nodes: waits for other pods to leave"
    )
    expect(row(page, "hostile")).to_contain_text(f"ModelAbsent on {NODES:,} nodes")


def test_a_pod_that_this_program_was_not_asked_about_tells_what_kube_scheduler_says(
    page: Page, fleet: Fleet
) -> None:
    """The gauge that the alert goes by counts it under the reason that the page names."""
    page.goto("/?view=waiting&reason=Unschedulable")
    expect(row(page, "nowhere")).to_contain_text(
        f"0/{NODES} nodes are available: {NODES} node(s) didn't match Pod's node affinity/selector"
    )
    expect(page.locator("tbody tr")).to_have_count(1)
    gauges = fleet.extender.get("/metrics")[1]
    assert 'model_cache_extender_waiting_pods_by_reason{reason="Unschedulable"} 1.0' in gauges


def test_decisions_tell_where_a_pod_went_and_what_was_expected(page: Page) -> None:
    page.goto("/?view=decisions&q=placed")
    placed = row(page, "placed")
    expect(placed).to_contain_text(FILLED)
    expect(placed).to_contain_text("estimated")


def test_memory_tells_what_a_bound_pod_takes(page: Page, fleet: Fleet) -> None:
    page.goto("/?view=memory&sort=free")
    least = page.get_by_role("row").nth(1)
    expect(least.get_by_role("rowheader")).to_have_text(ROOMY)
    expect(least.get_by_role("img", name="tmpfs")).to_have_attribute(
        "aria-label", re.compile(r"tmpfs 48\.0 GiB.* of 64\.0 GiB")
    )


# -- live ----------------------------------------------------------------------------------------


def test_the_page_follows_a_pod_from_waiting_to_its_start(page: Page, fleet: Fleet) -> None:
    """Without a reload while it waits: what is seen changes as the cluster does."""
    control_plane, namespace = fleet.control_plane, fleet.namespace
    page.goto("/?view=waiting&q=follows")
    expect(row(page, "follows")).to_have_count(0)
    control_plane.apply(fleet.reads("follows", on=HELD), namespace)
    waits = "ModelLoading on 1 node: waits for a node's loader to finish"
    expect(row(page, "follows")).to_contain_text(waits)
    finish(control_plane, namespace, fleet.loaders[HELD])
    expect(row(page, "follows")).to_have_count(0)
    fleet.wait_bound("follows")
    page.goto("/?view=decisions&q=follows")
    expect(page.get_by_text(HELD).first).to_be_visible()
    pod = control_plane.get_json("pod", "follows", "-n", namespace)
    control_plane.set_pod_status(namespace, "follows", started(pod))
    kinds = page.get_by_role("region", name="Estimated against actual")
    expect(kinds.get_by_role("row").nth(1)).to_contain_text("declared")
    expect(page.locator("b", has_text="was ")).to_be_visible()


def test_what_is_baked_into_a_node_shows_without_a_reload(page: Page, fleet: Fleet) -> None:
    page.goto(f"/?q={node_name(60)}")
    expect(page.get_by_role("columnheader", name="arrives")).to_have_count(0)
    baked = "modelcache.dev/provides=/var/lib/baked/arrives"
    fleet.control_plane.kubectl("annotate", "--overwrite", "node", node_name(60), baked)
    expect(page.get_by_role("columnheader", name="arrives")).to_be_visible()
    expect(row(page, node_name(60)).get_by_text("ready, declared")).to_have_count(1)


# -- filter and keyboard -------------------------------------------------------------------------


def test_nodes_are_filtered_by_name_model_and_state_and_grouped_by_a_label(page: Page) -> None:
    page.goto("/")
    page.get_by_role("combobox", name="State").select_option("failed")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("rowheader")).to_have_text([FAILS])
    page.goto(f"/?q=gpu-49&model={MODELS[3]}")
    expect(page.locator("thead th")).to_have_count(2)
    expect(page.get_by_role("rowheader").first).to_contain_text("gpu-49")
    page.goto("/")
    page.get_by_label("Group by label").select_option(ZONE)
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("link", name="zone-b").click()
    expect(page.get_by_text("1 to 50 of 1,667 nodes")).to_be_visible()


def test_a_keyboard_finds_one_node_of_five_thousand(page: Page) -> None:
    filter_by_keyboard(page, "gpu-4321")


# -- a hostile name ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [f"/?q={LOADS}", "/?view=waiting&q=hostile", "/?view=decisions&q=hostile"]
)
def test_a_hostile_model_name_is_a_name(page: Page, path: str) -> None:
    """One in a node's annotation, one in a pod's arguments, as the apiserver has them."""
    page.goto(path)
    expect(page.get_by_text("<script>document.title", exact=False).first).to_be_attached()
    assert page.title().endswith(" - model cache")
    expect(page.locator("img")).to_have_count(0)


# -- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_drawn_in_both_themes(
    browser: Browser, fleet: Fleet, pictures: Path, scheme: str
) -> None:
    with Watched.open(browser, fleet.extender.url, color_scheme=scheme) as watched:
        page = watched.page
        for name, path in VIEWS.items():
            page.goto(path)
            page.screenshot(path=pictures / f"real-{name}-{scheme}.png")
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == {"light": "rgb(247, 248, 250)", "dark": "rgb(17, 21, 27)"}[scheme]


def started(pod: Object) -> Object:
    """Return the status of a pod that turned Ready 40 seconds after it was bound."""
    status = done(pod)
    conditions = pod["status"]["conditions"]
    bound = next(c for c in conditions if c["type"] == "PodScheduled")["lastTransitionTime"]
    ready = datetime.fromisoformat(bound) + timedelta(seconds=40)
    for condition in status["conditions"]:
        condition["lastTransitionTime"] = ready.strftime("%Y-%m-%dT%H:%M:%SZ")
    return status
