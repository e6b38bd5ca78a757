"""Bindings through the apiserver: what bind asks for, in HTTP.

The client's typed call is not used: it raises after a binding that worked, because the apiserver
answers with a Status (kubernetes-client/python#547). Nothing is repeated here; bind looks up what
became of a lost answer.
"""

from __future__ import annotations

import msgspec

from extender.errors import InvalidObjectError
from extender.kube.decode import decode
from extender.kube.objects import Pod
from extender.verbs.bind import Answer, Sent
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.paths import pod_path
from extender.wire import BindArgs

CONNECT_SECONDS = 1.0
BIND_SECONDS = 2.5
LOOK_UP_SECONDS = 1.0
"""Together below the 5 s after which kube-scheduler gives up (``httpTimeout``)."""

_REMEDIES = {
    401: "the service account's token is not accepted",
    403: "give the service account the right to create pods/binding",
}


class ApiBindings:
    """``Bindings`` of one cluster. Safe to use from threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, args: BindArgs, annotations: dict[str, str]) -> Answer:
        """Create a Binding whose UID is a precondition."""
        document = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {
                "namespace": args.namespace,
                "name": args.name,
                "uid": args.uid,
                "annotations": annotations,
            },
            "target": {"apiVersion": "v1", "kind": "Node", "name": args.node},
        }
        try:
            answer = self._transport.request(
                "POST",
                f"{pod_path(args.namespace, args.name)}/binding",
                body=msgspec.json.encode(document),
                connect_timeout=CONNECT_SECONDS,
                read_timeout=BIND_SECONDS,
            )
        except UnreachableError as error:
            sent = Sent.LOST if error.sent else Sent.REFUSED
            return Answer(sent, f"the apiserver did not answer the binding: {error}")
        if answer.ok:
            return Answer(Sent.DONE)
        said = answer.problem().message or "no reason given"
        message = f"the apiserver refused the binding ({answer.status}): {said}"
        if answer.status in {404, 409}:
            return Answer(Sent.CONFLICT, message)
        if answer.status >= 500:
            return Answer(Sent.LOST, message)
        remedy = _REMEDIES.get(answer.status)
        return Answer(Sent.REFUSED, f"{message}; {remedy}" if remedy else message)

    def pod(self, namespace: str, name: str) -> Pod | str | None:
        """Return a pod as it is now, None where there is none, or why that cannot be told."""
        try:
            answer = self._transport.request(
                "GET",
                pod_path(namespace, name),
                connect_timeout=CONNECT_SECONDS,
                read_timeout=LOOK_UP_SECONDS,
            )
            if answer.status == 404:
                return None
            if answer.ok:
                return decode(answer.body, Pod)
            return f"HTTP {answer.status}: {answer.problem().message or 'no reason given'}"
        except (UnreachableError, InvalidObjectError) as error:
            return str(error)
