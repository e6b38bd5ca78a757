"""Directories that huggingface_hub itself filled, or was killed over, as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.stored import model_directories
from tests.loader.hub import Hub, Repository, Trouble
from tests.loader.models import small_model

FILES = small_model(shards=3, size=200_000)
SHARD = "model-00002-of-00003.safetensors"
REPOSITORY = "meta-llama/Llama-3.1-8B-Instruct"
ARTICLE = (
    "import sys; from huggingface_hub import snapshot_download; "
    f"snapshot_download('{REPOSITORY}', local_dir=sys.argv[1])"
)
INTO_CACHE = f"from huggingface_hub import snapshot_download; snapshot_download('{REPOSITORY}')"


def download(hub: Hub, script: str, home: Path, *arguments: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment)


def wait_for_all_but(shard: str, directory: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        there = {path for path in FILES if (directory / path).is_file()}
        if there == set(FILES) - {shard} and list(directory.rglob("*.incomplete")):
            return
        assert process.poll() is None, "the download ended by itself"
        time.sleep(0.05)
    pytest.fail(f"the download did not get to {shard}")


def test_the_article_s_loader_killed_in_mid_download_is_told_as_damaged_and_whole_once_it_is(
    tmp_path: Path,
) -> None:
    model, home = tmp_path / "llama-3.1-8b-instruct", tmp_path / "home"
    with Hub() as hub:
        hub.repositories[REPOSITORY] = Repository(FILES)
        hub.troubles[SHARD] = [Trouble(hang_after=50_000)] * 9
        process = download(hub, ARTICLE, home, model)
        try:
            wait_for_all_but(SHARD, model, process)
        finally:
            process.kill()
            process.wait(10)
        assert (model / "config.json").is_file(), "what the article's own check looks for"
        verdict = verify(model)
        assert not verdict.ok
        assert (SHARD, "missing") in {(p.file, p.kind.value) for p in verdict.problems}

        hub.troubles.clear()
        assert download(hub, ARTICLE, home, model).wait(120) == 0
    verdict = verify(model, level=Level.CONTENT)
    assert verdict.ok, verdict
    # The tool leaves what it was killed over.
    assert all(
        note.endswith("incomplete: left over, its file is there") for note in verdict.unchecked
    )


def test_the_hub_s_own_cache_is_proven_by_what_it_holds(tmp_path: Path) -> None:
    with Hub() as hub:
        hub.repositories[REPOSITORY] = Repository(FILES)
        assert download(hub, INTO_CACHE, tmp_path).wait(120) == 0
    (snapshot,) = model_directories(tmp_path / "hub")
    verdict = verify(snapshot, level=Level.CONTENT)
    assert (verdict.ok, verdict.layout, verdict.files) == (True, "hub-cache", len(FILES))
    assert verdict.unchecked == ()
    blob = (snapshot / SHARD).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    assert [p.file for p in verify(snapshot, level=Level.CONTENT).problems] == [SHARD]
