"""What old knowledge leaves behind at kube-scheduler is put right once sight has returned."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from extender.config import KIND
from extender.documents import API_VERSION
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import eventually, kubeconfig_through
from tests.controlplane.faults.test_process import RECOVERY, metric
from tests.controlplane.shipped import taker
from tests.controlplane.stage import ROOM, Stage
from tests.controlplane.test_nomination import nominate

BOUND = 25.0
"""``freshness.boundSeconds``: nothing changes here, and so long what was listed counts as fresh."""

STALE = "model_cache_extender_stale"

pytestmark = pytest.mark.skipif(
    "FAULT_ROUNDS" not in os.environ, reason="make test-faults: it takes a minute"
)


def test_a_nomination_that_old_knowledge_left_keeps_nobody_out_once_it_is_fresh(
    control_plane: ControlPlane, stage: Stage, proxy: Proxy, *, tmp_path: Path, slow_seed: int
) -> None:
    """The one node is full by requests: filter is not asked, and no write has the pod tried again.

    By old knowledge nobody may be evicted there, and kube-scheduler keeps the nomination. Nothing
    happens then that it would try the pod again for.
    """
    node = f"left-{stage.namespace}-{slow_seed}"
    config = tmp_path / "extender.yaml"
    text = {"apiVersion": API_VERSION, "kind": KIND, "freshness": {"boundSeconds": BOUND}}
    config.write_text(yaml.safe_dump(text), encoding="utf-8")
    stage.extender = control_plane.start_extender(
        f"--config={config}", kubeconfig=kubeconfig_through(proxy, control_plane, tmp_path)
    )
    control_plane.add_nodes([node], ROOM)
    low = stage.manifest("low", cpu="3500m", priority=f"low-{stage.namespace}")
    spare = stage.manifest("spare", cpu="20m")
    for there in (low, spare):
        there["spec"]["nodeName"] = node
    control_plane.apply([taker(node, "60Gi"), low, spare], stage.namespace)
    proxy.down()
    stage.schedule()
    assert eventually(lambda: metric(stage.extender, STALE) == 1, BOUND + 10)
    stage.pod("high", ram="20Gi", cpu="1", priority=f"high-{stage.namespace}", node=node)
    assert eventually(lambda: stage.decisions("high", "preempt"), 30)
    nominate(stage, "high", node)
    asked = len(stage.decisions("high", "preempt"))
    control_plane.kubectl("delete", "pod", "spare", "-n", stage.namespace, "--now")
    assert eventually(lambda: len(stage.decisions("high", "preempt")) > asked, 30)
    assert stage.decisions("high", "preempt")[-1]["refused"] == {"KnowledgeStale": 1}
    assert stage.nominated("high") == node, "kube-scheduler keeps it"
    proxy.up()
    assert eventually(lambda: metric(stage.extender, STALE) == 0, RECOVERY)
    assert eventually(lambda: not stage.nominated("high"), 15)
    stage.pod("other", cpu="100m", node=node)
    stage.wait_bound("other")
    assert stage.decisions("high", "filter") == []
    assert stage.node_of("low") == node
