"""Pack the Helm chart, and try it as somebody would who has the packed file and no tree."""

from __future__ import annotations

from pathlib import Path

from controlplane.build import BuildError, tool
from release.running import ROOT, ReleaseError, run

MODES = ("second-scheduler", "two-deployments", "existing-scheduler")
ADDITIONS = "--set=loader.enabled=true,monitoring.enabled=true,podLevelRequest.enabled=true"


def pack(out: Path) -> Path:
    """Pack the chart, what it links to included; return the file. Raises ReleaseError."""
    run([_helm(), "package", ROOT / "deploy" / "chart", f"--destination={out}"])
    (packed,) = out.glob("*.tgz")
    return packed


def try_packed(packed: Path, version: str, workdir: Path) -> list[str]:
    """Lint a packed chart and render it in every mode; return what was tried.

    Raises ReleaseError, also where it is of another version than the program.
    """
    helm = _helm()
    shown = run([helm, "show", "chart", packed], workdir)
    if f"\nversion: {version}\n" not in shown or f"\nappVersion: {version}\n" not in shown:
        raise ReleaseError(f"{packed.name} is not of version {version}:\n{shown}")
    run([helm, "lint", "--strict", packed], workdir)
    for mode in MODES:
        run([helm, "template", "model-cache", packed, f"--set=mode={mode}", ADDITIONS], workdir)
    return [f"the chart in {len(MODES)} modes"]


def _helm() -> Path:
    try:
        return tool("helm")
    except BuildError as error:
        raise ReleaseError(str(error)) from error
