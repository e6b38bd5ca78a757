"""What a person sees on a terminal, and what a program sees in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest
import yaml

from extender.snapshot import DUMP_COMMAND
from tests.cli.program import CLUSTER, MODULE, PODS, run

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(columns: int, *arguments: str | Path, **environment: str) -> str:
    """Run the program on a terminal of so many columns; return what it wrote."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [*MODULE, *map(str, arguments)],
        stdout=follower,
        stderr=follower,
        stdin=subprocess.DEVNULL,
        env={**kept, "TERM": "xterm-256color", **environment},
    )
    os.close(follower)
    written = b""
    try:
        while chunk := os.read(leader, 65536):
            written += chunk
    except OSError:  # the other side has closed it
        pass
    finally:
        os.close(leader)
    process.wait(60)
    return written.decode().replace("\r\n", "\n")


def table_of(text: str, header: str) -> list[str]:
    """The lines from a header to the next empty one, without colour."""
    plain = ESCAPE.sub("", text)
    start = plain.index(header)
    return plain[start:].split("\n\n")[0].splitlines()


ASKED = ("explain", "qwen-0", "-n", "inference", "--snapshot", CLUSTER)


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_is_coloured_and_no_wider_than_the_window(columns: int) -> None:
    seen = on_terminal(columns, "explain", "-f", PODS, "--snapshot", CLUSTER)
    assert "\x1b[32m" in seen
    assert "\x1b[31m" in seen
    assert max(map(len, table_of(seen, "NODE"))) <= columns


ONE = "one.yaml"


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("NODE", ("explain", "-f", ONE)),
        ("REPLICA", ("simulate", "-f", ONE, "--replicas", "9")),
        ("NODE", ("inventory",)),
    ],
    ids=["explain", "simulate", "inventory"],
)
def test_in_a_narrow_window_each_row_has_a_line_for_each_of_its_cells(
    tmp_path: Path, header: str, asked: tuple[str, ...], columns: int
) -> None:
    """And what has room there is in one piece."""
    one = tmp_path / ONE
    one.write_text(PODS.read_text().split("---")[1])
    arguments = [one if word == ONE else word for word in asked]
    seen = ESCAPE.sub("", on_terminal(columns, *arguments, "--snapshot", CLUSTER))
    lines = [line.rstrip() for line in seen.splitlines()]
    plain = table_of(run(*arguments, "--snapshot", CLUSTER).stdout, header)
    rows = [re.split(r"\s{2,}", line) for line in plain[1:]]
    assert [row[0] for row in rows if row[0] not in lines] == []
    told = {line.partition(": ")[2] for line in lines if line.startswith("  ")}
    room = columns - len("  MEMORY FREE: ")
    cells = {cell for row in rows for cell in row[1:] if cell != "-" and len(cell) <= room}
    assert {"ready"} <= cells <= told
    assert max(len(line) for line in lines if re.match("  [A-Z]", line)) <= columns


def test_remedies_follow_the_table_in_one_piece_so_that_they_can_be_pasted() -> None:
    seen = ESCAPE.sub("", on_terminal(80, "explain", "-f", PODS, "--snapshot", CLUSTER))
    remedies = seen.partition("what would help:\n")[2].partition("\n\n")[0].splitlines()
    assert any("kubectl annotate node gpu-5 modelcache.dev/provides=" in line for line in remedies)
    assert any(" -c " in line for line in remedies)


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize(
    "asked",
    [
        ("explain", "-f", PODS),
        ("simulate", "-f", ONE, "--replicas", "9"),
        ("doctor",),
    ],
    ids=["explain", "simulate", "doctor"],
)
def test_sentences_are_broken_between_words_and_commands_are_not(
    tmp_path: Path, asked: tuple[str | Path, ...], columns: int
) -> None:
    """In a pipe each is one line; what is said is the same."""
    one = tmp_path / ONE
    one.write_text(PODS.read_text().split("---")[1])
    arguments = [one if word == ONE else word for word in asked]
    seen = ESCAPE.sub("", on_terminal(columns, *arguments, "--snapshot", CLUSTER))
    plain = run(*arguments, "--snapshot", CLUSTER).stdout
    sentences = [line for line in plain.splitlines() if re.search(r"^(pod|warning:| {8})", line)]
    assert [one for one in sentences if " ".join(one.split()) not in " ".join(seen.split())] == []
    long = [line for line in seen.splitlines() if len(line) > columns and " " in line.strip()]
    in_one_piece = re.compile(r"^ *\(?(kubectl|model-cache-extender|hf) |\[\{.*\}\]")
    assert [line for line in long if not in_one_piece.search(line)] == []
    commands = re.findall(r"kubectl [a-z]+ [^;)\n]*", "\n".join(sentences))
    assert [one for one in commands if one not in seen] == []


