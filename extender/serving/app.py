"""The Flask application: routes, limits and errors. What it serves is decided elsewhere.

Every verb answers a business "no" with 200; 4xx only for what is not the extender protocol; 5xx
only for a real fault, never with a stack trace. An error is ``{"error": what and the remedy}`` and
one line in the log:

===== ==========================================================================================
400   the body is not the protocol (the message names the field), ended early, or is badly chunked;
      what is not HTTP at all never comes here (see ``worker``)
403   bind, asked from elsewhere than the loopback address without a certificate; whatever names
      pods and models, on a status listener with ``statusTls.clientCaFile``, without one of it
404   no such path; also what the listener that was asked does not serve (see ``scope``)
405   another method than the path's; ``Allow`` names it
413   the body is larger than the limit; it is refused unread where its length is announced
415   a verb's body is not announced as JSON
500   a fault of this program; details are in its log
503   ``/readyz`` alone: not every resource is listed, or one has not been heard of for too long
===== ==========================================================================================

What the protocol allows is answered, odd as it is: ``null`` in place of any optional value,
top-level keys in any case, unknown keys, candidates named twice (answered once), candidates that
the cluster does not have, no candidates at all.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import flask
import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from extender.errors import ExtenderError, ProtocolError
from extender.serving import api
from extender.serving.arrival import seconds_since_begin
from extender.serving.body import read_body
from extender.serving.callers import is_loopback
from extender.serving.dispatch import KNOWN_CALLERS_ONLY, raise_again
from extender.serving.knowledge import ResourceKnowledge
from extender.serving.page.routes import add_page
from extender.serving.scope import HEALTH_PATHS, Scope, serves
from extender.serving.service import Service, Verb

log = structlog.get_logger("extender.http")

JSON = "application/json"


def create_app(
    service: Service, *, scope_at: Callable[[str], Scope] = lambda _: Scope.EVERYTHING
) -> flask.Flask:
    """Build the application.

    ``scope_at`` tells for a listener's port what is served there.
    """
    app = flask.Flask("extender", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = service.configuration.server.max_body_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    verbs = frozenset(f"/{name}" for name in service.verbs)

    @app.before_request
    def check_scope() -> None:
        path = flask.request.path
        scope = scope_at(flask.request.environ.get("SERVER_PORT", ""))
        if not serves(scope, path, verbs=verbs):
            flask.abort(404, f"{path[:200]} is not served here; ask the address of --listen")
        if path not in HEALTH_PATHS:
            _check_reader()

    for name, verb in service.verbs.items():
        app.add_url_rule(f"/{name}", name, _verb_route(name, verb, service), methods=["POST"])
    _add_health(app, service)
    api.add_routes(app, service)
    add_page(app, service)
    app.register_error_handler(Exception, _failed)
    return app


def _verb_route(name: str, verb: Verb, service: Service) -> Callable[[], flask.Response]:
    def answer() -> flask.Response:
        code = 500
        try:
            raise_again()
            if name in KNOWN_CALLERS_ONLY:
                _check_caller()
            response = flask.Response(verb(_body()), mimetype=JSON)
            code = 200
        except ProtocolError as error:
            code = error.status
            raise
        except HTTPException as error:
            code = error.code or 500
            raise
        finally:
            service.metrics.answered(name, code, seconds_since_begin())
        return response

    return answer


def _check_reader() -> None:
    """Refuse who was asked for a certificate and has shown none.

    It was asked for in a way that leaves health and metrics to the kubelet and Prometheus, which
    have none. One that was shown is verified: another ends the handshake.
    """
    connection = flask.request.environ.get("gunicorn.socket")
    if (
        isinstance(connection, ssl.SSLSocket)
        and connection.context.verify_mode is ssl.CERT_OPTIONAL
        and not connection.getpeercert()
    ):
        raise ProtocolError(
            f"{flask.request.path[:200]} is for clients with a certificate of "
            "statusTls.clientCaFile; show one, or forward a port to the address of --listen",
            status=403,
        )


def _check_caller() -> None:
    """Refuse who is neither on this host's loopback nor has shown a certificate of the client CA.

    gunicorn's socket is asked, not a header. Its certificate is empty unless it was verified.
    """
    connection = flask.request.environ.get("gunicorn.socket")
    if isinstance(connection, ssl.SSLSocket) and connection.getpeercert():
        return
    if not is_loopback(flask.request.remote_addr or ""):
        raise ProtocolError(
            "bind answers the loopback address and clients with a certificate; run kube-scheduler "
            "in the same pod, or set tls",
            status=403,
        )


def _body() -> bytes:
    """Return a verb's body, which must be announced as JSON."""
    mimetype = flask.request.mimetype
    if mimetype not in {JSON, "text/json"}:
        raise ProtocolError(f"content type is {mimetype or 'missing'}; send {JSON}", status=415)
    return read_body(
        "raise server.maxBodyBytes, or set nodeCacheCapable: true in the scheduler's configuration"
    )


def _add_health(app: flask.Flask, service: Service) -> None:
    @app.get("/healthz")
    def healthz() -> flask.Response:
        return flask.Response("ok\n", mimetype="text/plain")

    @app.get("/readyz")
    def readyz() -> flask.Response:
        unsynced, stale = service.knowledge.unsynced(), service.knowledge.stale()
        lines = [f"not listed yet: {name}" for name in unsynced]
        lines += [f"not heard of for too long: {name}" for name in stale]
        lines += [
            f"{row.resource}: {row.error}" for row in service.knowledge.resources() if row.error
        ]
        ready = not unsynced and not stale
        if ready:
            lines = ["ok", *_drifted(service.knowledge.resources())]
        text = "\n".join(lines) + "\n"
        return flask.Response(text, status=200 if ready else 503, mimetype="text/plain")

    @app.get("/metrics")
    def metrics() -> flask.Response:
        return flask.Response(
            generate_latest(service.metrics.registry), content_type=CONTENT_TYPE_LATEST
        )


def _drifted(rows: list[ResourceKnowledge]) -> Iterator[str]:
    """Say what audits found wrong since the start; it was mended, and is a fault all the same."""
    for row in rows:
        found = ", ".join(f"{number} {kind}" for kind, number in row.drifted.items() if number)
        if found:
            yield f"{row.resource}: an audit found {found}"


def _failed(error: Exception) -> flask.Response:
    """Answer every error in one form, with one line in the log."""
    request = flask.request
    if isinstance(error, ProtocolError):
        status, message = error.status, str(error)
    elif isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        status, message = 405, f"{request.path[:200]} answers {methods}, not {request.method[:20]}"
    elif isinstance(error, HTTPException):
        status, message = error.code or 500, error.description or error.name
        if message == NotFound.description:
            message = f"{request.path[:200]} is not a path of this server; see its documentation"
    elif isinstance(error, ExtenderError):
        status, message = 400, str(error)
    else:
        status, message = 500, "internal error; the log of the extender has the details"
    fields: dict[str, Any] = {
        "method": request.method,
        "path": request.path[:200],
        "code": status,
        "error": message[:500],
    }
    if status >= 500:
        log.error("request failed", exc_info=error, **fields)
    else:
        log.warning("request refused", **fields)
    response = flask.Response(msgspec.json.encode({"error": message}), status=status, mimetype=JSON)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return response
