"""Structured logs on stderr: one JSON line per decision, constant keys, no prose with values."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog
from gunicorn import glogging
from prometheus_client import Counter

from extender.serving.families import PREFIX

LOST_LINES = Counter(
    f"{PREFIX}_log_lines_lost",
    "Lines of the log that could not be written: its disk is full, or nobody reads it any more.",
    registry=None,
)

_TALKATIVE = (
    "kubernetes",
    *("httpx2", "httpcore2", "huggingface_hub", "filelock"),
    *("aiohttp", "aiobotocore", "botocore", "fsspec", "gcsfs", "google", "s3fs"),
)
"""Libraries that log every request: its headers, and whole URLs, of which those of large files
carry a signature that lets anybody read them.
"""


_encoder = json.JSONEncoder(default=repr)
_LEVELS = {"warn": "warning", "exception": "error"}
"""Levels by the method's name, where that is another one."""


def _line(_logger: Any, method: str, fields: MutableMapping[str, Any]) -> str:
    """Return a record as a line of JSON: in one step, for there are three lines for each pod."""
    if "exc_info" in fields:
        fields = structlog.processors.format_exc_info(_logger, method, fields)
    fields["level"] = _LEVELS.get(method, method)
    fields["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return _encoder.encode(fields)


class _Stderr(io.TextIOBase):
    """Whatever ``sys.stderr`` is when something is written.

    A line that cannot be written is counted and lost, as by the standard library's handlers: it is
    about a decision, and must not be what that fails at.
    """

    def write(self, text: str, /) -> int:
        try:
            return sys.stderr.write(text)
        except (OSError, ValueError):
            LOST_LINES.inc()
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure_logging(*, level: str = "INFO", pretty: bool = False) -> None:
    """Send structlog's and the standard library's records to stderr, in one form.

    Ours do not pass through the standard library: with what it looks at for each record a line
    takes twice as long, and there are three lines for each pod.
    """
    chain: list[Any] = [_line]
    if pretty:
        chain = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False),
        ]
    structlog.configure(
        processors=chain,
        logger_factory=structlog.WriteLoggerFactory(file=_Stderr()),  # type: ignore[arg-type]
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *chain],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)


class GunicornLogger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's logger without handlers of its own: its records go where ours go."""

    def setup(self, cfg: Any) -> None:
        """Take the level from the configuration and leave the output to the root logger."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.loglevel = logging.WARNING
        self.error_log.setLevel(self.loglevel)
        self.error_log.handlers[:] = []
        self.error_log.propagate = True
