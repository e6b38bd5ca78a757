"""Helm as it is built by `make tools`, with and without a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlplane.build import BuildError, tool
from tests.controlplane.chart.helm import Helm
from tests.controlplane.cluster import ControlPlane


@pytest.fixture(scope="session")
def helm_program() -> Path:
    """The built helm. Where everything is required, its absence is an error."""
    try:
        return tool("helm")
    except BuildError as error:
        if os.environ.get("CI") or os.environ.get("REQUIRE_CONTROL_PLANE"):
            pytest.exit(str(error), returncode=2)
        pytest.skip(str(error))


@pytest.fixture
def helm(helm_program: Path, tmp_path: Path) -> Helm:
    """Helm without a cluster: it renders, lints and packs."""
    return Helm(helm_program, tmp_path)


@pytest.fixture
def live_helm(helm_program: Path, control_plane: ControlPlane, tmp_path: Path) -> Helm:
    """Helm on the test's control plane."""
    return Helm(helm_program, tmp_path, control_plane.kubeconfig())
