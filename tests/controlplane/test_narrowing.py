"""Nodes that fit and are not offered, on the real kube-scheduler: that no pod ever waits for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.builders import HOST_MODEL, MODEL
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import Object
from tests.controlplane.stage import ROOM, Stage

NAMES = [f"many-{number:03d}" for number in range(150)]
OFFERED = 100


def test_a_pod_that_fits_on_many_nodes_is_offered_some_of_them_and_bound(stage: Stage) -> None:
    stage.control_plane.add_nodes(NAMES, ROOM)
    stage.schedule()
    stage.pod("a")
    stage.wait_bound("a")
    (made,) = stage.decisions("a", "filter")
    assert made["passed"] == made["asked"] >= len(NAMES)
    assert made["offered"] == OFFERED
    (ranked,) = stage.decisions("a", "prioritize")
    assert ranked["asked"] == OFFERED


def test_a_pod_whose_offered_nodes_all_turn_out_wrong_gets_one_that_was_left_out(
    stage: Stage,
) -> None:
    """Another extender refuses all that it is asked about first, and nothing else."""
    stage.control_plane.add_nodes(NAMES, ROOM)
    with _refusing_the_first() as (url, asked):

        def followed(config: Object) -> None:
            other = {"urlPrefix": url, "filterVerb": "filter", "nodeCacheCapable": True}
            config["extenders"] = [*config["extenders"], other]

        stage.schedule(followed)
        stage.pod("a")
        stage.wait_bound("a")
    first, *later = asked
    assert len(first) == OFFERED
    assert later[-1] >= set(NAMES)
    assert stage.node_of("a") in set(NAMES) - first


@pytest.mark.parametrize(("percentage", "offered"), [(0, 1), (100, None)])
def test_the_only_node_with_the_model_is_offered_alone_and_taken_as_it_would_be_anyway(
    control_plane: ControlPlane,
    namespace: str,
    tmp_path: Path,
    percentage: int,
    offered: int | None,
) -> None:
    """It is full of other pods and better avoided: all that kube-scheduler has against a node."""
    control_plane.add_nodes(NAMES, ROOM)
    best = NAMES[70]
    control_plane.kubectl("annotate", "node", best, f"modelcache.dev/provides={HOST_MODEL}")
    control_plane.kubectl("taint", "node", best, "busy=true:PreferNoSchedule")
    configuration = tmp_path / "configuration.yaml"
    configuration.write_text(_offering(percentage), encoding="utf-8")
    stage = Stage(
        control_plane, namespace, control_plane.start_extender(f"--config={configuration}")
    )
    stage.schedule()
    for number in range(5):
        stage.pod(f"other-{number}", cpu="700m", node=best)
    stage.wait_bound(*(f"other-{number}" for number in range(5)))
    control_plane.apply(_preferring(stage), namespace)
    stage.wait_bound("server")
    assert stage.node_of("server") == best
    (made,) = stage.decisions("server", "filter")
    assert made.get("offered") == offered
    assert len(stage.decisions("server", "prioritize")) == (0 if offered else 1)


def _offering(percentage: int) -> str:
    return (
        "apiVersion: modelcache.dev/v1alpha1\nkind: ExtenderConfiguration\n"
        f"filter: {{offeredPercentage: {percentage}}}\n"
    )


def _preferring(stage: Stage) -> Object:
    """Return a server that starts sooner where the model is."""
    document = stage.manifest("server")
    document["metadata"]["annotations"] = {"modelcache.dev/need": "preferred"}
    (container,) = document["spec"]["containers"]
    container["args"] = ["--model", MODEL]
    container["image"] = "vllm/vllm-openai:v0.11.0"
    container["volumeMounts"] = [{"name": "models", "mountPath": "/models"}]
    volume = {"name": "models", "hostPath": {"path": "/var/lib/models"}}
    document["spec"]["volumes"] = [volume]
    return document


@contextmanager
def _refusing_the_first() -> Iterator[tuple[str, list[set[str]]]]:
    """Serve an extender that refuses the nodes of its first request for ever.

    Yields its address and the nodes of each request.
    """
    asked: list[set[str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            names = json.loads(body)["NodeNames"]
            asked.append(set(names))
            passed = [name for name in names if name not in asked[0]]
            refused = {name: "refused" for name in names if name in asked[0]}
            answer = {"NodeNames": passed, "FailedAndUnresolvableNodes": refused}
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
