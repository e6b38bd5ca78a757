"""The files of a server that speaks TLS, who signs for whom, and clients that believe it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from extender.config import TlsSection
from tests.authority import SERVER, Authority, Pair
from tests.serving.running import DEMO_CLUSTER, Running, running

HEAD = {"apiVersion": "modelcache.dev/v1alpha1", "kind": "ExtenderConfiguration"}


@dataclass(frozen=True)
class Site:
    """The files of one server, and who signs for whom."""

    servers: Authority
    clients: Authority
    files: TlsSection

    @classmethod
    def at(cls, folder: Path) -> Site:
        files = TlsSection(
            cert_file=str(folder / "tls.crt"),
            key_file=str(folder / "tls.key"),
            client_ca_file=str(folder / "client-ca.crt"),
        )
        site = cls(Authority(folder / "servers"), Authority(folder / "clients"), files)
        site.put(site.servers.issue("server", SERVER))
        site.trust(site.clients)
        return site

    def put(self, pair: Pair) -> None:
        replace(Path(self.files.key_file), pair.key.read_bytes())
        replace(Path(self.files.cert_file), pair.cert.read_bytes())

    def trust(self, clients: Authority) -> None:
        replace(Path(self.files.client_ca_file), clients.cert.read_bytes())

    def context(
        self, pair: Pair | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        """What a client uses that trusts this server and shows ``pair``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        context.load_verify_locations(self.servers.cert)
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    def config(
        self, folder: Path, section: str = "tls", *, clients: bool = True, **others: object
    ) -> Path:
        """Write a configuration with these files in one of the sections that take such.

        ``clients``: whether the authority of the clients is among them.
        """
        files = {k: name for k, name in self.files.given.items() if clients or k != "clientCaFile"}
        path = folder / "config.yaml"
        path.write_bytes(msgspec.yaml.encode({**HEAD, section: files, **others}))
        return path


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another in one step, as the kubelet does."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


@contextlib.contextmanager
def serving(folder: Path, site: Site, *, clients: bool) -> Iterator[Running]:
    """A server whose status listener has certificates; its verbs are plain HTTP on loopback."""
    config = site.config(folder, "statusTls", clients=clients, server={"page": True})
    listener = ("--config", config, "--status-listen", "127.0.0.1:0")
    with running(folder, "--snapshot", DEMO_CLUSTER, *listener) as started:
        yield started
