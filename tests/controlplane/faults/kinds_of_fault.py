"""The faults by name: what the proxy does to real answers and real events."""

from __future__ import annotations

import json
import threading

from tests.controlplane.faults.proxy import EventFault, Exchange, Fault, status

REWOUND = b'{"type":"REWOUND","object":{"metadata":{"name":"x","resourceVersion":"1"}}}\n'


def answers(code: int, reason: str = "Test", retry_after: int | None = None) -> Fault:
    """An HTTP error in place of an answer."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return lambda exchange: exchange.refuse(code, reason, headers)


def error_event(code: int, reason: str) -> EventFault:
    """An ERROR in place of an event, then the end of the stream."""

    def fault(exchange: Exchange, line: bytes) -> None:
        event = {"type": "ERROR", "object": status(code, reason)}
        exchange.chunk(json.dumps(event).encode() + b"\n")
        exchange.end()
        exchange.close()

    return fault


def reset_before_head(exchange: Exchange) -> None:
    """The connection is reset in place of an answer."""
    exchange.abort()


def reset_mid_line(exchange: Exchange, line: bytes) -> None:
    """The connection is reset in the middle of an event."""
    exchange.chunk(line[: len(line) // 2])
    exchange.abort()


def closed_mid_line(exchange: Exchange, line: bytes) -> None:
    """The connection is closed (FIN) in the middle of an event."""
    exchange.chunk(line[: len(line) // 2])
    exchange.close()


def truncated_json(exchange: Exchange, line: bytes) -> None:
    """The stream ends in good order in the middle of an event."""
    exchange.chunk(line[: len(line) // 2])
    exchange.end()
    exchange.close()


def garbled_json(exchange: Exchange, line: bytes) -> None:
    """An event that is no JSON, in a stream that goes on."""
    exchange.chunk(line[: len(line) // 2] + b"\n")


def half_open(exchange: Exchange, line: bytes) -> None:
    """From this event on nothing comes any more, and nobody closes."""
    exchange.hang()


def late(go_on: threading.Event) -> EventFault:
    """This event, and all that follow it, come only when the test lets them."""

    def fault(exchange: Exchange, line: bytes) -> None:
        go_on.wait(120)
        exchange.chunk(line)

    return fault


def half_open_from_the_start(exchange: Exchange) -> None:
    """A watch that is accepted and then says nothing, whatever happens."""
    exchange.begin()
    exchange.hang()


def unknown_event(exchange: Exchange, line: bytes) -> None:
    """An event of a type that nobody knows stands before the real one."""
    exchange.chunk(REWOUND + line)


def duplicate(exchange: Exchange, line: bytes) -> None:
    """An event comes twice."""
    exchange.chunk(line)
    exchange.chunk(line)


def out_of_order(exchange: Exchange, line: bytes) -> None:
    """Two events change places."""
    later = exchange.another_event()
    exchange.chunk(later)
    exchange.chunk(line)


def replayed(exchange: Exchange, line: bytes) -> None:
    """After two events the first comes again."""
    later = exchange.another_event()
    exchange.chunk(line + later + line)


def split_everywhere(exchange: Exchange, line: bytes) -> None:
    """Every byte of an event in a chunk of its own."""
    for byte in line:
        exchange.chunk(bytes([byte]))


def ends_at_once(exchange: Exchange) -> None:
    """A watch that is accepted and ended in good order, with nothing in it."""
    exchange.begin()
    exchange.end()


def slow(seconds: float) -> Fault:
    """An answer that takes its time."""

    def fault(exchange: Exchange) -> bool:
        exchange.handler.proxy_stopped.wait(seconds)
        return False

    return fault


def slow_answer(seconds: float) -> Fault:
    """A whole answer that is old when it arrives."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.handler.call()
        body = answer.read()
        exchange.handler.proxy_stopped.wait(seconds)
        exchange.reply(answer.status, body, dict(answer.getheaders()))

    return fault


def truncated_list(exchange: Exchange) -> None:
    """A list whose body stops half way, though its head promised more."""
    answer = exchange.handler.call().read()
    exchange.handler.send_response(200)
    exchange.handler.send_header("Content-Length", str(len(answer)))
    exchange.handler.end_headers()
    exchange.handler.wfile.write(answer[: len(answer) // 2])
    exchange.close()


def broken_list(exchange: Exchange) -> None:
    """A list that is whole by its length, and no JSON."""
    answer = exchange.handler.call().read()
    exchange.reply(200, answer[: len(answer) // 2], {"Content-Type": "application/json"})
