"""The scene: the shipped loaders as real processes, beside the shipped extender and scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.loaders.kubelet import Kubelet
from tests.controlplane.loaders.scene import MODEL, Scene
from tests.controlplane.shipped import clear_loaders, kustomized
from tests.loader.hub import Hub

LOOK_SECONDS = "0.5"
LEASE_SECONDS = "15"


@pytest.fixture
def scene(
    control_plane: ControlPlane, placing: Extender, inference: str, tmp_path: Path
) -> Iterator[Scene]:
    control_plane.apply(kustomized(control_plane, "deploy/loader"))
    with Hub() as hub:
        options = ("--hub-endpoint", hub.url)
        times = ("--look-seconds", LOOK_SECONDS, "--lease-seconds", LEASE_SECONDS)
        file = tmp_path / "catalog.yaml"
        with Kubelet(control_plane, file, tmp_path / "nodes", *options, *times) as kubelet:
            scene = Scene(
                control_plane, placing, inference, kubelet=kubelet, hub=hub, catalog_file=file
            )
            scene.catalog(MODEL)
            try:
                yield scene
            finally:
                scene.end_of_waits()
            clear_loaders(control_plane)
