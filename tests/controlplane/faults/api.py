"""The real apiserver, asked directly: what is true, and what changes it.

It shares no code with the extender: it is the measure.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from extender.watch.resources import RESOURCES, Resource

Object = dict[str, Any]
Key = tuple[str, str]
Version = tuple[str, str]
"""UID and resource version."""


class ApiError(AssertionError):
    """The real apiserver refused what a test asked for."""


class Api:
    """One connection, one thread at a time."""

    def __init__(self, server: str, authority: Path, token: str) -> None:
        self.server = server
        self._authority = authority
        self._context = ssl.create_default_context(cafile=authority)
        self._token = token
        self._connection: http.client.HTTPSConnection | None = None

    def another(self) -> Api:
        """Return one with a connection of its own, for another thread."""
        return Api(self.server, self._authority, self._token)

    def call(self, method: str, path: str, body: Object | None = None, **query: str) -> Object:
        """Send one request; raises ApiError where it is refused."""
        url = path + ("?" + urlencode(query) if query else "")
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        data = None if body is None else json.dumps(body)
        if self._connection is None:
            address = urlsplit(self.server)
            self._connection = http.client.HTTPSConnection(
                address.hostname or "", address.port, context=self._context, timeout=30
            )
        self._connection.request(method, url, body=data, headers=headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise ApiError(f"{method} {url}: {answer.status} {text[:300].decode()}")
        document: Object = json.loads(text)
        return document

    def close(self) -> None:
        """Let go of the connection; the next call opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def all_of(self, resource: Resource) -> list[Object]:
        """Return everything that the extender is to know of one kind."""
        items: list[Object] = self.call("GET", resource.path, None, **resource.selectors)["items"]
        return items

    def truth(self) -> dict[str, list[Object]]:
        """Return a fresh list of every kind."""
        return {resource.name: self.all_of(resource) for resource in RESOURCES}


def key_of(item: Mapping[str, Any]) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version_of(item: Mapping[str, Any]) -> Version:
    return item["metadata"]["uid"], item["metadata"]["resourceVersion"]


def versions(truth: Mapping[str, list[Object]]) -> dict[str, dict[Key, Version]]:
    """Return who is there in which version, by kind."""
    return {
        kind: {key_of(item): version_of(item) for item in items} for kind, items in truth.items()
    }
