"""A real control plane on 127.0.0.1: etcd, kube-apiserver, controllers, and kwok for the nodes."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.authority import Key, self_signed
from tests.controlplane.processes import (
    POLL_SECONDS,
    HarnessError,
    Process,
    free_port,
    on_host,
    wait_for,
)

ROOT = Path(__file__).resolve().parents[2]
STAGES = ROOT / "controlplane" / "stages"
MANUAL_KUBELET = {"test.modelcache.dev/kubelet": "manual"}
ALLOCATABLE = {"memory": "64Gi", "cpu": "32", "pods": "110", "nvidia.com/gpu": "8"}
# A user's groups. Only "admin" may do anything; the others are what RBAC makes of them.
USERS: Mapping[str, Sequence[str]] = {"admin": ["system:masters"], "nobody": []}
CONTROLLERS = (
    "daemonset-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "replicaset-controller",
    "serviceaccount-controller",
    "statefulset-controller",
)
KUBECTL_SECONDS = 120.0
ANSWER_SECONDS = 20.0
"""For an answer of a process that is there; where nothing listens, that is known at once."""
START_SECONDS = 120.0
Objects = str | Mapping[str, Any] | Iterable[Mapping[str, Any]]


class KubectlError(AssertionError):
    """A kubectl command that failed; the message has the command and what it said."""


class Extender(Process):
    """A running ``model-cache-extender serve``."""

    url: str = ""

    def get(self, path: str) -> tuple[int, str]:
        """GET a path; returns status and body, 0 where nothing listens."""
        return http_get(self.url + path)

    def post(self, path: str, document: Any) -> tuple[int, Any]:
        """POST JSON as kube-scheduler does; returns status and the JSON that came back."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            return answer.status, json.loads(answer.read())


