"""A small S3 (ListObjectsV2 in pages, GetObject with Range and If-Match), and a small GCS too."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.loader.serving import Handler, Serving


class ObjectStore(Serving):
    """The store; as a context manager it runs. ``buckets``: name -> key -> content.

    ``statuses``: what the next reads are answered with instead of content; ``retry_after``: and how
    long they are asked to wait. ``refused`` counts them.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        (self.url,) = self.urls
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.statuses: list[int] = []
        self.retry_after = ""
        self.refused = 0


class _Handler(Handler):
    @property
    def store(self) -> ObjectStore:
        store = self.server.state
        assert isinstance(store, ObjectStore)
        return store

    def respond(self) -> None:
        target = urlsplit(self.path)
        bucket, _, key = unquote(target.path).lstrip("/").partition("/")
        if google := re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?", target.path):
            self._google(google[1], unquote(google[2] or ""), parse_qs(target.query))
            return
        objects = self.store.buckets.get(bucket)
        if "Authorization" not in self.headers:
            self._error(403, "AccessDenied")
        elif objects is None:
            self._error(404, "NoSuchBucket")
        elif not key:
            self._list(bucket, objects, parse_qs(target.query))
        elif key not in objects:
            self._error(404, "NoSuchKey")
        else:
            self._get(objects[key])

    def _list(self, bucket: str, objects: dict[str, bytes], query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", [""])[0]
        keys = sorted(key for key in objects if key.startswith(prefix) and key > after)
        page = keys[:2]
        more = len(keys) > len(page)
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z"
            f"</LastModified><ETag>{escape(_etag(objects[key]))}</ETag>"
            f"<Size>{len(objects[key])}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        self._answer(
            200,
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>",
        )

    def _google(self, bucket: str, key: str, query: dict[str, list[str]]) -> None:
        """The JSON API; a content's generation is its checksum: every change is another one."""
        objects = self.store.buckets.get(bucket)
        if objects is None or (key and key not in objects):
            self._answer(404, "{}")
        elif key and query.get("alt") == ["media"]:
            if query.get("generation", [_generation(objects[key])]) != [_generation(objects[key])]:
                self._answer(404, "{}")
            else:
                self._get(objects[key])
        elif key:
            self._answer(200, json.dumps(self._resource(bucket, key, objects[key])))
        else:
            after = query.get("pageToken", [""])[0]
            prefix = query.get("prefix", [""])[0]
            keys = sorted(key for key in objects if key.startswith(prefix) and key > after)
            items = [self._resource(bucket, key, objects[key]) for key in keys[:2]]
            page: dict[str, object] = {"kind": "storage#objects", "items": items}
            if len(keys) > 2:
                page["nextPageToken"] = keys[1]
            self._answer(200, json.dumps(page))

    @staticmethod
    def _resource(bucket: str, key: str, content: bytes) -> dict[str, str]:
        return {
            "kind": "storage#object",
            "name": key,
            "bucket": bucket,
            "size": str(len(content)),
            "generation": _generation(content),
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
        }

    def _get(self, content: bytes) -> None:
        store = self.store
        if self.command == "GET" and store.statuses:
            status = store.statuses.pop(0)
            store.refused += 1
            self._error(status, _CODES.get(status, "AccessDenied"))
            return
        if self.headers.get("If-Match", _etag(content)) != _etag(content):
            self._error(412, "PreconditionFailed")
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        body = content[int(wanted[1]) : int(wanted[2]) + 1] if wanted else content
        headers = {"ETag": _etag(content), "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        self.answer(206 if wanted else 200, headers, body)

    def _error(self, status: int, code: str) -> None:
        text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
        self._answer(status, text)

    def _answer(self, status: int, text: str) -> None:
        headers = {"Content-Type": "application/xml"}
        if status >= 400 and self.store.retry_after:
            headers["Retry-After"] = self.store.retry_after
        self.answer(status, headers, text.encode())


_CODES = {503: "SlowDown", 429: "TooManyRequests", 500: "InternalError"}


def _generation(content: bytes) -> str:
    return str(1000 + zlib.crc32(content))


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'
