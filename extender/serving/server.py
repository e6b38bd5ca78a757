"""gunicorn around the application: one worker with threads, because one process holds one state.

Keep-alive is longer than the 90 s for which Go's client reuses idle connections; with gunicorn's
own 2 s a reused connection may be closed under a request. The watch starts in the worker, after the
fork, and stops with it.
"""

from __future__ import annotations

import ssl
import sys
from typing import Any

import flask
import structlog
from gunicorn.app.base import BaseApplication

from extender.config import ExtenderConfiguration, check_exposure
from extender.errors import InvalidConfigurationError
from extender.serving.app import create_app
from extender.serving.certificates import Certificates
from extender.serving.dispatch import PlainVerbs
from extender.serving.logs import GunicornLogger
from extender.serving.scope import Scope, status_scope
from extender.serving.service import Service
from extender.serving.worker import Worker, keep_signals_over_forks

log = structlog.get_logger("extender.server")

SWITCH_SECONDS = 0.001
"""After so long a thread that works lets others have a turn; Python's own 5 ms are long beside a
filter. A request takes some turns, and while pods are listed anew waits for each."""


class Server(BaseApplication):  # type: ignore[misc]
    """Runs one service until SIGTERM; requests in flight are answered first.

    ``listen`` answers everything; ``status_listen``, where it is not empty, health and metrics, and
    on loopback all that is read-only; the page elsewhere only over TLS. The service is made before
    the fork, so that what is wrong with its input ends the program with a message; its watch has
    threads, and begins in the worker.
    Raises InvalidConfigurationError where the verbs would be open to strangers, the page in the
    clear, or certificates cannot be used. ``certificates`` are those of the two listeners.
    """

    def __init__(self, service: Service, configuration: ExtenderConfiguration) -> None:
        self._configuration = configuration
        self._service = service
        self._scopes: dict[str, Scope] = {}
        self.max_body_bytes = configuration.server.max_body_bytes
        self.plain_verbs = PlainVerbs(service)
        errors = check_exposure(configuration)
        if errors:
            raise InvalidConfigurationError("; ".join(errors))
        verbs, status = configuration.tls, configuration.status_tls
        self.certificates = (
            Certificates(verbs) if verbs.enabled else None,
            Certificates(status, section="statusTls", clients=ssl.CERT_OPTIONAL)
            if status.enabled
            else None,
        )
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn up."""
        configuration = self._configuration
        limits = configuration.server
        settings: dict[str, Any] = {
            "bind": [text for text in (configuration.listen, configuration.status_listen) if text],
            "workers": 1,
            "worker_class": Worker,
            "threads": limits.threads,
            "keepalive": limits.keep_alive_seconds,
            "graceful_timeout": limits.graceful_seconds,
            "timeout": 60,
            "preload_app": False,
            "accesslog": None,
            "control_socket_disable": True,
            "when_ready": self._when_ready,
            "post_worker_init": self._worker_started,
            "worker_exit": self._worker_stopped,
            "logger_class": GunicornLogger,
        }
        for key, value in settings.items():
            if key in self.cfg.settings:
                self.cfg.set(key, value)

    def run(self) -> None:
        """Serve until SIGTERM; does not return."""
        keep_signals_over_forks()
        super().run()

    def load(self) -> flask.Flask:
        """Build the application, in the worker."""
        return create_app(self._service, scope_at=self._scopes.__getitem__)

    def _when_ready(self, arbiter: Any) -> None:
        names = [listener.sock.getsockname() for listener in arbiter.LISTENERS]
        verbs, *others = names
        self._scopes[str(verbs[1])] = Scope.EVERYTHING
        for host, port, *_ in others:
            self._scopes[str(port)] = status_scope(host, page=self._configuration.server.page)
        log.info("listening", addresses=[f"{name[0]}:{name[1]}" for name in names])

    def _worker_started(self, _worker: Any) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        self._service.start()

    def _worker_stopped(self, _arbiter: Any, _worker: Any) -> None:
        self._service.stop()
        log.info("stopped")
