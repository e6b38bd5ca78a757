"""SIGTERM ends ``loader run`` within five seconds, whatever it is at."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.loader.cluster import ME
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.loader_process import LoaderProcess, catalog, wait_for
from tests.loader.models import small_model
from tests.serving.answering import kubeconfig

SMALL = {"name": "small", "source": "hf://org/small"}
SHARD = "model-00001-of-00002.safetensors"
IDENTITY = {
    "POD_NAME": ME.pod,
    "POD_NAMESPACE": ME.namespace,
    "POD_UID": ME.uid,
    "NODE_NAME": ME.node,
}
SECONDS = 5.0
LEEWAY = 15.0
"""For the machine that the tests run on, not for the loader."""


@pytest.fixture
def silent() -> Iterator[str]:
    """An apiserver that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_it_ends_while_idle_while_the_hub_hangs_and_while_the_apiserver_is_silent_or_away(
    fast: Path, silent: str
) -> None:
    file = fast / "catalog.yaml"
    file.write_text(catalog(SMALL))
    with Hub() as hub, ExitStack() as stack:
        hub.repositories["org/small"] = Repository(small_model(), large=500)
        endpoint = ("--hub-endpoint", hub.url)

        def begun(name: str, *options: str, server: str = "") -> LoaderProcess:
            if server:
                (fast / name).mkdir()
                options += ("--kubeconfig", str(kubeconfig(server, fast / name)))
            process = LoaderProcess(
                file,
                fast / f"{name}-cache",
                *options,
                environment=IDENTITY if server else None,
                standalone=not server,
            )
            return stack.enter_context(process)

        idle = begun("idle", *endpoint)
        wait_for(lambda: idle.models("ready") == 1)
        hub.troubles[SHARD] = [Trouble(hang_after=10, at_hub=False)]
        hanging = begun("hanging", *endpoint)
        without_word = begun("silent", *endpoint, server=silent)
        away = begun("away", *endpoint, server="http://127.0.0.1:9")
        wait_for(lambda: hanging.models("loading") == 1)
        wait_for(lambda: without_word.get("/healthz")[0] == 200)
        assert without_word.get("/readyz")[0] == 503
        wait_for(lambda: "own pod cannot be read" in away.log)
        for process in (idle, hanging, without_word, away):
            began = time.monotonic()
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(SECONDS + LEEWAY) == 0, process.log
            assert time.monotonic() - began < SECONDS + LEEWAY
