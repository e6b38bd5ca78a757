"""What doctor tells about downloads is done by huggingface_hub's own command, as it is printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from extender.doctor.finding import Finding
from tests.doctor.building import NODES, WARNING, filled, findings, one
from tests.loader.hub import Hub, Repository
from tests.loader.models import small_model

REPOSITORY = "org/m"
SAFE = small_model()
PICKLED = {"pytorch_model.bin": b"p", "a/model.pt": b"p", "original/consolidated.00.pth": b"p"}
LEFT_OUT = '--exclude "*.bin" --exclude "*.pt" --exclude "*.pth"'
CHOSEN_BADLY = {
    "every file": ("EveryFormatFetched", "", f'{LEFT_OUT} --exclude "original/*"', ""),
    "pickles chosen": (
        "PickledWeights", '--include "*.bin"', LEFT_OUT, ' in place of --include "*.bin"'
    ),
    "safetensors left out": (
        "PickledWeights", "--exclude '*.safetensors'", LEFT_OUT,
        " in place of --exclude '*.safetensors'",
    ),
    "both": (
        "PickledWeights", "--exclude '*.safetensors' --include '*.bin'", LEFT_OUT,
        " in place of --exclude '*.safetensors', --include '*.bin'",
    ),
}  # fmt: skip


def script(options: str) -> str:
    return f"hf download {REPOSITORY} --local-dir /models/m {options}"


def told(options: str) -> list[Finding]:
    """Return what doctor says of the formats that a loader downloads."""
    of_formats = {"EveryFormatFetched", "PickledWeights", "SeveralPatterns"}
    found = findings([*NODES, filled(script=script(options))])
    return [finding for finding in found if finding.check in of_formats]


def brought(options: str, into: Path) -> set[str]:
    """Return the files that the installed ``hf download`` fetches with these options."""
    with Hub() as hub:
        hub.repositories[REPOSITORY] = Repository(SAFE | PICKLED)
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(into / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        command = [sys.executable, "-m", "huggingface_hub.cli.hf", "download", REPOSITORY]
        command += ["--local-dir", str(into / "m"), *shlex.split(options)]
        subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)
    model = into / "m"
    files = (path for path in model.rglob("*") if path.is_file())
    names = {str(path.relative_to(model)) for path in files}
    return {name for name in names if not name.startswith(".cache/")}


@pytest.mark.parametrize(
    ("check", "chosen", "options", "instead"), CHOSEN_BADLY.values(), ids=CHOSEN_BADLY
)
def test_what_is_to_be_pasted_ends_the_finding(
    check: str, chosen: str, options: str, instead: str
) -> None:
    (found,) = told(chosen)
    assert found.check == check
    command = re.search(r"\(hf download ([^)]*)\)", found.remedy)
    assert command is not None
    assert command[1] == options
    assert found.remedy.endswith(f"){instead} in spec.initContainers[0]")
    assert told(command[1]) == []


def test_what_is_to_be_pasted_brings_the_safetensors_and_no_pickle(tmp_path: Path) -> None:
    assert brought(f'{LEFT_OUT} --exclude "original/*"', tmp_path) == set(SAFE)


def test_several_patterns_after_one_option_are_told_as_the_files_that_they_are(
    tmp_path: Path,
) -> None:
    """The command excludes the first, fetches the others, and warns where nobody reads it."""
    options = '--exclude "*.bin" "*.pt" "*.pth"'
    assert brought(options, tmp_path) == {"a/model.pt", "original/consolidated.00.pth"}
    (found,) = told(options)
    assert (found.check, found.severity) == ("SeveralPatterns", WARNING)
    assert found.remedy == f"{LEFT_OUT} in spec.initContainers[0]"
    assert told(LEFT_OUT) == []


@pytest.mark.parametrize(
    ("options", "alone", "instead"),
    [
        (
            '--include "*.safetensors" config.json',
            "config.json", '--include "*.safetensors" --include "config.json"',
        ),
        (
            "--include=*.safetensors config.json vocab.json",
            "config.json, vocab.json",
            '--include "*.safetensors" --include "config.json" --include "vocab.json"',
        ),
        (
            'config.json --include "*.safetensors"',
            "config.json", '--include "*.safetensors" --include "config.json"',
        ),
    ],
    ids=["after its pattern", "after an equals sign", "before"],
)  # fmt: skip
def test_files_beside_a_pattern_that_is_to_be_fetched_are_told_as_fetched_alone(
    options: str, alone: str, instead: str
) -> None:
    """A server finds a configuration there, and no weights."""
    (found,) = told(options)
    assert found.check == "SeveralPatterns"
    assert f" has {alone} beside an option of hf download " in found.message
    assert found.remedy == f"{instead} in spec.initContainers[0]"
    assert told(instead) == []


def test_files_beside_a_pattern_are_fetched_alone(tmp_path: Path) -> None:
    options = '--include "*.safetensors" config.json'
    assert brought(options, tmp_path / "badly") == {"config.json"}
    instead = options.replace(" config", " --include config")
    assert len(brought(instead, tmp_path / "well")) > 1


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("--exclude '*.bin' --exclude '*.pt'", id="one each"),
        pytest.param("config.json vocab.json", id="files"),
        pytest.param("--include '*.safetensors' $MORE", id="what cannot be told"),
        pytest.param("--include '*.safetensors' --exclude '*.bin'", id="one of each"),
        pytest.param("--exclude '*.bin' --max-workers 4", id="another option after it"),
        pytest.param("--exclude='*.bin' config.json", id="a file"),
    ],
)
def test_one_pattern_after_each_option_is_as_it_should_be(options: str) -> None:
    assert told(options) == []


def test_the_repository_may_stand_behind_an_option() -> None:
    behind = "hf download --include '*.safetensors' org/m --local-dir /models/m"
    assert not {"SeveralPatterns", "EveryFormatFetched"} & {
        finding.check for finding in findings([*NODES, filled(script=behind)])
    }


def in_python(patterns: str) -> list[str]:
    """Return what doctor says of a ``snapshot_download`` with these arguments."""
    call = f"snapshot_download('org/m', local_dir='/models/m', {patterns})"
    script = f'python -c "from huggingface_hub import snapshot_download; {call}"'
    checks = {"EveryFormatFetched", "PickledWeights"}
    return [one.check for one in findings([*NODES, filled(script=script)]) if one.check in checks]


@pytest.mark.parametrize("form", ["'{}'", "['{}']", '\\"{}\\"', " '{}'"])
def test_one_pattern_need_not_stand_in_a_list(form: str) -> None:
    assert in_python(f"ignore_patterns={form.format('*.bin')}") == []
    assert in_python(f"ignore_patterns={form.format('*.safetensors')}") == ["PickledWeights"]
    assert in_python(f"allow_patterns={form.format('*.bin')}") == ["PickledWeights"]
    assert in_python(f"allow_patterns={form.format('*.safetensors')}") == []
    assert in_python("max_workers=4") == ["EveryFormatFetched"]


def test_what_is_no_hub_s_download_is_not_told_of_its_options() -> None:
    copied = "aws s3 cp --recursive s3://b/m /models/m --exclude '*' --include '*.bin'"
    found = one(findings([*NODES, filled(script=copied)]), "PickledWeights")
    assert found.remedy == (
        "choose *.safetensors, not *.bin, *.pt or *.pth, in place of --exclude '*', "
        "--include '*.bin' in spec.initContainers[0]"
    )
