"""The page's three addresses: the page itself, its style and its script.

There is nothing inline and nothing from elsewhere, so the browser is told to allow neither: a name
that got through unescaped could still do nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from importlib.resources import files
from typing import Any

import flask
import jinja2

from extender.explain.starts import kinds_of_start
from extender.kube.quantity import format_bytes
from extender.kube.times import time_text
from extender.placement.progress import in_words
from extender.serving.page.asked import SIZES, VIEWS, Asked, asked
from extender.serving.page.holdings import Holdings
from extender.serving.page.nodes import LETTERS, listing
from extender.serving.page.pods import decided_pods, waiting_pods
from extender.serving.service import Service
from extender.serving.unscheduled import unscheduled_pods

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATIC = files("extender.serving.page") / "static"
_KINDS = {"page.css": "text/css", "page.js": "text/javascript"}


def add_page(app: flask.Flask, service: Service) -> None:
    """Add the page to an application."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("extender.serving.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"bytes": format_bytes, "age": in_words, "time": time_text}
    assets = {name: (_STATIC / name).read_bytes() for name in _KINDS}
    version = sha256(b"".join(assets.values())).hexdigest()[:12]
    environment.globals |= {"VIEWS": VIEWS, "SIZES": SIZES, "LETTERS": LETTERS, "version": version}
    holdings = Holdings(time.monotonic)

    @app.get("/")
    def page() -> flask.Response:
        question = asked(flask.request.args)
        shown = _shown(question, service, holdings)
        text = environment.get_template(f"{question.view}.html").render(shown)
        return _answer(text.encode(), "text/html", "no-store")

    def asset(name: str) -> Callable[[], flask.Response]:
        def answer() -> flask.Response:
            return _answer(assets[name], _KINDS[name], "max-age=86400")

        return answer

    for name in _KINDS:
        app.add_url_rule(f"/{name}", name, asset(name), methods=["GET"])


def _answer(body: bytes, mimetype: str, caching: str) -> flask.Response:
    response = flask.Response(body, mimetype=mimetype)
    response.headers.update({**HEADERS, "Cache-Control": caching})
    return response


def _shown(question: Asked, service: Service, holdings: Holdings) -> dict[str, Any]:
    """Return what the template of a view names."""
    state = service.context.state
    view = state.view()
    refused = service.waiting.present(state, blind=bool(service.context.stale()))
    others = unscheduled_pods(state.pods(), service.context.schedulers, refused)
    shown: dict[str, Any] = {
        "asked": question,
        "now": view.now,
        "number_of_nodes": len(view.nodes),
        "number_waiting": len(refused) + len(others),
        "schedulers": " or ".join(service.context.schedulers),
        "unsynced": service.knowledge.unsynced(),
        "stale": service.knowledge.stale(),
    }
    match question.view:
        case "waiting":
            page, reasons = waiting_pods(question, refused, others, state.pod, view)
            return shown | {"page": page, "reasons": reasons}
        case "decisions":
            recent = service.decisions.recent()
            page_of = decided_pods(question, recent, state.starts())
            return shown | {"page": page_of, "kinds": kinds_of_start(state)}
        case _:
            found = listing(question, view, holdings)
            return shown | {"found": found, "page": found.rows or found.groups}
