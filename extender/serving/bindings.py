"""Bindings through the apiserver: what bind asks for, in HTTP.

The client's typed call is not used: it raises after a binding that worked, because the apiserver
answers with a Status (kubernetes-client/python#547). Nothing is repeated here; bind looks up what
became of a lost answer.

What an answer proves. The order in the apiserver is: who asks and how many do, admission (webhooks,
policies, quota), then the one write to the storage (pkg/registry/core/pod/storage, BindingREST). So
4xx other than 409 prove that nothing was written, and so does what admission said, whatever its
status: a webhook that cannot be called is a 500. Everything else that storage fails with, a timeout
of etcd among it, becomes a 409 there; so a 409 proves something only in the words of that function
itself. All other 5xx prove nothing; one that is no Status comes from a gateway in between, which
has given up waiting, and the apiserver may go on with the Binding.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import msgspec

from extender.errors import InvalidObjectError
from extender.kube.decode import decode
from extender.kube.objects import Pod
from extender.serving.touching import touch
from extender.verbs.bind import Answer, Sent
from extender.verbs.doubt import Doubt
from extender.watch.answers import Answer as HttpAnswer
from extender.watch.answers import FencedError, UnreachableError
from extender.watch.client import Fence, Transport
from extender.watch.paths import pod_path
from extender.wire import BindArgs

CONNECT_SECONDS = 1.0
BIND_SECONDS = 2.5
LOOK_UP_SECONDS = 1.0
SEND_SECONDS = CONNECT_SECONDS + BIND_SECONDS
"""How long a Binding can be on its way. One is sent only where that is over by the deadline (4 s),
which lies below the 5 s after which kube-scheduler gives up (``httpTimeout``). Only the look-up of
one that was not answered can come later: it takes up to 2 s more, with a connection of its own."""

_BEFORE_THE_WRITE = re.compile(
    r"failed calling webhook|admission webhook .* denied the request"
    r"|AdmissionWebhook/.* has panicked|resource quota evaluation timed out"
    r"|apiserver is shutting down"
)
"""What is said before the storage is asked (k8s.io/apiserver: pkg/util/webhook, the plugins webhook
and resourcequota of pkg/admission, pkg/server/filters)."""

_NOT_WRITTEN = re.compile(
    r"is already assigned to node|is being deleted, cannot be assigned"
    r"|has non-empty .spec.schedulingGates|Precondition failed"
)
"""Why the write of a Binding is not even tried, in a 409."""

_REMEDIES = {
    401: "the service account's token is not accepted",
    403: "give the service account the right to create pods/binding",
}


class ApiBindings:
    """``Bindings`` of one cluster. Safe to use from threads."""

    def __init__(self, transport: Transport, *, now: Callable[[], float] = time.time) -> None:
        self._transport = transport
        self._now = now

    def create(self, args: BindArgs, annotations: dict[str, str], fence: Fence) -> Answer:
        """Create a Binding whose UID is a precondition, unless the fence has closed meanwhile."""
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
                fence=fence,
            )
        except FencedError as error:
            return Answer(Sent.NEVER, f"the binding was not sent: {error}")
        except UnreachableError as error:
            sent = Sent.LOST if error.sent else Sent.REFUSED
            return Answer(sent, f"the apiserver did not answer the binding: {error}")
        return Answer(Sent.DONE) if answer.ok else _read(answer)

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

    def written(self, doubt: Doubt) -> Pod | str | None:
        """Return a pod as a write to it finds it, None where it is gone, or why there was none."""
        namespace, name = doubt.namespace, doubt.name
        try:
            answer = touch(self._transport, namespace, name, doubt.uid, self._now())
            if answer.ok:
                return decode(answer.body, Pod)
        except (UnreachableError, InvalidObjectError) as error:
            return str(error)
        if answer.status == 404:
            return None
        said = f"HTTP {answer.status}: {answer.problem().message or 'no reason given'}"
        if answer.status != 409:
            return said
        found = self.pod(namespace, name)  # another one by that name?
        return said if isinstance(found, Pod) and found.metadata.uid == doubt.uid else found


def _read(answer: HttpAnswer) -> Answer:
    """Tell what an answer other than yes proves, and say it."""
    status, problem = answer.status, answer.problem()
    said = problem.message or "no reason given"
    refused = f"the apiserver refused the binding ({status}): {said}"
    if status == 404 or (status == 409 and _NOT_WRITTEN.search(said)):
        return Answer(Sent.CONFLICT, refused)
    if status >= 500 or status == 409:
        if _BEFORE_THE_WRITE.search(said):
            return Answer(Sent.REFUSED, f"{refused}; nothing was written")
        if problem.kind != "Status":
            gateway = (
                f"the apiserver did not answer the binding; a gateway before it did ({status})"
            )
            return Answer(Sent.LOST, gateway)
        failed = f"the apiserver failed in the binding ({status}): {said}"
        return Answer(Sent.UNCLEAR, f"{failed}; whether it was written is not certain")
    remedy = _REMEDIES.get(status)
    return Answer(Sent.REFUSED, f"{refused}; {remedy}" if remedy else refused)
