"""Nodes that fit and are not offered, on the real kube-scheduler: that no pod ever waits for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
