"""The certificates of the verbs' listener: mutual TLS, read anew when the files change.

cert-manager and the kubelet replace mounted files while this program runs. Three ``stat`` calls a
connection tell; files that do not go together yet (a new certificate beside the old key) leave what
was good before in place, with one line in the log.
"""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import TypeAlias

import structlog

from extender.config import TlsSection
from extender.errors import InvalidConfigurationError

log = structlog.get_logger("extender.tls")

Marks: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Of each file: inode, time of change and size; None where it cannot be looked at."""


class Certificates:
    """Makes the TLS context of new connections. Raises InvalidConfigurationError at first."""

    def __init__(self, tls: TlsSection) -> None:
        self._tls = tls
        self._lock = threading.Lock()
        self._marks = self._look()
        self._context = _load(tls)

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are now, or as they were last good."""
        marks = self._look()
        with self._lock:
            if marks != self._marks:
                self._marks = marks
                try:
                    self._context = _load(self._tls)
                except InvalidConfigurationError as error:
                    log.error("certificates not renewed", error=str(error))  # noqa: TRY400
                else:
                    log.info("certificates renewed")
            return self._context

    def _look(self) -> Marks:
        tls = self._tls
        return tuple(
            _mark(Path(name)) for name in (tls.cert_file, tls.key_file, tls.client_ca_file)
        )


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _load(tls: TlsSection) -> ssl.SSLContext:
    """Build a context: TLS 1.2 or newer, and no client without a certificate of the CA.

    There are no session tickets: with one, a client would come back without its certificate being
    looked at again.
    """
    errors = [
        error
        for field, name in (
            ("tls.certFile", tls.cert_file),
            ("tls.keyFile", tls.key_file),
            ("tls.clientCaFile", tls.client_ca_file),
        )
        if (error := _unreadable(field, name))
    ]
    if errors:
        raise InvalidConfigurationError("; ".join(errors))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        # An empty password, or OpenSSL asks the terminal for one.
        context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except (ssl.SSLError, ValueError) as error:
        raise InvalidConfigurationError(
            f"tls.certFile, tls.keyFile: {tls.cert_file} and {tls.key_file} are no pair ({error}); "
            "give a PEM certificate and its own PEM key, without a password"
        ) from error
    try:
        context.load_verify_locations(cafile=tls.client_ca_file)
    except ssl.SSLError as error:
        raise InvalidConfigurationError(
            f"tls.clientCaFile: {tls.client_ca_file} holds no certificate ({error}); give the PEM "
            "certificate of the authority that signs kube-scheduler's client certificate"
        ) from error
    return context


def _unreadable(field: str, name: str) -> str:
    try:
        Path(name).read_bytes()
    except OSError as error:
        return f"{field}: {name} cannot be read: {error.strerror}; mount it for this user"
    return ""
