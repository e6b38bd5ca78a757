"""What a cut at half a download costs: our loader, ``hf download``, and the usual shell line.

Each fetches the same sharded model from the tests' stand-in for the hub over loopback, is killed
(SIGKILL, all its processes) when half the bytes were sent, and is started again as its Job or
DaemonSet would be. The server counts what it sends; safetensors' own reader says what came of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bench.results import Row
from tests.loader.hub import Hub, Repository, sha256_of
from tests.loader.models import contents, small_model

REPOSITORY = "org/model"
PIECE_BYTES, PIECE_SECONDS = 2**20, 0.02
"""About 50 MB/s for each connection, so that a cut hits something under way."""

_HERE = Path(sys.executable).parent


def programs(dest: Path) -> dict[str, Sequence[str]]:
    """Return what is compared, each as the command that a container would run."""
    fetch = (
        "from huggingface_hub import snapshot_download; "
        f"snapshot_download('{REPOSITORY}', local_dir='{dest}')"
    )
    line = f'if [ ! -f {dest}/config.json ]; then {sys.executable} -c "{fetch}"; fi'
    return {
        "loader fill": [
            str(_HERE / "model-cache-extender"), "loader", "fill", f"hf://{REPOSITORY}", str(dest)
        ],
        "hf download": [str(_HERE / "hf"), "download", REPOSITORY, "--local-dir", str(dest)],
        "[ ! -f config.json ] && ...": ["sh", "-c", line],
    }  # fmt: skip


def measure(folder: Path, *, megabytes: int) -> Iterator[Row]:
    """Yield one row a program: what the cut cost, and what a reader finds."""
    files = small_model(shards=4, size=megabytes * 10**6 // 4)
    for name in programs(folder):
        yield _cut(name, folder, files)


def _cut(name: str, folder: Path, files: Mapping[str, bytes]) -> Row:
    size = sum(len(data) for data in files.values())
    dest = folder / "models" / "model"
    shutil.rmtree(dest.parent, ignore_errors=True)
    dest.parent.mkdir(parents=True)
    with Hub(piece=PIECE_BYTES) as hub:
        hub.repositories[REPOSITORY] = Repository(files=dict(files))
        warm(hub)
        hub.delay = PIECE_SECONDS
        command = programs(dest)[name]
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")}
        until_cut = _run(command, environment, folder, cut=partial(_half_sent, hub, size))
        seen = state(dest, files) if dest.exists() else "nothing"
        time.sleep(1)  # what was on its way to the killed process was sent, too
        before = hub.bytes_sent()
        again = _run(command, environment, folder)
        sent = hub.bytes_sent()
    return Row(
        benchmark="loader-cut",
        case={"program": name},
        figures={
            "s to the cut": until_cut,
            "s of the second run": again,
            "shown after the cut": seen,
            "MB of the second run": (sent - before) / 1e6,
            "MB fetched twice": max(0, sent - size) / 1e6,
            "result": state(dest, files),
        },
    )


def state(directory: Path, files: Mapping[str, bytes]) -> str:
    """Say what a reader of a model's directory finds."""
    found = contents(directory)
    missing = [path for path in files if path not in found]
    weights = [path for path in files if path.endswith(".safetensors")]
    for path in weights:
        if path in missing:
            continue
        try:
            with safe_open(directory / path, "numpy") as opened:
                for key in opened.keys():  # noqa: SIM118 - not a mapping
                    opened.get_tensor(key)
        except (SafetensorError, OSError) as error:
            return f"broken: {path}: {error}"
    if missing:
        shards = sum(path in missing for path in weights)
        return f"broken: {shards} of {len(weights)} shards missing"
    same = all(found[path] == data for path, data in files.items())
    return "whole" if same else "broken: other bytes"


def _run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    cut: Callable[[], bool] | None = None,
) -> float:
    """Run a command to its end, or until ``cut`` says that it is to be killed; return seconds."""
    began = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    while process.poll() is None:
        if cut is not None and cut():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return time.perf_counter() - began
        time.sleep(0.002)
    if process.returncode or cut is not None:
        raise RuntimeError(f"{command}: {(folder / 'log').read_text()[-2000:]}")
    return time.perf_counter() - began


def _half_sent(hub: Hub, size: int) -> bool:
    return hub.bytes_sent() >= size / 2


def warm(hub: Hub) -> None:
    """Let the server hash its files before anybody waits for that."""
    repository = hub.repositories[REPOSITORY]
    _ = repository.commit
    for data in repository.files.values():
        sha256_of(data)
