"""What the kernel counts of threads that could run, told of processes that do and do not work."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.controlplane.run_queue import RunQueue

WORK = "import os; os.sched_setaffinity(0, {%d}); print(flush=True)\nwhile True: pass"


def worker(cpu: int) -> subprocess.Popen[bytes]:
    return started(WORK % cpu)


def started(program: str) -> subprocess.Popen[bytes]:
    """Start a program in Python; return once it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def held_up(pids: list[int]) -> float:
    """Return for which share of two seconds the machine held these up."""
    queue = RunQueue(lambda: pids)
    began = time.time()
    queue.look(began)
    time.sleep(2)
    ended = time.time()
    queue.look(ended)
    return queue.held_up(began, ended) / (ended - began)


def test_processes_that_share_a_processor_are_held_up_and_one_that_sleeps_is_not() -> None:
    """However busy the machine: three on one processor get a third of it each, at the most."""
    cpu = min(os.sched_getaffinity(0))
    workers = [worker(cpu) for _ in range(3)]
    sleeper = started("print(flush=True); input()")
    try:
        assert 0.4 < held_up([workers[0].pid]) <= 1.0
        assert held_up([sleeper.pid]) < 0.1
    finally:
        for process in (*workers, sleeper):
            process.kill()
            process.wait()


def test_of_processes_that_are_gone_nothing_is_known() -> None:
    assert held_up([2**22 + 1]) == 0.0


def test_threads_wait_beside_one_another_for_no_longer_than_the_time() -> None:
    cpu = min(os.sched_getaffinity(0))
    workers = [worker(cpu) for _ in range(4)]
    try:
        assert 0.4 < held_up([one.pid for one in workers]) <= 1.0
    finally:
        for process in workers:
            process.kill()
            process.wait()


def test_a_time_that_was_not_looked_at_is_an_error() -> None:
    with pytest.raises(ValueError, match="no look"):
        RunQueue(list).held_up(0.0, 1.0)
