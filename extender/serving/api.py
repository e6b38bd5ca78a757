"""The read-only API under ``/api/v1``: what the extender knows and what it decided.

Errors have the form and the codes of ``app``. ``explain`` takes one manifest, YAML or JSON
whatever its content type, of at most the 3 MiB that an apiserver takes; 400 where it is no manifest
of a kind that carries a pod, and a list of documents for one that carries several. ``observations``
is 404 without ``--observe``.
"""

from __future__ import annotations

from typing import Any

import flask
import msgspec

from extender.cluster.view import PodFacts, View
from extender.errors import ProtocolError
from extender.explain.answers import EXTENDER
from extender.explain.chosen import chosen_node
from extender.explain.document import in_namespace
from extender.explain.inventory import inventory
from extender.explain.starts import started
from extender.explain.workloads import explain_all
from extender.kube.times import unix_time
from extender.serving.body import read_body
from extender.serving.service import Service
from extender.serving.unscheduled import (
    is_unseen,
    refused_by,
    unscheduled_pods,
    why_refused,
    why_unscheduled,
)
from extender.snapshot import kind_of, parse_documents
from extender.waiting.pods import WaitingPod
from extender.workload.manifest import parts_of

MAX_MANIFEST_BYTES = 3 * 1024 * 1024
"""The apiserver's own limit for a request's body (MaxRequestBodyBytes in
https://github.com/kubernetes/apiserver/blob/master/pkg/server/config.go)."""


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

    @app.get("/api/v1/starts")
    def starts() -> flask.Response:
        return _json(started(service.context.state))

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
        flask.request.max_content_length = MAX_MANIFEST_BYTES
        body = read_body("send one manifest; explain reads large files on the command line")
        manifest = in_namespace(_manifest(body), "default")
        documents = explain_all(manifest, parts_of(manifest), service.context)
        return _json(documents[0] if len(documents) == 1 else documents)


def _manifest(body: bytes) -> dict[str, Any]:
    """Read the one object of a body; what it carries is not looked at yet.

    Raises ProtocolError that names what is no object.
    """
    try:
        documents = parse_documents(body)
    except ValueError as error:
        raise ProtocolError(f"the body is not one YAML or JSON document: {error}") from error
    if len(documents) != 1:
        raise ProtocolError(
            f"the body is not one YAML or JSON document: it holds {len(documents) or 'none'}; send "
            "one manifest"
        )
    (manifest,) = documents
    if not isinstance(manifest, dict):
        raise ProtocolError(
            f"the body is {kind_of(manifest)}, not an object; send one manifest, with apiVersion, "
            "kind and spec"
        )
    if not isinstance(manifest.get("kind"), str):
        raise ProtocolError(f"kind: is {kind_of(manifest.get('kind'))}; write it like kind: Pod")
    for key in ("metadata", "spec"):
        value = manifest.get(key)
        if value is not None and not isinstance(value, dict):
            raise ProtocolError(
                f"{key}: is {kind_of(value)}, not an object, as that of a {manifest['kind']} is"
            )
    return manifest


def _waiting(service: Service) -> list[dict[str, Any]]:
    """List the pods without a node, as the page does: those that were refused here come first.

    They are in the order in which they are woken. The others nobody has asked us about: no node
    passed all else, or it was not tried yet. Who refused a pod before a restart is told by what
    kube-scheduler wrote to it.
    """
    context, state = service.context, service.context.state
    view = state.view()
    refused = service.waiting.present(state, blind=bool(context.stale()))
    others = unscheduled_pods(state.pods(), context.schedulers, refused)
    listed = []
    for pod in refused:
        facts = state.pod(pod.request.uid)
        told = _refused(pod) if pod.refused or facts is None else _unscheduled(facts, view)
        why = sorted(why_refused(pod, facts, view))
        listed.append({**told, "why": why, "wokenAt": pod.touched_at})
    for facts in others:
        why = sorted(why_unscheduled(facts, view))
        listed.append({**_unscheduled(facts, view), "why": why, "wokenAt": None})
    return listed


def _refused(pod: WaitingPod) -> dict[str, Any]:
    return {
        "namespace": pod.request.namespace,
        "pod": pod.request.name,
        "since": pod.since,
        "refusedBy": EXTENDER,
        "reasons": pod.refused,
        "examples": pod.examples,
        "message": None,
        "chosen": None,
        "unseen": False,
    }


def _unscheduled(facts: PodFacts, view: View) -> dict[str, Any]:
    return {
        "namespace": facts.namespace,
        "pod": facts.name,
        "since": unix_time(facts.created),
        "refusedBy": refused_by(why_unscheduled(facts, view)),
        "reasons": {},
        "examples": {},
        "message": facts.unscheduled or None,
        "chosen": chosen_node(facts, view),
        "unseen": is_unseen(facts, view),
    }


def _json(document: Any) -> flask.Response:
    return flask.Response(msgspec.json.encode(document), mimetype="application/json")
