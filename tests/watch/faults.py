"""The faults of the watch tests, each named for what a client sees."""

from __future__ import annotations

from typing import Any

from tests.watch.fake_apiserver import Exchange, Fault, line, status


def answers(code: int, reason: str = "Test", retry_after: int | None = None) -> Fault:
    """An HTTP error instead of an answer."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return lambda exchange: exchange.refuse(code, reason, headers)


def error_event(code: int, reason: str = "Test", **details: Any) -> Fault:
    """A watch that is accepted and then says ERROR."""

    def fault(exchange: Exchange) -> None:
        exchange.begin()
        exchange.event("ERROR", status(code, reason, **details))
        exchange.end()

    return fault


def reset_mid_line(exchange: Exchange) -> None:
    """The connection is reset in the middle of an event."""
    exchange.begin()
    event = exchange.next_line()
    exchange.chunk(event[: len(event) // 2])
    exchange.abort()


def closed_mid_line(exchange: Exchange) -> None:
    """The connection is closed (FIN) in the middle of an event."""
    exchange.begin()
    event = exchange.next_line()
    exchange.chunk(event[: len(event) // 2])
    exchange.close()


def reset_before_head(exchange: Exchange) -> None:
    """The connection is reset before any answer."""
    exchange.abort()


def truncated_json(exchange: Exchange) -> None:
    """A stream that ends in good order in the middle of an event."""
    exchange.begin()
    event = exchange.next_line()
    exchange.chunk(event[: len(event) // 2])
    exchange.end()


def half_open(exchange: Exchange) -> None:
    """A watch that is accepted and then says nothing, whatever happens."""
    exchange.begin()
    exchange.hang()


def ends_at_once(exchange: Exchange) -> None:
    """A watch that is accepted and ended in good order, with nothing in it."""
    exchange.begin()
    exchange.end()


def unknown_event(exchange: Exchange) -> None:
    """An event of a type that nobody knows, then the rest as it should be."""
    exchange.begin()
    exchange.event("REWOUND", {"metadata": {"name": "x", "resourceVersion": "1"}})
    _go_on(exchange)


def duplicates(exchange: Exchange) -> None:
    """Every event twice."""
    exchange.begin()
    for change in exchange.changes(30):
        exchange.event(change.type, change.object)
        exchange.event(change.type, change.object)


def split_everywhere(exchange: Exchange) -> None:
    """Every byte in a chunk of its own."""
    exchange.begin()
    for change in exchange.changes(30):
        for byte in line(change.type, change.object):
            exchange.chunk(bytes([byte]))


def several_in_one_chunk(exchange: Exchange) -> None:
    """Events and half events together in one chunk."""
    exchange.begin()
    first, second, third = (exchange.next_line() for _ in range(3))
    exchange.chunk(first + second[:5])
    exchange.chunk(second[5:] + b"\n" + third)
    _go_on(exchange)


def old_event_again(exchange: Exchange) -> None:
    """After two events the first comes again: out of order."""
    exchange.begin()
    first, second = exchange.next_line(), exchange.next_line()
    exchange.chunk(first + second + first)
    _go_on(exchange)


def truncated_list(exchange: Exchange) -> None:
    """A list whose body stops half way, though the head promised more."""
    exchange.handler.send_response(200)
    exchange.handler.send_header("Content-Length", "1000")
    exchange.handler.end_headers()
    exchange.handler.wfile.write(b'{"metadata":{"resourceVersion":"1"},"items":[')
    exchange.close()


def broken_list(exchange: Exchange) -> None:
    """A list that is whole by its length and no JSON."""
    exchange.reply(200, b'{"metadata":{"resourceVersion":"1"},"items":[{')


def slow(seconds: float) -> Fault:
    """An answer that takes its time."""

    def fault(exchange: Exchange) -> bool:
        exchange.api.stopped.wait(seconds)
        return False

    return fault


def _go_on(exchange: Exchange) -> None:
    for change in exchange.changes(30):
        exchange.event(change.type, change.object)
