"""The kubelets of nodes that have none: a real loader process for each pod of the DaemonSet.

Every process gets what a kubelet would give it: the identity of its pod, a token that is bound to
that very pod, the node's directory, SIGTERM when its pod is deleted. Its pod is Ready when the
process says so, and gone when the process is.
"""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from extender.watch.answers import UnreachableError
from extender.watch.client import connect
from tests.controlplane.cluster import ControlPlane, KubectlError, fake_node
from tests.controlplane.shipped import LOADER_ACCOUNT, LOADERS, Object, done
from tests.loader.loader_process import LoaderProcess

HOST_DIRECTORY = "/var/lib/models"

_TICK_SECONDS = 0.1
_FAILURES = 3
"""``failureThreshold``, as it is by default: one probe that fails on a busy machine is no sign."""
_ALLOCATABLE = {"memory": "64Gi", "cpu": "32", "pods": "110", "nvidia.com/gpu": "8"}
_READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "here"}


class _Running:
    """One pod's process. ``ready`` is what its status says; None: nothing yet.

    ``failed`` is how many probes in a row were not answered with yes.
    """

    def __init__(self, pod: Object, process: LoaderProcess) -> None:
        self.pod = pod
        self.process = process
        self.ready: bool | None = None
        self.failed = 0


class Kubelet:
    """Runs until the end of the ``with`` block. ``options`` are more words for ``loader run``."""

    def __init__(
        self, control_plane: ControlPlane, catalog: Path, root: Path, *options: str
    ) -> None:
        self._control_plane = control_plane
        self._catalog = catalog
        self._root = root
        self._options = options
        self._transport = connect(str(control_plane.kubeconfig()))
        self._pods = f"/api/v1/namespaces/{LOADERS}/pods"
        self._running: dict[str, _Running] = {}
        self._dead: set[str] = set()
        self._stopping = Event()
        self._processes = ExitStack()
        self._thread = Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)
        self._processes.close()
        assert self.failure is None, self.failure

    def add_nodes(self, *names: str, **labels: str) -> None:
        """Create nodes that are Ready and that nobody else plays the kubelet of."""
        for name in names:
            node = fake_node(name, dict(_ALLOCATABLE), labels)
            del node["metadata"]["annotations"]
            node["status"]["conditions"] = [_READY]
            self._control_plane.kubectl("create", "-f", "-", input=json.dumps(node))
            self._control_plane.nodes.append(name)

    def directory(self, node: str) -> Path:
        """Return the node's own ``/var/lib/models``."""
        return self._root / node

    def process(self, node: str) -> LoaderProcess:
        """Return the newest loader of a node; wait until there is one."""

        def found() -> list[_Running]:
            running = list(self._running.values())
            return [one for one in running if one.pod["spec"]["nodeName"] == node]

        self._control_plane.wait_for(found, 60, f"a loader on {node}")
        return found()[-1].process

    def restart(self, node: str) -> None:
        """Kill a node's loader and start it again in the same pod, as a kubelet does."""
        process = self.process(node)
        process.kill()
        process.start()

    def die(self, node: str) -> None:
        """Let a machine die: its loader says no more, and nobody says so."""
        process = self.process(node)
        self._dead.add(node)
        process.kill()

    def ready(self, node: str) -> str:
        """Return the UID of a node's only loader pod; empty unless it is Ready."""
        here = [x for x in list(self._running.values()) if x.pod["spec"]["nodeName"] == node]
        uids = [one.pod["metadata"]["uid"] for one in here if one.ready]
        return str(uids[0]) if len(here) == len(uids) == 1 else ""

    def loaders(self, node: str) -> int:
        """Return how many loader processes a node has."""
        return sum(x.pod["spec"]["nodeName"] == node for x in list(self._running.values()))

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_TICK_SECONDS):
                with suppress(UnreachableError):  # the next turn asks again
                    self._turn()
        except BaseException as error:  # noqa: BLE001 - told to the test at its end
            self.failure = error

    def _turn(self) -> None:
        answer = self._transport.request("GET", self._pods)
        if not answer.ok:
            return
        pods = {pod["metadata"]["uid"]: pod for pod in json.loads(answer.body)["items"]}
        for uid, pod in pods.items():
            if "nodeName" in pod["spec"] and not pod["metadata"].get("deletionTimestamp"):
                if uid not in self._running:
                    try:
                        self._running[uid] = _Running(pod, self._start(pod))
                    except KubectlError:
                        if not self._is_there(pod):
                            continue  # it was deleted before it had its token
                        raise
                self._probe(self._running[uid])
        for uid, running in list(self._running.items()):
            if uid not in pods or pods[uid]["metadata"].get("deletionTimestamp"):
                self._end(uid, running)

    def _start(self, pod: Object) -> LoaderProcess:
        metadata, node = pod["metadata"], pod["spec"]["nodeName"]
        account = self._control_plane.kubeconfig_for_service_account(
            LOADERS, LOADER_ACCOUNT, pod=metadata["name"], uid=metadata["uid"]
        )
        environment = {
            "POD_NAME": metadata["name"],
            "POD_NAMESPACE": metadata["namespace"],
            "POD_UID": metadata["uid"],
            "NODE_NAME": node,
        }
        process = LoaderProcess(
            self._catalog,
            self.directory(node),
            *("--host-directory", HOST_DIRECTORY, "--kubeconfig", str(account)),
            *self._options,
            environment=environment,
            standalone=False,
            log=self._root / f"{node}.{metadata['name']}.log",
        )
        return self._processes.enter_context(process)

    def _probe(self, running: _Running) -> None:
        answered = running.process.get("/readyz")[0] == 200
        running.failed = 0 if answered else running.failed + 1
        ready = answered or (running.ready is True and running.failed < _FAILURES)
        # Asked after the probe: of a machine that died meanwhile, nobody tells what it answered.
        dead = running.pod["spec"]["nodeName"] in self._dead
        if ready is not running.ready and not dead:
            status: dict[str, Any] = done(running.pod)
            if not ready:
                status["conditions"] = [{"type": "Ready", "status": "False"}]
            self._request("PATCH", running, "/status", {"status": status})
            running.ready = ready

    def _end(self, uid: str, running: _Running) -> None:
        process = running.process.process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            return
        now = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        self._request("DELETE", running, "", now)
        del self._running[uid]

    def _is_there(self, pod: Object) -> bool:
        answer = self._transport.request("GET", f"{self._pods}/{pod['metadata']['name']}")
        there: Object = json.loads(answer.body)["metadata"] if answer.ok else {}
        return there.get("uid") == pod["metadata"]["uid"] and "deletionTimestamp" not in there

    def _request(self, method: str, running: _Running, below: str, body: Object) -> None:
        name = running.pod["metadata"]["name"]
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        answer = self._transport.request(
            method,
            f"{self._pods}/{name}{below}",
            body=json.dumps(body).encode(),
            headers={"Content-Type": kind},
        )
        assert answer.ok or answer.status in {404, 409}, answer.problem()
