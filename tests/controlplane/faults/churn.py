"""Seeded changes of every watched kind, made on the real apiserver while faults are about."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from random import Random
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

import msgspec

from extender.report import LEASE_LABEL
from tests.controlplane.cluster import MANUAL_KUBELET
from tests.controlplane.faults.api import Api, ApiError, Key, Object

LABEL = "test.modelcache.dev/churn"
GIB = 2**30
_SECRET_NAME = "registry.k8s.io/pause:3.10"


class Write(msgspec.Struct, frozen=True):
    """One change that the apiserver has confirmed; ``version`` is None for a deletion.

    ``uid`` tells the object from one that was made anew under its name and is not confirmed yet.
    """

    at: float
    kind: str
    key: Key
    uid: str
    version: int | None


class Churn:
    """Creates, changes and deletes objects of every kind; remembers what was confirmed and when."""

    def __init__(self, api: Api, namespace: str, seed: int) -> None:
        self.name = f"c{secrets.token_hex(3)}"
        self._api = api
        self._namespace = namespace
        self._random = Random(seed)
        self._present: dict[str, dict[str, str]] = {kind: {} for kind in _KINDS}
        """The UIDs of what is there, by name."""
        self._lock = Lock()
        self._last: dict[tuple[str, Key], Write] = {}

    def changes(self, number: int) -> None:
        """Make some changes of each kind."""
        for _ in range(number):
            for kind in _KINDS:
                self.change(kind)

    def change(self, kind: str) -> None:
        """Create, change or delete one object of a kind."""
        collection, make, scoped = _KINDS[kind]
        place = collection.format(namespace=self._namespace)
        present = self._present[kind]
        name = f"{self.name}-{self._random.randrange(4)}"
        key = (self._namespace if scoped else "", name)
        if name not in present:
            body = make(name, self._random)
            body["metadata"] = {"name": name, "labels": {LABEL: self.name}} | body.get(
                "metadata", {}
            )
            body["metadata"]["labels"] |= {LABEL: self.name}
            # One that is being deleted (a finalizer holds it) is left alone until it is gone.
            with contextlib.suppress(ApiError):
                made = self._api.call("POST", place, body)
                present[name] = made["metadata"]["uid"]
                self._confirm(kind, key, present[name], made)
        elif self._random.random() < 0.35 and kind != "Namespace":
            now = {"gracePeriodSeconds": "0"} if kind == "Pod" else {}
            made = self._api.call("DELETE", f"{place}/{name}", None, **now)
            uid = present.pop(name)
            finalizers = made.get("metadata", {}).get("finalizers")
            self._confirm(kind, key, uid, made if finalizers else None)
        else:
            annotations = {"test.modelcache.dev/at": str(self._random.random())}
            trusted = self._random.choice(["trusted", "no"])
            labels = {"modelcache.dev/loaders": trusted} if kind == "Namespace" else {}
            patch: Object = {"metadata": {"annotations": annotations, "labels": labels}}
            if kind == "Node":
                patch["spec"] = {"unschedulable": self._random.random() < 0.5}
            made = self._api.call("PATCH", f"{place}/{name}", patch)
            self._confirm(kind, key, present[name], made)

    def touch(self) -> None:
        """Change one object of each kind, so that every watch has something to say."""
        for kind in _KINDS:
            self.change(kind)

    def confirmed(self, kind: str) -> list[Write]:
        """Return the last confirmed change of every object of a kind."""
        with self._lock:
            return [write for (name, _), write in self._last.items() if name == kind]

    def clean(self) -> None:
        """Delete what is left. Finalizers are taken off: some planes have no controllers."""
        for kind, (collection, _, _) in _KINDS.items():
            place = collection.format(namespace=self._namespace)
            if kind == "Namespace":
                for name in self._present[kind]:
                    with contextlib.suppress(ApiError):
                        self._api.call("DELETE", f"{place}/{name}")
                continue
            now = {"gracePeriodSeconds": "0"} if kind == "Pod" else {}
            self._api.call("DELETE", place, None, labelSelector=f"{LABEL}={self.name}", **now)

    def _confirm(self, kind: str, key: Key, uid: str, made: Object | None) -> None:
        version = None if made is None else int(made["metadata"]["resourceVersion"])
        with self._lock:
            self._last[kind, key] = Write(monotonic(), kind, key, uid, version)


class Storm:
    """Churn that goes on in a thread of its own for the length of a with block."""

    def __init__(self, churn: Churn, every: float) -> None:
        self._churn = churn
        self._every = every
        self._done = Event()
        self._thread = Thread(target=self._run, name="storm", daemon=True)
        self.error: Exception | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self.error is None, f"the churn itself failed: {self.error}"

    def _run(self) -> None:
        try:
            while not self._done.wait(self._every):
                self._churn.touch()
        except Exception as error:  # noqa: BLE001 - the test that waits for this thread says it
            self.error = error


# -- objects -------------------------------------------------------------------------------------


def _container(size: str) -> Object:
    return {"name": "main", "image": _SECRET_NAME, "resources": {"requests": {"memory": size}}}


def _node(name: str, random: Random) -> Object:
    memory = f"{random.randrange(8, 64)}Gi"
    resources = {"memory": memory, "cpu": "8", "pods": "110"}
    return {"status": {"allocatable": resources, "capacity": resources}}


def _pod(name: str, random: Random) -> Object:
    volume = {"medium": "Memory", "sizeLimit": f"{random.randrange(1, 16)}Gi"}
    main = _container("1Gi") | {"volumeMounts": [{"name": "weights", "mountPath": "/models"}]}
    return {
        "metadata": {"labels": dict(MANUAL_KUBELET)},
        "spec": {
            "nodeName": f"{name.rpartition('-')[0]}-{random.randrange(4)}",
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [main],
            "volumes": [{"name": "weights", "emptyDir": volume}],
        },
    }


def _template(size: str) -> Object:
    return {
        "metadata": {"labels": {"app": "churn", **MANUAL_KUBELET}},
        "spec": {"restartPolicy": "Never", "containers": [_container(size)]},
    }


def _daemon_set(name: str, random: Random) -> Object:
    """A loader that runs nowhere."""
    template = _template("1Gi")
    path = f"/models/org/{random.randrange(4)}"
    template["metadata"]["labels"]["modelcache.dev/loader"] = "true"
    template["metadata"]["annotations"] = {"modelcache.dev/models": path}
    template["spec"] |= {
        "restartPolicy": "Always",
        "nodeSelector": {"test.modelcache.dev/no-such": "node"},
        "volumes": [{"name": "models", "hostPath": {"path": "/models"}}],
    }
    template["spec"]["containers"][0]["volumeMounts"] = [{"name": "models", "mountPath": "/models"}]
    return {"spec": {"selector": {"matchLabels": {"app": "churn"}}, "template": template}}


def _job(name: str, random: Random) -> Object:
    """A writer of a model, held back."""
    template = _template("1Gi")
    target = f"/data/{random.randrange(4)}"
    command = ["huggingface-cli", "download", "org/model", "--local-dir", target]
    template["spec"]["containers"][0] |= {
        "command": command,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    claim = {"claimName": name}
    template["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": claim}]
    return {"spec": {"suspend": True, "template": template}}


def _claim(name: str, random: Random) -> Object:
    return {
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "no-such-class",
            "resources": {"requests": {"storage": f"{random.randrange(1, 9)}Gi"}},
        }
    }


def _volume(name: str, random: Random) -> Object:
    return {
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": f"class-of-{name}",
            "capacity": {"storage": f"{random.randrange(1, 9)}Gi"},
            "hostPath": {"path": "/nowhere"},
        }
    }


def _class(name: str, random: Random) -> Object:
    return {"provisioner": f"example.com/{random.randrange(4)}"}


def _namespace(name: str, random: Random) -> Object:
    trusted = random.choice(["trusted", "no"])
    return {"metadata": {"labels": {"modelcache.dev/loaders": trusted}}}


def _lease(name: str, _random: Random) -> Object:
    return {"metadata": {"name": name, "labels": {LEASE_LABEL: "true"}}, "spec": {}}


_Make = Callable[[str, Random], dict[str, Any]]
_KINDS: Mapping[str, tuple[str, _Make, bool]] = {
    "Node": ("/api/v1/nodes", _node, False),
    "Pod": ("/api/v1/namespaces/{namespace}/pods", _pod, True),
    "DaemonSet": ("/apis/apps/v1/namespaces/{namespace}/daemonsets", _daemon_set, True),
    "Job": ("/apis/batch/v1/namespaces/{namespace}/jobs", _job, True),
    "PersistentVolumeClaim": (
        "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
        _claim,
        True,
    ),
    "PersistentVolume": ("/api/v1/persistentvolumes", _volume, False),
    "StorageClass": ("/apis/storage.k8s.io/v1/storageclasses", _class, False),
    "Namespace": ("/api/v1/namespaces", _namespace, False),
    "Lease": ("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", _lease, True),
}
