"""Build what is released, and try the wheel as somebody would who installs it.

``python -m release.build`` leaves in ``dist/`` the sdist, the wheel that was built from it, an SBOM
of what is locked (CycloneDX), the Helm chart, and their checksums. The wheel is installed with the
locked dependencies in a fresh virtual environment outside of the tree, and run there.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from release import chart
from release.running import ROOT, ReleaseError, run

DIST = ROOT / "dist"
SBOM = "model-cache-extender.cdx.json"
CHECKSUMS = "SHA256SUMS"


def build(out: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it, with the locked backend; return both."""
    run([sys.executable, "-m", "build", "--no-isolation", f"--outdir={out}", ROOT])
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def write_sbom(path: Path) -> None:
    """Write what the image holds besides Python: every locked package with its hashes."""
    command: list[str | Path] = [sys.executable, "-m", "cyclonedx_py", "requirements"]
    command += ["--output-reproducible", "--pyproject=pyproject.toml", f"--output-file={path}"]
    run([*command, "requirements.lock"])


def version_of(sdist: Path) -> str:
    """Return the version that an sdist's name tells."""
    return sdist.name.removesuffix(".tar.gz").rpartition("-")[2]


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file in a folder, as ``sha256sum --check`` reads it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != CHECKSUMS
    ]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def try_installed(bin_folder: Path, sdist: Path, workdir: Path) -> list[str]:
    """Use an installed wheel away from the tree; return what was tried. Raises ReleaseError."""
    program = bin_folder / "model-cache-extender"
    version = version_of(sdist)
    said = run([program, "--version"], workdir)
    if version not in said:
        raise ReleaseError(f"--version says {said!r}, not {version}")
    plugin = run([bin_folder / "kubectl-modelcache", "--help"], workdir)
    if "Usage: kubectl modelcache" not in plugin:
        raise ReleaseError(f"kubectl-modelcache --help says {plugin[:300]!r}")
    demo = run([program, "demo"], workdir)
    if "gpu-1" not in demo:
        raise ReleaseError(f"demo does not place its pods: {demo[:300]}")
    with tarfile.open(sdist) as archive:
        archive.extractall(workdir, filter="data")
    config = next(workdir.glob("*/config/extender-config.yaml"), None)
    if config is None:
        raise ReleaseError(f"{sdist.name} has no config/extender-config.yaml")
    read = "import pathlib, sys; from extender.config import load_configuration as load; "
    read += "load(pathlib.Path(sys.argv[1])); import extender; print(extender.__file__)"
    where = run([bin_folder / "python", "-c", read, config], workdir).strip()
    if ROOT in Path(where).parents and bin_folder.parent not in Path(where).parents:
        raise ReleaseError(f"what ran was not the wheel but {where}")
    return ["--version", "kubectl-modelcache", "demo", "the shipped configuration"]


def main() -> int:
    """Make a release in ``dist/``."""
    shutil.rmtree(DIST, ignore_errors=True)
    try:
        sdist, wheel = build(DIST)
        write_sbom(DIST / SBOM)
        packed = chart.pack(DIST)
        write_checksums(DIST)
        with tempfile.TemporaryDirectory(prefix="release-") as folder:
            venv, workdir = Path(folder, "venv"), Path(folder, "work")
            workdir.mkdir()
            run([sys.executable, "-m", "venv", venv])
            pip: list[str | Path] = [
                venv / "bin" / "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            run([*pip, "--require-hashes", "--requirement", ROOT / "requirements.lock"])
            run([*pip, "--no-deps", wheel])
            tried = try_installed(venv / "bin", sdist, workdir)
            tried += chart.try_packed(packed, version_of(sdist), workdir)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    made = ", ".join(path.name for path in sorted(DIST.iterdir()))
    print(f"dist/: {made}; tried as installed: {', '.join(tried)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
