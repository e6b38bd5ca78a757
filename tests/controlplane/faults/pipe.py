"""A pipe to the real apiserver that looks at nothing: TLS goes through whole, client and all."""

from __future__ import annotations

import contextlib
import select
import socket
from threading import Event, Lock, Thread
from typing import Self
from urllib.parse import urlsplit


class Pipe:
    """Start it with ``with``; ``drop`` cuts every connection, as a load balancer that restarts."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = address.hostname or "", address.port or 443
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: set[socket.socket] = set()
        self._lock = Lock()
        self._closed = Event()

    def __enter__(self) -> Self:
        Thread(target=self._accept, name="pipe", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Cut what is connected; new connections are taken."""
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(self._upstream, timeout=10) as server,
        ):
            other = {client: server, server: client}
            with self._lock:
                self._ends |= other.keys()
            try:
                while True:
                    for end in select.select(list(other), [], [])[0]:
                        data = end.recv(65536)
                        if not data:
                            return
                        other[end].sendall(data)
            finally:
                with self._lock:
                    self._ends -= other.keys()