class ControlPlane:
    """Starts and stops the processes, and speaks to the API server through kubectl."""

    def __init__(
        self, binaries: Path, workdir: Path, users: Mapping[str, Sequence[str]] = USERS
    ) -> None:
        self.binaries = binaries
        self.workdir = workdir
        self.server = ""
        self.nodes: list[str] = []
        self._tokens = {user: secrets.token_hex(16) for user in users}
        self._groups = dict(users)
        self._processes: list[Process] = []

    # Start and stop

    def start(self) -> None:
        """Start everything but a scheduler; stops what it started where a part does not come up."""
        try:
            self._start_api_server(self._start_etcd())
            controllers = self._start_controller_manager()
            self._start_kwok()
            controllers.wait_ready(lambda: self._has_service_account("default"), START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every process that was started through this object, the newest first."""
        while self._processes:
            self._processes.pop().stop()

    def processes(self) -> list[Process]:
        """Every process that was started and not stopped through this object."""
        return list(self._processes)

    def stop_process(self, process: Process) -> None:
        """Stop one process, such as a scheduler; it may have been stopped already."""
        process.stop()
        self._processes = [other for other in self._processes if other is not process]

    def _spawn(self, name: str, *flags: str | Path) -> Process:
        command = [self.binaries / name, *flags]
        process = Process(name, command, self._log(name), env=self._environment(), cwd=self.workdir)
        self._processes.append(process)
        return process

    def _log(self, name: str) -> Path:
        return self.workdir / f"{name}.log"

    def _environment(self) -> dict[str, str]:
        hidden = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTP_PROXY", "HTTPS_PROXY")
        kept = {key: value for key, value in os.environ.items() if key.upper() not in hidden}
        return {**kept, "HOME": str(self.workdir), "KWOK_WORKDIR": str(self.workdir / "kwok")}

    def _start_etcd(self) -> str:
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        flags = [f"--data-dir={self.workdir / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn"]
        flags += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        flags += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        flags += [f"--initial-cluster=default={peer}"]
        process = self._spawn("etcd", *flags)
        process.wait_ready(lambda: http_get(f"{client}/health")[0] == 200, START_SECONDS)
        return client

    def _api_server_address(self) -> list[str]:
        """Choose where the apiserver listens; return the flags that say so."""
        port = free_port()
        self.server = f"https://127.0.0.1:{port}"
        return [
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            # An Endpoints object may not hold a loopback address, and nothing here reads it.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
        ]

    def _start_api_server(self, etcd: str) -> None:
        address = self._api_server_address()
        key = self.workdir / "service-account.key"
        key.write_text(Key().pem(), encoding="ascii")
        process = self._spawn(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--cert-dir={self.workdir / 'certs'}",
            *address,
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self._write_tokens()}",
            f"--client-ca-file={self.trust_clients_of(self_signed(self.workdir, 'nobody').cert)}",
            "--authorization-mode=RBAC,Node",
            # Its taint on new nodes is taken off by the node-lifecycle controller only.
            "--disable-admission-plugins=TaintNodesByCondition",
            "--allow-privileged=true",
        )
        process.wait_ready(self._api_ready, START_SECONDS)

    def trust_clients_of(self, *authorities: Path) -> Path:
        """Let in who shows a certificate of these authorities, and of no others, from now on.

        The apiserver reads the file again whenever it changes; returns its path.
        """
        path = self.workdir / "client-authorities.crt"
        unfinished = path.with_suffix(f".{secrets.token_hex(4)}")
        unfinished.write_text("".join(each.read_text("ascii") for each in authorities), "ascii")
        return unfinished.replace(path)

    def _api_ready(self) -> bool:
        if not (self.workdir / "certs" / "apiserver.crt").is_file():
            return False
        with contextlib.suppress(KubectlError):
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        return False

    def _write_tokens(self) -> Path:
        path = self.workdir / "tokens.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            for user, token in self._tokens.items():
                writer.writerow([token, user, user, ",".join(self._groups[user])])
        return path

    def _start_controller_manager(self) -> Process:
        return self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig()}",
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            *self._controllers(),
        )

    def _controllers(self) -> list[str]:
        """Return the flags that say which controllers run."""
        return [f"--controllers={','.join(CONTROLLERS)}"]

    def _start_kwok(self) -> None:
        port = free_port()
        stages = [f"--config={path}" for path in sorted(STAGES.glob("*.yaml"))]
        process = self._spawn(
            "kwok",
            f"--kubeconfig={self.kubeconfig()}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=0",
            f"--server-address=127.0.0.1:{port}",
            *stages,
        )
        url = f"http://127.0.0.1:{port}/healthz"
        process.wait_ready(lambda: http_get(url)[0] == 200, START_SECONDS)

    def _has_service_account(self, namespace: str) -> bool:
        found = self.kubectl(
            "get", "serviceaccount", "default", "-n", namespace, "--ignore-not-found", "-o=name"
        )
        return bool(found)

    # Kubeconfigs

    def kubeconfig(self, user: str = "admin") -> Path:
        """Write a kubeconfig for a user of the token file."""
        if user not in self._tokens:
            raise HarnessError(f"no user {user}: name it in ControlPlane(users=...)")
        return self._write_kubeconfig(user, self._tokens[user])

    def kubeconfig_for_service_account(
        self, namespace: str, name: str, pod: str = "", uid: str = ""
    ) -> Path:
        """Write a kubeconfig with a fresh token of a service account, bound to a pod of its own.

        With a ``uid`` to that very pod, and to none that has its name later.
        """
        bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if pod else []
        bound += [f"--bound-object-uid={uid}"] if uid else []
        command = ["create", "token", name, "-n", namespace, "--duration=2h", *bound]
        token = self.kubectl(*command).strip()
        return self._write_kubeconfig("-".join(filter(None, (namespace, name, pod))), token)

    def _write_kubeconfig(self, user: str, token: str) -> Path:
        path = self.workdir / f"{user}.kubeconfig"
        authority = str(self.workdir / "certs" / "apiserver.crt")
        cluster = {"server": self.server, "certificate-authority": authority}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        # In one step: a process that starts now would end over half a file.
        unfinished = path.with_suffix(f".{secrets.token_hex(4)}")
        unfinished.write_text(yaml.safe_dump(document), encoding="utf-8")
        return unfinished.replace(path)

    # Objects

    def kubectl(self, *args: str, input: str | None = None, user: str = "admin") -> str:  # noqa: A002
        """Run kubectl and return what it prints; raises KubectlError with its stderr."""
        kubeconfig = f"--kubeconfig={self.kubeconfig(user)}"
        try:
            done = subprocess.run(
                [str(self.binaries / "kubectl"), kubeconfig, *args],
                input=input,
                capture_output=True,
                text=True,
                env=self._environment(),
                timeout=KUBECTL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            late = f"no answer within {KUBECTL_SECONDS:g} s"
            raise KubectlError(f"kubectl {' '.join(args)}: {late}") from None
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, objects: Objects, namespace: str | None = None) -> str:
        """Apply YAML, one object or several."""
        scope = ["-n", namespace] if namespace else []
        return self.kubectl("apply", *scope, "-f", "-", input=as_text(objects))

    def get_json(self, *args: str) -> Any:
        """``kubectl get ARGS -o json``, read."""
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def add_nodes(
        self,
        names: Iterable[str],
        allocatable: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Create fake nodes and wait until kwok has made them Ready."""
        wanted = list(names)
        resources = dict(ALLOCATABLE if allocatable is None else allocatable)
        nodes = [fake_node(name, resources, dict(labels or {})) for name in wanted]
        self.nodes += wanted
        self.kubectl("create", "-f", "-", input=as_text(nodes))

        def all_ready() -> bool:
            items = self.get_json("nodes")["items"]
            return set(wanted) <= {item["metadata"]["name"] for item in items if is_ready(item)}

        wait_for(all_ready, 60, f"{len(wanted)} fake nodes to be Ready")

    def delete_nodes(self, names: Iterable[str] | None = None) -> None:
        """Delete the named nodes, or all that ``add_nodes`` has created."""
        gone = list(self.nodes if names is None else names)
        if gone:
            self._delete_all("nodes", labelSelector=f"kubernetes.io/hostname in ({','.join(gone)})")
        self.nodes = [name for name in self.nodes if name not in gone]

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Create a namespace that pods can be created in."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        what = f"the service account default of namespace {name}"
        wait_for(lambda: self._has_service_account(name), 60, what)

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace and wait until its pods are gone; the rest goes by itself."""
        kinds = "daemonsets,deployments,statefulsets,replicasets,jobs,cronjobs"
        self.kubectl("delete", kinds, "--all", "-n", name, "--cascade=background")
        self._delete_all(f"namespaces/{name}/pods", gracePeriodSeconds="0")
        self.kubectl("delete", "namespace", name, "--wait=false")

        def empty() -> bool:
            return not self.kubectl("get", "pods", "-n", name, "-o=name", "--ignore-not-found")

        wait_for(empty, 60, f"the pods of namespace {name} to be gone")

    def _delete_all(self, path: str, **query: str) -> None:
        """Delete a collection in one request; kubectl would ask for and about each object."""
        self.kubectl("delete", "--raw", f"/api/v1/{path}?{urlencode(query)}")

    def set_pod_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Play the kubelet: merge a status into a pod's (conditions merge by their type)."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", "pod", name, "-n", namespace, "--subresource=status", f"-p={patch}")

    def pod_node(self, namespace: str, name: str) -> str | None:
        """Return the node that a pod is bound to."""
        node = self.kubectl("get", "pod", name, "-n", namespace, "-o=jsonpath={.spec.nodeName}")
        return node or None

    def events(self, namespace: str, pod: str) -> list[str]:
        """Return a pod's events as ``Reason: message``, the oldest first."""
        selector = f"--field-selector=involvedObject.kind=Pod,involvedObject.name={pod}"
        items = self.get_json("events", "-n", namespace, selector)["items"]
        items.sort(key=lambda item: item["metadata"]["creationTimestamp"])
        return [f"{item.get('reason', '')}: {item.get('message', '')}" for item in items]

    def wait_for(
        self,
        predicate: Callable[[], object],
        timeout: float,
        what: str,
        poll: float = POLL_SECONDS,
    ) -> None:
        """Poll until the predicate holds; say what never came about otherwise."""
        wait_for(predicate, timeout, what, poll)

    # Schedulers and extenders

    def start_scheduler(
        self,
        config: str | Mapping[str, Any] | None = None,
        name: str = "scheduler",
        kubeconfig: Path | None = None,
        host: str | None = None,
    ) -> Process:
        """Start a kube-scheduler with a configuration; connection and election are filled in.

        With a ``host`` name of its own it stands for election as its configuration says.
        """
        document = yaml.safe_load(config) if isinstance(config, str) else dict(config or {})
        document.setdefault("apiVersion", "kubescheduler.config.k8s.io/v1")
        document.setdefault("kind", "KubeSchedulerConfiguration")
        if host is None:
            document["leaderElection"] = {"leaderElect": False}
        connection = {"qps": 1000, "burst": 2000, **(document.get("clientConnection") or {})}
        connection["kubeconfig"] = str(kubeconfig or self.kubeconfig())
        document["clientConnection"] = connection
        path = self.workdir / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        log = self._log(f"{name}-{secrets.token_hex(3)}")
        command: list[str | Path] = [
            self.binaries / "kube-scheduler",
            f"--config={path}",
            "--secure-port=0",
            "-v=2",
        ]
        command = on_host(host, command)
        process = Process(name, command, log, env=self._environment(), cwd=self.workdir)
        self._processes.append(process)
        process.wait_ready(lambda: "Starting Kubernetes Scheduler" in process.log(), START_SECONDS)
        return process

    def start_extender(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        kubeconfig: Path | None = None,
        timeout: float = START_SECONDS,
        host: str | None = None,
        status_listen: bool = False,
        port: int = 0,
    ) -> Extender:
        """Start the extender against this control plane and wait until it is ready."""
        port = port or free_port()
        listen = "--status-listen" if status_listen else "--listen"
        command = [sys.executable, "-m", "extender", "serve", f"{listen}=127.0.0.1:{port}"]
        command += [f"--kubeconfig={kubeconfig or self.kubeconfig()}", *args]
        environment = {**self._environment(), **(env or {})}
        log = self._log(f"extender-{port}")
        process = Extender("extender", on_host(host, command), log, env=environment, cwd=ROOT)
        process.url = f"http://127.0.0.1:{port}"
        self._processes.append(process)
        process.wait_ready(lambda: process.get("/readyz")[0] == 200, timeout)
        return process


def http_get(url: str) -> tuple[int, str]:
    """GET a URL of this machine; status 0 where nothing answers, or not to the end."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        try:
            answer = opener.open(url, timeout=ANSWER_SECONDS)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""


def as_text(objects: Objects) -> str:
    """Objects as text for ``kubectl -f -``."""
    if isinstance(objects, str):
        return objects
    if isinstance(objects, Mapping):
        return json.dumps(objects)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def fake_node(name: str, resources: dict[str, str], labels: dict[str, str]) -> dict[str, Any]:
    """Return a node that kwok makes Ready and keeps so."""
    hostname = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {**hostname, **labels},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"allocatable": resources, "capacity": resources},
    }


def is_ready(item: Mapping[str, Any]) -> bool:
    """Say whether a node or a pod has the condition Ready."""
    conditions = item.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
