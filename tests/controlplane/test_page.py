"""The page over a real control plane: a pod waits, is placed and starts, and the page follows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import browser
from tests.browser.watching import Watched
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import Object, done, finish, load
from tests.controlplane.stage import Stage
from tests.controlplane.test_nomination import reader

__all__ = ["browser"]


@pytest.fixture
def watched(browser: Browser, stage: Stage) -> Iterator[Watched]:
    with Watched.open(browser, stage.extender.url) as page:
        page.page.set_default_timeout(60_000)
        yield page


def test_the_page_follows_a_pod_from_waiting_to_its_start(
    control_plane: ControlPlane, stage: Stage, watched: Watched
) -> None:
    expect.set_options(timeout=30_000)
    control_plane.add_nodes(["page-1", "page-2"])
    control_plane.start_scheduler(name="default-scheduler")  # for the loaders
    loaders = load(control_plane, stage.namespace, 2)
    stage.schedule()
    page = watched.page
    page.goto("/?view=waiting")
    expect(page.get_by_text("No pod waits")).to_be_visible()
    control_plane.apply(reader(stage, "reads"), stage.namespace)
    row = page.get_by_role("row").filter(has_text="reads")
    expect(row).to_contain_text("ModelLoading on 2 nodes: waits for a node's loader to finish")
    finish(control_plane, stage.namespace, loaders["page-2"])
    expect(page.get_by_text("No pod waits")).to_be_visible()
    stage.wait_bound("reads")
    page.goto("/?view=decisions")
    expect(page.get_by_text("page-2").first).to_be_visible()
    pod = control_plane.get_json("pod", "reads", "-n", stage.namespace)
    control_plane.set_pod_status(stage.namespace, "reads", started(pod))
    kinds = page.get_by_role("region", name="Estimated against actual")
    expect(kinds.get_by_role("row").nth(1)).to_contain_text("declared")
    expect(page.locator("b", has_text="was ")).to_be_visible()


def started(pod: Object) -> Object:
    """Return the status of a pod that turned Ready 40 seconds after it was bound."""
    status = done(pod)
    conditions = pod["status"]["conditions"]
    bound = next(c for c in conditions if c["type"] == "PodScheduled")["lastTransitionTime"]
    ready = datetime.fromisoformat(bound) + timedelta(seconds=40)
    for condition in status["conditions"]:
        condition["lastTransitionTime"] = ready.strftime("%Y-%m-%dT%H:%M:%SZ")
    return status
