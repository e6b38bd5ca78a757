"""What ``make e2e`` says where it cannot run, how its parts are built, and what ends and stays."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from controlplane.build import BUILDING, DEFAULT_VERSION, build_missing, node_parts, parts, pinned
from e2e import __main__ as command
from e2e import apart, kept
from e2e.apart import Run, new_run, remove_folder, runs
from e2e.cluster import RealCluster
from e2e.images import SCHEDULER, Base, Image, folder
from tests.controlplane import cluster as controlplane
from tests.deploy.manifests import DEPLOYMENT


def test_another_system_than_linux_is_refused_with_what_works_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(command.NotHereError, match=r"needs Linux.*make test"):
        command.check()


def test_without_root_it_says_so_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(command.NotHereError, match="sudo make e2e"):
        command.check()


def test_a_missing_tool_is_named_with_the_script_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(command, "TOOLS", ("no-such-tool",))
    with pytest.raises(command.NotHereError, match=r"no-such-tool.*e2e/install\.sh"):
        command.check()


@pytest.fixture
def equipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let there be root and every tool."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(command, "TOOLS", ())
    monkeypatch.setattr(command, "PLUGINS", tmp_path)
    monkeypatch.setattr(command, "FUSE", Path("/dev/null"))
    monkeypatch.setattr(command, "BYTES", 0)
    for name in ("bridge", "host-local"):
        (tmp_path / name).touch()


@pytest.mark.usefixtures("equipped")
def test_where_memory_is_short_it_says_what_is_there_and_what_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "BYTES", 10**15)
    with pytest.raises(command.NotHereError, match=r"\d GB of memory are available.*1000000 GB"):
        command.check()


@pytest.mark.usefixtures("equipped")
@pytest.mark.parametrize("place", ["/var/lib", "/var/log", "/run"])
def test_a_cache_where_nodes_see_disks_of_their_own_is_refused_with_the_variable_that_moves_it(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("MODEL_CACHE_EXTENDER_ASSETS", f"{place}/cache")
    with pytest.raises(command.NotHereError, match=f"{place}/cache.*MODEL_CACHE_EXTENDER_ASSETS"):
        command.check()


@pytest.mark.usefixtures("equipped")
def test_where_no_namespaces_can_be_made_it_says_what_a_container_needs_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "UNSHARE", ("sh", "-c", "echo not permitted >&2; exit 1"))
    with pytest.raises(command.NotHereError, match=r"not permitted.*--privileged"):
        command.check()


@pytest.mark.usefixtures("equipped")
def test_without_fuse_it_says_what_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "FUSE", Path("/dev/no-such-device"))
    with pytest.raises(command.NotHereError, match=r"/dev/no-such-device.*modprobe fuse"):
        command.check()


@pytest.mark.usefixtures("equipped")
def test_where_no_cgroups_are_mounted_it_says_where_they_belong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "UNSHARE", ("true",))
    monkeypatch.setattr(command, "hierarchies", list)
    with pytest.raises(command.NotHereError, match=r"no cgroups are mounted in /sys/fs/cgroup"):
        command.check()


def test_what_a_killed_build_has_left_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / f"{BUILDING}killed" / "half").mkdir(parents=True)
    build_missing([], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_another_one_when_the_content_of_what_it_stands_on_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODEL_CACHE_EXTENDER_ASSETS", str(tmp_path))
    base = Base()
    below = Image("below", Path(__file__), base=base)
    above = Image("above", Path(__file__), base=below)
    digests = set()
    for content in ("0" * 12, "1" * 12):
        archive = folder() / f"{base.stem()}-{content}.tar"
        archive.touch()
        digests |= {below.digest(), above.digest()}
        archive.unlink()
    assert len(digests) == 4


def test_kubelet_scheduler_image_and_control_plane_are_of_one_release() -> None:
    releases = {pinned(part) for part in parts(DEFAULT_VERSION) if part.name == "kube-apiserver"}
    assert {pinned(part) for part in node_parts() if part.name == "kubelet"} == releases
    assert DEPLOYMENT.container("kube-scheduler")["image"] == SCHEDULER
    assert SCHEDULER.rpartition(":")[2] in releases


TIED = """
import time
from e2e.tied import tie
tie()
print("tied", flush=True)
time.sleep(300)
"""
ROOT = Path(command.__file__).parents[1]


@pytest.fixture
def tied() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Return what has a shell run a script that names a tied process ``$0``; it ends with us."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> subprocess.Popen[bytes]:
        words = ["sh", "-c", script, sys.executable, TIED]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"tied\n"
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


Tied = Callable[[str], subprocess.Popen[bytes]]


def ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Say whether everything that could still write to a process's output ends within a time."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], seconds)
    return bool(readable) and process.stdout.read() == b""


@pytest.mark.parametrize("between", ["", 'sh -c \'"$0" -c "$1"; true\' '])
def test_a_run_ends_with_what_waits_for_it_though_that_is_killed_and_can_tell_nobody(
    tied: Tied, between: str
) -> None:
    arguments = '"$0" "$1"' if between else '"$0" -c "$1"'
    process = tied(f"exec timeout --foreground 200 {between}{arguments}")
    process.kill()
    assert ended(process, 60)


def test_a_run_goes_on_when_the_shell_ends_that_has_sent_it_into_the_background(tied: Tied) -> None:
    process = tied('"$0" -c "$1" &')
    assert process.wait(60) == 0
    assert not ended(process, 1)


def test_what_nothing_had_tied_yet_when_its_run_was_killed_ends_before_anything_is_removed(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path / "run")
    run.temporary.mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(run.temporary)}
    with subprocess.Popen(["sleep", "60"], env=environment) as orphan:
        assert run.processes() == [orphan.pid]
        run.clean()
        assert orphan.wait() == -signal.SIGKILL
    assert not run.folder.exists()


def test_before_its_keeper_is_there_a_run_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_CACHE_EXTENDER_ASSETS", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-program"))
    with pytest.raises(FileNotFoundError), new_run():
        raise AssertionError("it is there")
    assert list(runs().iterdir()) == []


def test_a_keeper_whose_starter_has_ended_before_it_was_there_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_CACHE_EXTENDER_ASSETS", str(tmp_path))
    runs().mkdir(parents=True)
    words = [sys.executable, "-m", "e2e.apart", str(runs() / "run")]
    read, write = os.pipe()
    os.close(read)  # nobody hears what it says
    with os.fdopen(write, "wb") as deaf:
        keeper = subprocess.run(
            words,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=deaf,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (keeper.returncode, keeper.stderr) == (0, b"")
    assert list(runs().iterdir()) == []


def test_a_folder_that_went_in_the_end_is_not_said_to_be_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    remove = shutil.rmtree

    def once_in_vain(path: Path, **how: Any) -> None:
        monkeypatch.setattr(shutil, "rmtree", remove)
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    monkeypatch.setattr(shutil, "rmtree", once_in_vain)
    monkeypatch.setattr(apart, "GONE_SECONDS", -1)
    remove_folder(folder)
    assert not folder.exists()


def test_a_failure_is_written_down_as_far_as_a_cluster_that_hangs_can_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\nexec sleep 60\n", encoding="ascii")
    kubectl.chmod(0o755)
    monkeypatch.setattr(controlplane, "KUBECTL_SECONDS", 0.5)
    cluster = RealCluster(Run(tmp_path), tmp_path, tmp_path, tmp_path)
    cluster.write_down("test_that_failed")
    assert (tmp_path / "test_that_failed.log").read_text(encoding="utf-8") == ""


def test_logs_of_a_run_are_kept_and_neither_tokens_nor_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LOGS", tmp_path / "logs")
    run = tmp_path / "run"
    kubelet, pod = "tests/cluster0/kubelet-real-1.log", "real-1/root/var/log/pods/a_b_c/main/0.log"
    secrets = ("tests/cluster0/tokens.csv", "tests/cluster0/admin.kubeconfig")
    for name in (kubelet, pod, *secrets, "tests/cluster0/service-account.key"):
        file = run / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name, encoding="utf-8")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "of-the-run-before.log").touch()
    kept.keep_logs(run)
    found = {
        str(file.relative_to(kept.LOGS)): file.read_text(encoding="utf-8")
        for file in kept.LOGS.rglob("*")
        if file.is_file()
    }
    assert found == {kubelet: kubelet, pod: pod}
