"""The program as a whole: its two names, its help, its demo, and how it ends."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from extender import __version__
from tests.cli.program import CLUSTER, run, start

SCRIPT = Path(sys.executable).parent / "model-cache-extender"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["explain", "-h"],
        ["inventory", "--snapshot", str(CLUSTER), "-o", "json"],
        ["explain", "--snapshot", str(CLUSTER), "nobody"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_the_script_and_the_module_are_the_same_program(arguments: list[str]) -> None:
    assert SCRIPT.exists(), "install the project: pip install --no-deps --editable ."
    assert start(*arguments, program=(str(SCRIPT),)) == start(*arguments)


def test_the_version_is_that_of_the_package() -> None:
    assert start("--version") == (0, f"model-cache-extender, version {__version__}\n", "")


def test_what_only_the_server_needs_is_not_loaded_by_other_commands() -> None:
    """An init container that fills a model waits for its start."""
    loaded = "import sys, extender.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, timeout=120, check=True
    )
    assert not {"flask", "kubernetes", "urllib3"} & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["explain", "--nonsense"]], ids=str)
def test_wrong_use_is_exit_code_2_with_a_hint(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert "Usage: model-cache-extender" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_answer_that_cannot_be_written_is_said() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "extender", "inventory", "--snapshot", CLUSTER],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode != 0
    assert done.stderr.startswith("error: No space left on device")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_stack_trace() -> None:
    """As in ``... | head -1``."""
    with subprocess.Popen(
        [sys.executable, "-m", "extender", "inventory", "--snapshot", CLUSTER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        process.wait(60)


def test_the_demo_places_every_pod_and_says_why(tmp_path: Path) -> None:
    done = start("demo", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    text = done.stdout[done.stdout.index("POD ") :]
    head, *lines = text.split("\n\n")[0].splitlines()
    columns = [head.index(name) for name in ("POD", "STRATEGY", "GOES TO", "WHY")]
    rows = {
        line.split()[0]: tuple(
            line[begin:end].strip() for begin, end in itertools.pairwise(columns[1:])
        )
        for line in lines
    }
    assert rows["llama-memory"] == ("memory", "gpu-2")
    assert rows["qwen-claim"] == ("shared-volume", "gpu-4")
    assert rows["mistral-image"] == ("image", "gpu-5")
    assert rows["gemma-hostpath"] == ("node-cache", "waits")
    strategy, node = rows["llama-hostpath"]
    assert (strategy, node in {"gpu-1", "gpu-2"}) == ("node-cache", True)


def test_the_command_that_the_demo_ends_with_works_where_it_was_run(tmp_path: Path) -> None:
    *_, last = start("demo", cwd=tmp_path).stdout.strip().splitlines()
    said = shlex.split(last.removeprefix("Look further: "))
    done = subprocess.run(
        said, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "pod inference/llama-hostpath: fits on 2 of 5 nodes" in done.stdout
