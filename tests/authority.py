"""A certificate authority in a few lines: X.509 version 3 certificates over P-256, as PEM files.

Written out here so that the tests need neither a package nor a program for it. Sources of the
forms: RFC 5280 (certificates), RFC 5480 and RFC 5915 (keys), FIPS 186-5 (the curve, signing).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
DAY = 86_400
CLIENT = "1.3.6.1.5.5.7.3.2"
SERVER = "1.3.6.1.5.5.7.3.1"

Point = tuple[int, int] | None


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(scalar: int, point: Point) -> tuple[int, int]:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    assert total is not None
    return total


# -- DER -----------------------------------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def integer(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    out = bytearray([40 * first + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | number & 0x7F)
        out += bytes(reversed(digits))
    return der(0x06, bytes(out))


def bits(content: bytes) -> bytes:
    return der(0x03, b"\0", content)


def utc(seconds: float) -> bytes:
    return der(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(seconds)).encode())


def name(text: str) -> bytes:
    return sequence(der(0x31, sequence(oid("2.5.4.3"), der(0x0C, text.encode()))))


def extension(number: str, content: bytes, *, critical: bool = False) -> bytes:
    flag = der(0x01, b"\xff") if critical else b""
    return sequence(oid(number), flag, der(0x04, content))


def addressed(address: str, host: str = "") -> bytes:
    """The names that a server's certificate is for."""
    names = (der(0x82, host.encode()) if host else b"") + der(0x87, ip_address(address).packed)
    return extension("2.5.29.17", sequence(names))


ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"))
CURVE = oid("1.2.840.10045.3.1.7")


def pem(label: str, content: bytes) -> str:
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


# -- keys and certificates -----------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    secret: int = field(default_factory=lambda: secrets.randbelow(N - 1) + 1)

    def public(self) -> bytes:
        x, y = times(self.secret, G)
        point = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
        return sequence(sequence(oid("1.2.840.10045.2.1"), CURVE), bits(point))

    def pem(self) -> str:
        secret = der(0x04, self.secret.to_bytes(32, "big"))
        return pem("EC PRIVATE KEY", sequence(integer(1), secret, der(0xA0, CURVE)))

    def sign(self, content: bytes) -> bytes:
        digest = int.from_bytes(hashlib.sha256(content).digest(), "big")
        nonce = secrets.randbelow(N - 1) + 1
        r = times(nonce, G)[0] % N
        return sequence(integer(r), integer(pow(nonce, -1, N) * (digest + r * self.secret) % N))


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates and writes them to a folder."""

    def __init__(self, folder: Path, common_name: str = "authority", address: str = "") -> None:
        """Make its own certificate, which serves an address too where one is given."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.common_name = common_name
        self.key = Key()
        basic = extension("2.5.29.19", sequence(der(0x01, b"\xff")), critical=True)
        self.cert = folder / f"{common_name}.crt"
        extensions = [basic, addressed(address)] if address else [basic]
        self.cert.write_text(self._signed(common_name, self.key, extensions, lasts=DAY))

    def issue(
        self, common_name: str, usage: str, *, lasts: float = DAY, host: str = "localhost"
    ) -> Pair:
        """Make a certificate; one with a negative time to last has expired."""
        key = Key()
        extensions = [
            extension("2.5.29.37", sequence(oid(usage))),
            addressed("127.0.0.1", host),
        ]
        pair = Pair(self.folder / f"{common_name}.crt", self.folder / f"{common_name}.key")
        pair.cert.write_text(self._signed(common_name, key, extensions, lasts=lasts))
        pair.key.write_text(key.pem())
        return pair

    def _signed(self, subject: str, key: Key, extensions: list[bytes], *, lasts: float) -> str:
        now = time.time()
        content = sequence(
            der(0xA0, integer(2)),
            integer(secrets.randbits(63)),
            ECDSA_SHA256,
            name(self.common_name),
            sequence(utc(now - 2 * DAY), utc(now + lasts)),
            name(subject),
            key.public(),
            der(0xA3, sequence(*extensions)),
        )
        signed = sequence(content, ECDSA_SHA256, bits(self.key.sign(content)))
        return pem("CERTIFICATE", signed)


def self_signed(folder: Path, common_name: str, address: str = "127.0.0.1") -> Pair:
    """Make a certificate that signs itself, and serves an address."""
    authority = Authority(folder, common_name, address)
    pair = Pair(authority.cert, folder / f"{common_name}.key")
    pair.key.write_text(authority.key.pem())
    return pair