MANY = 60


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nodes of two kinds, of which the cache of the one holds the model, and many bare pods."""
    baked = {"modelcache.dev/provides": "/var/lib/models"}
    nodes = [
        {"kind": "Node", "metadata": {"name": f"{kind}-{number:02}", "annotations": annotations},
         "status": {"allocatable": {"cpu": "8", "memory": "64Gi", "pods": "110",
                                    "nvidia.com/gpu": "8"}}}
        for kind, annotations in (("warm", baked), ("cold", {}))
        for number in range(MANY // 2)
    ]  # fmt: skip
    (asks, *_) = yaml.safe_load_all(PODS.read_text())
    pods = [
        {**asks, "metadata": {**asks["metadata"], "name": f"bare-{number}", "uid": f"u{number}"},
         "spec": {**asks["spec"], "schedulerName": "default-scheduler"}}
        for number in range(MANY // 2)
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("many") / "cluster.yaml"
    labels = {"modelcache.dev/scheduling": "enabled"}
    namespace = {"kind": "Namespace", "metadata": {"name": "inference", "labels": labels}}
    path.write_text(yaml.safe_dump_all([namespace, *nodes, *pods]))
    return path


@pytest.mark.parametrize("asked", [("explain",), ("simulate", "--replicas", "1000")])
def test_of_many_nodes_a_terminal_has_some_of_each_kind_and_a_pipe_all(
    tmp_path: Path, many: Path, asked: tuple[str, ...]
) -> None:
    """Or what was said before them would be out of the window."""
    one = tmp_path / ONE
    one.write_text(PODS.read_text().split("---")[1])
    arguments: tuple[str | Path, ...] = (*asked, "-f", one, "--snapshot", many)
    refused = re.compile(r"^cold-\d\d .*ModelAbsent|^cold-\d\d  no ", re.MULTILINE)
    seen = ESCAPE.sub("", on_terminal(160, *arguments))
    assert len(refused.findall(seen)) == 5
    assert re.search(
        r"^not shown: .*25 like cold-00[,;].* in a pipe \(\| less\) all are$", seen, re.MULTILINE
    )
    assert "ModelAbsent (cold-00 and 29 more): " in seen
    plain = run(*arguments).stdout
    assert len(refused.findall(plain)) == MANY // 2
    assert "not shown" not in plain


def test_of_many_findings_of_one_check_a_terminal_has_some_and_a_pipe_all(many: Path) -> None:
    found = re.compile(r"\[NotAskedAbout\]$", re.MULTILINE)
    seen = ESCAPE.sub("", on_terminal(160, "doctor", "--snapshot", many))
    assert len(found.findall(seen)) == 20
    assert "\nnot shown: 10 more [NotAskedAbout]; in a pipe (| less) all are\n" in seen
    assert "31 warnings" in seen
    plain = run("doctor", "--snapshot", many).stdout
    assert len(found.findall(plain)) == MANY // 2
    assert "not shown" not in plain


def test_colour_is_left_out_where_it_is_not_wanted() -> None:
    assert "\x1b[3" not in on_terminal(100, *ASKED, NO_COLOR="1")


@pytest.mark.parametrize(
    "arguments",
    [ASKED, ("inventory", "--snapshot", CLUSTER), ("doctor", "--snapshot", CLUSTER)],
    ids=["explain", "inventory", "doctor"],
)
def test_a_pipe_gets_plain_text(arguments: tuple[str | Path, ...]) -> None:
    assert "\x1b" not in run(*arguments).stdout


@pytest.mark.parametrize("command", ["explain", "inventory", "simulate", "doctor"])
def test_help_prints_the_command_that_makes_a_dump_in_one_line(command: str) -> None:
    lines = [line.strip() for line in run(command, "--help").stdout.splitlines()]
    assert f"{DUMP_COMMAND} > cluster.yaml" in lines
