"""The verbs, before Flask, whose way to an answer takes longer than many an answer.

kube-scheduler waits for each one. A request's context, its routing and its response take Flask
0.1 ms. Only what is plainly in order is spared it: a POST of JSON, of a length that is announced
and allowed, from a caller who may ask, over plain HTTP to the listener that serves everything.
Everything else is Flask's before any of it is read, and so is every error: what a verb has raised
is raised once more in its route, so that there is one form of answering and logging it.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from extender.serving.arrival import seconds_since_begin
from extender.serving.callers import is_loopback
from extender.serving.scope import Scope
from extender.serving.service import Service

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

JSON = "application/json"
RAISED = "model_cache_extender.raised"
"""In the environment: what the verb has raised already."""

KNOWN_CALLERS_ONLY = frozenset({"bind"})
"""Verbs with an effect: whoever may call them places pods with this program's rights."""


class VerbsFirst:
    """A WSGI application: the verbs of a service, and another application for all the rest."""

    def __init__(
        self, service: Service, scope_at: Callable[[str], Scope], others: WSGIApplication
    ) -> None:
        self._verbs = {f"/{name}": (name, verb) for name, verb in service.verbs.items()}
        self._count = service.metrics.answered
        self._max_body_bytes = service.configuration.server.max_body_bytes
        self._scope_at = scope_at
        self._others = others

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        found = self._verbs.get(environ["PATH_INFO"])
        if found is None or not self._is_plain(environ, found[0]):
            return self._others(environ, start_response)
        name, verb = found
        length = int(environ["CONTENT_LENGTH"])
        body = environ["wsgi.input"].read(length)
        try:
            if len(body) == length:
                answer = verb(body)
                self._count(name, 200, seconds_since_begin())
                head = [("Content-Type", JSON), ("Content-Length", str(len(answer)))]
                start_response("200 OK", head)
                return [answer]
        except Exception as error:  # noqa: BLE001 - raised again where errors are answered
            environ[RAISED] = error
        environ["wsgi.input"] = io.BytesIO(body)
        return self._others(environ, start_response)

    def _is_plain(self, environ: WSGIEnvironment, name: str) -> bool:
        length = environ.get("CONTENT_LENGTH", "")
        return (
            environ["REQUEST_METHOD"] == "POST"
            and environ.get("CONTENT_TYPE") == JSON
            and length.isascii()
            and length.isdigit()
            and int(length) <= self._max_body_bytes
            and "HTTP_TRANSFER_ENCODING" not in environ
            and not isinstance(environ.get("gunicorn.socket"), ssl.SSLSocket)
            and self._scope_at(environ["SERVER_PORT"]) is Scope.EVERYTHING
            and (name not in KNOWN_CALLERS_ONLY or is_loopback(environ.get("REMOTE_ADDR", "")))
        )


def raise_again(environ: dict[str, Any]) -> None:
    """Raise what the verb has raised already, if it has."""
    error = environ.get(RAISED)
    if error is not None:
        raise error
