"""The certificates of a listener, read anew when the files change.

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

from extender.config import CertificateFiles
from extender.errors import InvalidConfigurationError

log = structlog.get_logger("extender.tls")

Marks: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Of each file: inode, time of change and size; None where it cannot be looked at."""


class Certificates:
    """Makes the TLS context of new connections. Raises InvalidConfigurationError at first.

    ``section`` is the key of the files in the configuration. ``clients``: whether a client has to
    show a certificate of ``client_ca_file``, or may; without that file none is asked for.
    """

    def __init__(
        self,
        files: CertificateFiles,
        *,
        section: str = "tls",
        clients: ssl.VerifyMode = ssl.CERT_REQUIRED,
    ) -> None:
        self._files = files
        self._section = section
        self._clients = clients
        self._lock = threading.Lock()
        self._marks = self._look()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are now, or as they were last good."""
        marks = self._look()
        with self._lock:
            if marks != self._marks:
                self._marks = marks
                try:
                    self._context = self._load()
                except InvalidConfigurationError as error:
                    log.error("certificates not renewed", error=str(error))  # noqa: TRY400
                else:
                    log.info("certificates renewed", section=self._section)
            return self._context

    def _look(self) -> Marks:
        return tuple(_mark(Path(name)) for name in self._files.given.values() if name)

    def _load(self) -> ssl.SSLContext:
        """Build a context: TLS 1.2 or newer, and clients as they were asked for.

        There are no session tickets: with one, a client would come back without its certificate
        being looked at again.
        """
        files, section = self._files, self._section
        errors = [
            error
            for key, name in files.given.items()
            if name and (error := _unreadable(f"{section}.{key}", name))
        ]
        if errors:
            raise InvalidConfigurationError("; ".join(errors))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            # An empty password, or OpenSSL asks the terminal for one.
            context.load_cert_chain(files.cert_file, files.key_file, password="")
        except (ssl.SSLError, ValueError) as error:
            raise InvalidConfigurationError(
                f"{section}.certFile, {section}.keyFile: {files.cert_file} and {files.key_file} "
                f"are no pair ({error}); give a PEM certificate and its own PEM key, without a "
                "password"
            ) from error
        if not files.client_ca_file:
            return context
        context.verify_mode = self._clients
        try:
            context.load_verify_locations(cafile=files.client_ca_file)
        except ssl.SSLError as error:
            raise InvalidConfigurationError(
                f"{section}.clientCaFile: {files.client_ca_file} holds no certificate ({error}); "
                "give the PEM certificate of the authority that signs the clients' certificates"
            ) from error
        return context


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _unreadable(field: str, name: str) -> str:
    try:
        Path(name).read_bytes()
    except OSError as error:
        return f"{field}: {name} cannot be read: {error.strerror}; mount it for this user"
    return ""
