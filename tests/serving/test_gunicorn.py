"""What the worker leans on in gunicorn is what it was written against."""

from __future__ import annotations

import hashlib
import inspect

import pytest
from gunicorn.http.parser import Parser
from gunicorn.http.unreader import Unreader
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import PollableMethodQueue, TConn, ThreadWorker

from extender.serving.worker import Worker


def digest(*parts: object) -> str:
    text = "".join(inspect.getsource(part) for part in parts)  # type: ignore[arg-type]
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("parts", "known"),
    [
        ((ThreadWorker, TConn, PollableMethodQueue), "6c9f6494881cc6ab"),
        ((Parser, Unreader), "2eafd73fc420a274"),
        ((BaseWorker,), "41bcd41fbc752179"),
    ],
    ids=["main loop and threads", "parser", "process"],
)
def test_gunicorn_is_the_one_that_the_worker_was_written_against(
    parts: tuple[object, ...], known: str
) -> None:
    """A lock with another gunicorn ends here: read what changed there beside worker.py first."""
    assert digest(*parts) == known


def test_every_method_that_the_worker_replaces_is_one_that_gunicorn_calls() -> None:
    """A method of a new name in gunicorn would leave ours uncalled, and slow clients unbounded."""
    ours = {name for name in vars(Worker) if not name.startswith("_")}
    assert ours - set(dir(ThreadWorker)) == set()
    for name in ours:
        uses = inspect.getsource(ThreadWorker) + inspect.getsource(BaseWorker)
        assert f"self.{name}" in uses, name
