"""The workflows for people who fork this: valid, pinned, of few rights, for all versions."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.build import BuildError, supported, tool
from e2e.__main__ import TEST_SECONDS
from extender import __version__ as VERSION  # noqa: N812

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))

FIRST_BUILD_SECONDS = 15 * 60
"""Of the real node's parts, on two cores: docs/real-node.md."""

Document = dict[str, Any]


@pytest.fixture(scope="module")
def actionlint() -> Path:
    try:
        return tool("actionlint")
    except BuildError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def lint(actionlint: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """Ask actionlint alone: what else is installed here is none of its business."""
    command = [str(actionlint), "-no-color", "-shellcheck=", "-pyflakes=", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def loaded(name: str) -> Document:
    found: Document = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text("utf-8"))
    return found


def jobs() -> Iterator[tuple[str, Document]]:
    for path in WORKFLOWS:
        for name, job in loaded(path.name)["jobs"].items():
            yield f"{path.stem}/{name}", job


JOBS = dict(jobs())


def test_every_workflow_is_valid(actionlint: Path) -> None:
    assert len(WORKFLOWS) == 2
    done = lint(actionlint, *WORKFLOWS)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-1.0", 'label "ubuntu-1.0" is unknown'),
        ("${{ matrix.python }}", "${{ matrix.pyhton }}", 'property "pyhton" is not defined'),
        ("fail-fast: false", "fail-fats: false", 'unexpected key "fail-fats"'),
    ],
)
def test_the_linter_finds_what_would_fail_there(
    actionlint: Path, tmp_path: Path, before: str, after: str, said: str
) -> None:
    (sound,) = [path for path in WORKFLOWS if path.name == "ci.yaml"]
    broken = tmp_path / "broken.yaml"
    broken.write_text(sound.read_text("utf-8").replace(before, after, 1), encoding="utf-8")
    done = lint(actionlint, broken)
    assert done.returncode == 1
    assert said in done.stdout


def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it() -> None:
    pinned: dict[str, str] = {}
    for path in WORKFLOWS:
        for line in re.findall(r"uses: (.+)$", path.read_text("utf-8"), re.MULTILINE):
            if line.startswith("./"):
                continue
            found = re.fullmatch(r"([\w./-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+", line)
            assert found, line
            assert pinned.setdefault(found[1], line) == line, "one version of each action"
    assert "actions/checkout" in pinned


def test_a_workflow_may_read_and_a_job_says_what_else_it_needs() -> None:
    writes: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        assert loaded(path.name)["permissions"] == {"contents": "read"}
    for name, job in JOBS.items():
        granted = job.get("permissions", {})
        writes[name] = {scope for scope, level in granted.items() if level == "write"}
    assert {name: scopes for name, scopes in writes.items() if scopes} == {
        "release/image": {"packages", "id-token", "attestations"},
        "release/publish": {"contents", "packages", "id-token", "attestations"},
    }


def before(name: str) -> set[str]:
    """Return the jobs of the release that have to end well before one begins."""
    needed = JOBS[f"release/{name}"].get("needs", [])
    direct = {needed} if isinstance(needed, str) else set(needed)
    return direct.union(*map(before, direct))


def test_nothing_is_published_before_the_tag_was_checked_and_all_was_tested_and_built() -> None:
    """An image that was pushed under a wrong version stays under it."""
    publish = {name for name, job in JOBS.items() if "write" in job.get("permissions", {}).values()}
    assert publish == {"release/image", "release/publish"}
    for name in publish:
        assert before(name.partition("/")[2]) >= {"tag", "test", "build"}, name


@pytest.mark.parametrize("tag", ["", "v", "v9.9.9", VERSION, f"v{VERSION}-rc.1", f"v{VERSION}"])
def test_a_tag_that_is_not_the_version_ends_the_release(tag: str) -> None:
    (check,) = [step["run"] for step in JOBS["release/tag"]["steps"] if "run" in step]
    command = ["bash", "-e", "-o", "pipefail", "-c", check]
    environment = {"PATH": os.environ["PATH"], "GITHUB_REF_NAME": tag}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == (tag != f"v{VERSION}"), done.stderr
    assert (f"the program is {VERSION}, the chart {VERSION}" in done.stdout) is bool(
        done.returncode
    )


@pytest.mark.parametrize("name", [name for name, job in JOBS.items() if "steps" in job])
def test_every_job_has_a_time_limit_and_keeps_no_credentials(name: str) -> None:
    assert 0 < JOBS[name]["timeout-minutes"] <= 120
    for step in JOBS[name]["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", ""), "values reach a shell as variables alone"


def test_the_matrix_has_every_python_and_every_kubernetes_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = [
        found[1]
        for line in project["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]
    assert JOBS["ci/unit"]["strategy"]["matrix"]["python"] == pythons
    matrix = JOBS["ci/controlplane"]["strategy"]["matrix"]
    assert matrix["kubernetes"] == supported()
    tried = {*matrix["python"], *(extra["python"] for extra in matrix["include"])}
    assert tried == set(pythons)
    assert {extra["kubernetes"] for extra in matrix["include"]} == {supported()[-1]}


def test_what_runs_is_what_a_newcomer_runs() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    asked = {
        target
        for job in JOBS.values()
        for step in job.get("steps", [])
        for target in re.findall(r"^make ([a-z0-9-]+)$", step.get("run", ""), re.MULTILINE)
    }
    assert asked == {
        "lint",
        "audit",
        "test-unit",
        "test-controlplane",
        "bench-quick",
        "e2e",
        "e2e-kills",
        "release",
    }
    for target in asked:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_dependabot_looks_at_folders_that_are_there() -> None:
    document = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text("utf-8"))
    for update in document["updates"]:
        for folder in update.get("directories", [update.get("directory")]):
            assert (ROOT / folder.lstrip("/")).is_dir(), folder


def test_the_real_nodes_steps_have_limits_of_their_own_within_that_of_their_job() -> None:
    job = loaded("ci.yaml")["jobs"]["e2e"]
    limits = {step["run"]: step.get("timeout-minutes", 0) for step in job["steps"] if "run" in step}
    run, kills = limits["make e2e"], limits["make e2e-kills"]
    assert run * 60 > FIRST_BUILD_SECONDS + TEST_SECONDS, (
        "its own limit comes first, and has it keep its logs"
    )
    assert kills > 0
    assert run + kills < job["timeout-minutes"]


@pytest.mark.parametrize("name", ["unit", "controlplane"])
def test_what_the_browser_showed_is_kept_of_every_run(name: str) -> None:
    job = loaded("ci.yaml")["jobs"][name]
    (kept,) = (step for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    assert kept["with"]["path"] == "build/screenshots"
    assert kept["if"] == "${{ !cancelled() }}", "most of all where a test failed"
    versions = re.findall(r"matrix\.(\w+)", kept["with"]["name"])
    assert set(versions) == {key for key in job["strategy"]["matrix"] if key != "include"}
