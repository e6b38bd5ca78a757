"""What the real kube-scheduler writes is what is answered before gunicorn, to the letter."""

from __future__ import annotations

import re
import socket
import threading
from math import inf

import msgspec

from extender.config import ExtenderConfiguration
from extender.serving.dispatch import PlainVerbs
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import SCHEDULER, scheduler_config
from tests.serving.conftest import demo_service

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a"},
    "spec": {
        "schedulerName": f"{SCHEDULER}-heard",
        "containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}],
    },
}


def test_a_request_of_kube_scheduler_is_plainly_in_order(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.add_nodes(["heard-a", "heard-b"])
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_hear, args=(listener, heard), daemon=True)
        thread.start()
        host, port = listener.getsockname()
        config = scheduler_config(f"http://{host}:{port}")
        config["profiles"] = [{"schedulerName": f"{SCHEDULER}-heard"}]
        control_plane.start_scheduler(config, name=f"{SCHEDULER}-heard")
        control_plane.kubectl("create", "-n", namespace, "-f", "-", input=_json(POD))
        thread.join(60)
    (request,) = heard
    answer = PlainVerbs(demo_service(ExtenderConfiguration())).answer(request, caller="127.0.0.1")
    assert answer is not None, request[:500]
    names = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["NodeNames"]
    assert {"heard-a", "heard-b"} <= set(names)


def _hear(listener: socket.socket, heard: list[bytes]) -> None:
    """Take one request, and hang up without an answer."""
    connection, _ = listener.accept()
    with connection:
        data = b""
        while len(data) < _length(data) and (more := connection.recv(65536)):
            data += more
        heard.append(data)


def _length(data: bytes) -> float:
    """Return how long a request is whose beginning this is; infinity while that cannot be told."""
    head, end, _ = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
    return len(head + end) + int(length[1]) if end and length else inf


def _json(document: object) -> str:
    return msgspec.json.encode(document).decode()
