"""What the tests of this folder share: hub, catalog, the shipped DaemonSet and its nodes."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from extender.report import REPORT_ANNOTATION
from extender.watch.answers import UnreachableError
from extender.watch.client import connect
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.loaders.kubelet import HOST_DIRECTORY, Kubelet
from tests.controlplane.processes import HarnessError
from tests.controlplane.shipped import EXAMPLE_MODEL, LOADERS, deploy, pods, said
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.loader_process import catalog
from tests.loader.models import small_model

NAME = EXAMPLE_MODEL
MODEL: dict[str, Any] = {"name": NAME, "source": "hf://org/model"}
PATH = f"{HOST_DIRECTORY}/{NAME}"
SHARD = "model-00001-of-00002.safetensors"
FILES = small_model(size=200_000)
HELD_BACK_SECONDS = 240.0
"""Longer than all that a test does meanwhile takes on a busy machine."""


class Scene:
    """One cluster with the shipped loaders, whose catalog and hub the test changes."""

    def __init__(
        self,
        control_plane: ControlPlane,
        extender: Extender,
        namespace: str,
        *,
        kubelet: Kubelet,
        hub: Hub,
        catalog_file: Path,
    ) -> None:
        self.control_plane = control_plane
        self.extender = extender
        self.namespace = namespace
        self.kubelet = kubelet
        self.hub = hub
        self._catalog_file = catalog_file
        hub.repositories["org/model"] = Repository(files=dict(FILES), large=500)
        self._held_back: list[Event] = []

    def catalog(self, *models: dict[str, Any], **more: object) -> None:
        """Replace the catalog of all loaders, in one step as the kubelet does."""
        fresh = self._catalog_file.with_suffix(".new")
        fresh.write_text(catalog(*models, **more))
        fresh.replace(self._catalog_file)

    def hub_waits(self, *files: str) -> Event:
        """Let the hub hold back these files until the event that is returned is set, or the end."""
        answers = Event()
        self._held_back.append(answers)

        def wait() -> None:
            answers.wait(HELD_BACK_SECONDS)

        for file in files:
            waits = [Trouble(at_hub=False, meanwhile=wait) for _ in range(8)]
            self.hub.troubles[file] = waits
        return answers

    def end_of_waits(self) -> None:
        """Let the hub hold back nothing any more."""
        for answers in self._held_back:
            answers.set()

    def held(self, node: str, path: str = PATH) -> dict[str, Any]:
        """Return what the extender knows of a model on a node; empty where it knows nothing."""
        status, body = self.extender.get("/api/v1/models")
        assert status == 200, body
        models = {one["name"]: one["models"] for one in json.loads(body)["nodes"]}
        return next((model for model in models.get(node, []) if model["path"] == path), {})

    def state(self, node: str) -> str:
        return str(self.held(node).get("state"))

    def wait_for_state(self, state: str, *nodes: str, seconds: float = 90) -> None:
        try:
            self.control_plane.wait_for(
                lambda: all(self.state(node) == state for node in nodes),
                seconds,
                f"{NAME} to be {state} on {', '.join(nodes)}",
            )
        except HarnessError as error:
            held = {node: self.held(node) for node in nodes}
            raise HarnessError(f"{error}\n{held}\n{self.kubelet.process(nodes[0]).log}") from None

    def server(self, replicas: int = 1, model: str = NAME) -> str:
        """Deploy the example's server under a name of its own; return its app label."""
        return deploy(
            self.control_plane,
            self.namespace,
            "node-cache.yaml",
            replicas=replicas,
            name=f"vllm-{secrets.token_hex(2)}",
            model=model,
        )

    def end(self, app: str) -> None:
        """Delete a server and its pods, for which no kubelet has to say that they have ended."""
        where = ("-n", self.namespace)
        self.control_plane.kubectl("delete", "deployment", app, *where)
        self.control_plane.kubectl("delete", "pods", "-l", f"app={app}", *where, "--force")

    def explained(self, app: str) -> dict[str, Any]:
        """Return what the extender explains of a pod."""
        pod = pods(self.control_plane, self.namespace, app)[0]
        _, explained = self.extender.post("/api/v1/explain", pod)
        assert isinstance(explained, dict)
        return explained

    def wait_said(self, app: str, text: str) -> None:
        self.control_plane.wait_for(
            lambda: text in said(self.control_plane, self.namespace, app),
            60,
            f"an event of {app} that says: {text}",
        )

    def reported(self, node: str) -> list[str]:
        """Return the states in the reports of a node's loaders, as the apiserver has them now."""
        found = self.control_plane.get_json("pods", "-n", LOADERS)["items"]
        here = [pod["metadata"] for pod in found if pod["spec"].get("nodeName") == node]
        texts = (one.get("annotations", {}).get(REPORT_ANNOTATION, "{}") for one in here)
        return [model["state"] for text in texts for model in json.loads(text).get("models", ())]

    def lease(self, node: str) -> dict[str, Any]:
        found: dict[str, Any] = self.control_plane.get_json(
            "lease", f"loader.{node}", "-n", LOADERS
        )
        return found


class Reports:
    """Sees every change of a loader's report in a watch of the pods, as the extender does."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.written: list[dict[str, Any]] = []
        self._texts: dict[str, str] = {}
        self._transport = connect(str(control_plane.kubeconfig()))
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.cut()
        self._thread.join(10)

    def _run(self) -> None:
        path, rest = f"/api/v1/namespaces/{LOADERS}/pods", b""
        with (
            suppress(UnreachableError),
            self._transport.stream("GET", path, query={"watch": 1}, read_timeout=300) as stream,
        ):
            for chunk in stream.chunks():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._note(json.loads(line)["object"]["metadata"])

    def _note(self, metadata: dict[str, Any]) -> None:
        text = metadata.get("annotations", {}).get(REPORT_ANNOTATION, "")
        if text != self._texts.get(metadata["uid"], ""):
            self._texts[metadata["uid"]] = text
            self.written.append(json.loads(text))
