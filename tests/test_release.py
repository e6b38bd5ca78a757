"""What is released: its licences, its audit, and the wheel as somebody installs it."""

from __future__ import annotations

import json
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from release import audit, licences
from release.build import CHECKSUMS, build, try_installed, write_checksums, write_sbom
from release.running import ROOT, ReleaseError, run
from tests.deploy.manifests import FILES


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("Apache Software License; BSD License", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only", False),
        ("UNKNOWN", False),
    ],
)
def test_one_of_or_and_all_of_and_have_to_be_allowed(licence: str, *, allowed: bool) -> None:
    assert licences.is_allowed(licence) is allowed


def test_everything_that_ships_may_be_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert licences.main() == 0, capsys.readouterr().out


CLEAN = {"name": "flask", "version": "3.1", "vulns": []}
HOLE = {"id": "PYSEC-1", "fix_versions": ["3.2"], "aliases": [], "description": ""}
SKIPPED = {"name": "flask", "skip_reason": "not found on the index"}


@pytest.mark.parametrize(
    ("package", "code", "said"),
    [
        (CLEAN, 0, "no vulnerability is known in 1 packages"),
        (CLEAN | {"vulns": [HOLE]}, 1, "flask 3.1: PYSEC-1, mended in 3.2"),
        (SKIPPED, 0, "NOT AUDITED: 1 of 1 packages, not found on the index"),
    ],
    ids=["clean", "vulnerable", "not reachable"],
)
def test_an_audit_fails_for_a_known_hole_alone_and_says_what_it_could_not_see(
    package: object, code: int, said: str
) -> None:
    got, lines = audit.verdict({"dependencies": [package]})
    assert got == code
    assert said in lines[0]


def test_the_sbom_names_every_locked_package(tmp_path: Path) -> None:
    write_sbom(tmp_path / "sbom.json")
    document = json.loads((tmp_path / "sbom.json").read_text())
    named = {component["name"] for component in document["components"]}
    assert named >= set(licences.locked())
    assert document["metadata"]["component"]["name"] == "model-cache-extender"


def test_checksums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "one.whl").write_bytes(b"one")
    (tmp_path / "two.tgz").write_bytes(b"two")
    write_checksums(tmp_path)
    said = run(["sha256sum", "--check", CHECKSUMS], tmp_path)
    assert said.split() == ["one.whl:", "OK", "two.tgz:", "OK"]
    (tmp_path / "two.tgz").write_bytes(b"other")
    with pytest.raises(ReleaseError):
        run(["sha256sum", "--check", CHECKSUMS], tmp_path)


def test_the_wheel_holds_the_program_and_works_away_from_the_tree(tmp_path: Path) -> None:
    """`make release` installs the locked dependencies anew; here they are borrowed."""
    sdist, wheel = build(tmp_path / "dist")
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in held} == {
        "extender",
        "model_cache_extender",
    }
    with tarfile.open(sdist) as archive_of_sources:
        sources = {name.partition("/")[2] for name in archive_of_sources.getnames()}
    tree = {str(path.relative_to(ROOT)) for path in FILES}
    assert tree <= sources, "the chart's links hide no folder from the sdist"
    assert not [name for name in sources if name.startswith("deploy/chart")]
    assert {"extender/demo/cluster.yaml", "extender/py.typed"} <= set(held)
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install"]
    run([*pip, "--quiet", "--no-deps", "--no-index", wheel])
    borrowed = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"
    (packages / "borrowed.pth").write_text(borrowed)
    workdir = tmp_path / "work"
    workdir.mkdir()
    assert try_installed(home / "bin", sdist, workdir)
    with pytest.raises(ReleaseError, match="exit code 2"):
        run([home / "bin" / "model-cache-extender", "nonsense"])
    assert (workdir / wheel.name.partition("-py3")[0] / "config").is_dir()
    assert ROOT not in packages.parents
