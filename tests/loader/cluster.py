"""An apiserver for one loader: over real HTTP, with the answers that a test gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from extender.loader.identity import Identity
from extender.watch.client import Transport, connect
from tests.serving.answering import Apiserver, answering, kubeconfig

ME = Identity(pod="loader-abc", namespace="loaders", uid="uid-1", node="node-1")


@contextmanager
def apiserver(folder: Path) -> Iterator[tuple[Apiserver, Transport]]:
    with answering() as api:
        yield api, connect(str(kubeconfig(api.url, folder)))
