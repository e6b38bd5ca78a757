"""A request's body: read whole, within its limit, or refused in words."""

from __future__ import annotations

import flask
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from extender.errors import ProtocolError


def read_body(remedy: str) -> bytes:
    """Return the body. Raises ProtocolError; ``remedy`` is for a body that is too large.

    A body of unknown length (chunked) is read up to the limit and no further. werkzeug's stream
    ends there without a word; read once more, it tells that the limit was met.
    """
    request = flask.request
    limit = request.max_content_length
    try:
        body = request.get_data(cache=False)
        if limit is not None and len(body) >= limit and request.content_length is None:
            request.stream.read(1)
    except RequestEntityTooLarge as error:
        raise ProtocolError(
            f"the body is larger than {limit} bytes; {remedy}", status=413
        ) from error
    except ClientDisconnected as error:
        raise ProtocolError("the body ended early; send all that was announced") from error
    except ParseException as error:
        raise ProtocolError(f"the body is badly chunked: {error}") from error
    if len(body) < (request.content_length or 0):
        raise ProtocolError("the body ended early; send all that was announced")
    return body
