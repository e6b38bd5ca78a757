"""The read-only API under ``/api/v1``: what the extender knows and what it decided."""

from __future__ import annotations

from typing import Any

import flask
import msgspec

from extender.errors import ProtocolError
from extender.explain.document import explain
from extender.explain.inventory import inventory
from extender.serving.service import Service
from extender.snapshot import parse_documents
from extender.workload.manifest import pod_of


def add_routes(app: flask.Flask, service: Service) -> None:
    """Add the API's routes to an application."""

    @app.get("/api/v1/nodes")
    def nodes() -> flask.Response:
        view = service.context.state.view()
        return _json(
            {
                "nodes": [
                    {
                        "name": node.name,
                        "allocatableBytes": node.allocatable,
                        "promisedBytes": node.promised,
                        "freeBytes": node.free,
                    }
                    for _, node in sorted(view.nodes.items())
                ]
            }
        )

    @app.get("/api/v1/models")
    def models() -> flask.Response:
        return _json(inventory(service.context.state.view()))

    @app.get("/api/v1/decisions")
    def decisions() -> flask.Response:
        return _json({"decisions": service.decisions.recent()})

    @app.get("/api/v1/waiting")
    def waiting() -> flask.Response:
        return _json({"waiting": _waiting(service)})

    @app.get("/api/v1/observations")
    def observations() -> flask.Response:
        observer = service.observer
        if observer is None:
            flask.abort(404, "the extender does not run with --observe")
        return _json({"report": observer.report(), "observations": observer.recent()})

    @app.post("/api/v1/explain")
    def explain_manifest() -> flask.Response:
        body = flask.request.get_data(cache=False)
        try:
            (manifest,) = parse_documents(body)
        except ValueError as error:
            raise ProtocolError(f"the body is not one YAML or JSON document: {error}") from error
        return _json(explain(pod_of(manifest), service.context))


def _waiting(service: Service) -> list[dict[str, Any]]:
    """List the unbound pods whose last filter answer left no node."""
    bound = {pod.uid for pod in service.context.state.pods() if pod.node or not pod.counts}
    known = {pod.uid for pod in service.context.state.pods()}
    return [
        {
            "namespace": made.namespace,
            "pod": made.pod,
            "since": made.time,
            "reasons": made.refused,
            "examples": made.examples,
        }
        for made in service.decisions.recent()
        if made.verb == "filter" and not made.passed and made.uid not in bound and made.uid in known
    ]


def _json(document: Any) -> flask.Response:
    return flask.Response(msgspec.json.encode(document), mimetype="application/json")
