"""The Flask application: routes, limits and errors. What it serves is decided elsewhere.

Every verb answers a business "no" with 200; 4xx only for what is not the extender protocol; 5xx
only for a real fault, never with a stack trace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import flask
import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from extender.errors import ExtenderError, ProtocolError
from extender.serving import api
from extender.serving.service import Service, Verb

log = structlog.get_logger("extender.http")

JSON = "application/json"


def create_app(
    service: Service, *, verbs_at: Callable[[str], bool] = lambda _: True
) -> flask.Flask:
    """Build the application.

    ``verbs_at`` tells for a listener's port whether the verbs are served there.
    """
    app = flask.Flask("extender", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = service.configuration.server.max_body_bytes
    for name, verb in service.verbs.items():
        app.add_url_rule(
            f"/{name}", name, _verb_route(name, verb, service, verbs_at), methods=["POST"]
        )
    _add_health(app, service)
    api.add_routes(app, service)
    app.register_error_handler(Exception, _failed)
    return app


def _verb_route(
    name: str, verb: Verb, service: Service, verbs_at: Callable[[str], bool]
) -> Callable[[], flask.Response]:
    def answer() -> flask.Response:
        before = time.perf_counter()
        code = 500
        try:
            if not verbs_at(flask.request.environ.get("SERVER_PORT", "")):
                flask.abort(404)
            response = flask.Response(verb(_body()), mimetype=JSON)
            code = 200
        except ProtocolError as error:
            code = error.status
            raise
        except HTTPException as error:
            code = error.code or 500
            raise
        finally:
            service.metrics.requests.labels(name, str(code)).inc()
            service.metrics.seconds.labels(name).observe(time.perf_counter() - before)
        return response

    return answer


def _body() -> bytes:
    """Read the request's body whole, within the limit."""
    request = flask.request
    if request.mimetype not in {JSON, "text/json"}:
        raise ProtocolError(
            f"content type is {request.mimetype or 'missing'}; send {JSON}", status=415
        )
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        limit = flask.current_app.config["MAX_CONTENT_LENGTH"]
        raise ProtocolError(
            f"the body is larger than {limit} bytes; raise server.maxBodyBytes, or set "
            "nodeCacheCapable: true in the scheduler's configuration",
            status=413,
        ) from error


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
        text = "ok\n" if ready else "\n".join(lines) + "\n"
        return flask.Response(text, status=200 if ready else 503, mimetype="text/plain")

    @app.get("/metrics")
    def metrics() -> flask.Response:
        return flask.Response(
            generate_latest(service.metrics.registry), content_type=CONTENT_TYPE_LATEST
        )


def _failed(error: Exception) -> flask.Response:
    """Answer every error in one form, with one line in the log."""
    request = flask.request
    if isinstance(error, ProtocolError):
        status, message = error.status, str(error)
    elif isinstance(error, HTTPException):
        status, message = error.code or 500, error.description or error.name
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
    headers = dict(error.get_headers()) if isinstance(error, HTTPException) else {}
    response = flask.Response(msgspec.json.encode({"error": message}), status=status, mimetype=JSON)
    if "Allow" in headers:
        response.headers["Allow"] = headers["Allow"]
    if status in {408, 413}:
        response.headers["Connection"] = "close"
    return response
