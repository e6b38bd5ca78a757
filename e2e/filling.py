"""Pods that fill a memory-backed volume."""

from __future__ import annotations

from dataclasses import dataclass, field

from e2e.images import PAUSE
from e2e.objects import Object, pod

MI = 1 << 20


@dataclass(frozen=True)
class Case:
    """A pod with a memory-backed volume, its name, and what becomes of it.

    ``init``, ``main``: MiB that the init container (None: there is none) and the main container
    write into the volume, or would; ``demand``: MiB that the ledger counts; ``reason``, ``code``:
    of the main container.
    """

    name: str
    demand: int
    reason: str
    code: int
    size_limit: int | None = None
    limit: int | None = None
    request: int | None = None
    init: int | None = None
    init_limit: int | None = None
    main: int = 0
    warnings: frozenset[str] = field(default_factory=frozenset)
    command: str = ""
    pod: str = "case"

    @property
    def pod_limit(self) -> int | None:
        """MiB that the kernel lets the pod take; None: whatever the node has."""
        return max(self.limit, self.init_limit or 0) if self.limit is not None else None

    @property
    def pages(self) -> int:
        """MiB that come into the volume before it or the pod is full, or all is written."""
        bounds = ((self.init or 0) + self.main, self.size_limit, self.pod_limit)
        return min(bound for bound in bounds if bound is not None)

    def manifest(self) -> Object:
        """Return the pod."""
        volume: Object = {"medium": "Memory"}
        if self.size_limit is not None:
            volume["sizeLimit"] = f"{self.size_limit}Mi"
        mounts = [{"name": "memory", "mountPath": "/memory"}]
        script = self.command or f"exec {write('main', self.main)}"
        containers: Object = {
            "volumeMounts": mounts,
            "resources": resources(self.limit, self.request),
        }
        spec: Object = {"volumes": [{"name": "memory", "emptyDir": volume}]}
        if self.init is not None:
            spec["initContainers"] = [
                {
                    "name": "fill",
                    "image": PAUSE,
                    "command": ["sh", "-c", f"exec {write('init', self.init)}"],
                    "volumeMounts": mounts,
                    "resources": resources(self.init_limit or self.limit, self.request),
                }
            ]
        return pod(self.pod, PAUSE, ["sh", "-c", script], container=containers, **spec)


def write(name: str, mebibytes: int) -> str:
    """Return the command that writes so much into the volume."""
    return f"dd if=/dev/zero of=/memory/{name} bs=1M count={mebibytes}"


def resources(limit: int | None, request: int | None) -> Object:
    """Return a container's memory resources in MiB."""
    given = {"limits": limit, "requests": request}
    return {kind: {"memory": f"{size}Mi"} for kind, size in given.items() if size is not None}
