"""Where an extender is called, and whether the two sides know each other.

pkg/scheduler/extender.go (``makeTransport``) of kubernetes/kubernetes v1.37: HTTPS that is switched
on without a CA takes any certificate, and what ``urlPrefix`` says is what is spoken.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from extender.doctor.decoded import shown
from extender.doctor.finding import Finding, Severity
from extender.doctor.scheduler_file import Entry


def check_address(entry: Entry) -> Iterator[Finding]:
    """Yield what is wrong with where an extender is called, and how each side proves itself."""
    given = entry.given
    try:
        url = urlsplit(given.url_prefix)
        host = url.hostname or ""
        _ = url.port
    except ValueError:
        url, host = urlsplit(""), ""
    at = entry.at("urlPrefix")
    if url.scheme not in {"http", "https"} or not host:
        yield Finding(
            severity=Severity.ERROR,
            check="BadAddress",
            object=at,
            message=f"{given.url_prefix[:100]!r} is no http:// or https:// address",
            remedy="urlPrefix: http://127.0.0.1:8888",
        )
        return
    path = url.path.strip("/")
    if path or url.query or url.fragment:
        yield Finding(
            severity=Severity.ERROR if _is_loopback(host) else Severity.WARNING,
            check="VerbUnknown",
            object=at,
            message=f"{shown(given.url_prefix)} is more than an address: the extender has its "
            "verbs at /filter and the like; every call fails unless a proxy takes that off",
            remedy=f"urlPrefix: {url.scheme}://{url.netloc}",
        )
    if url.scheme == "https":
        yield from _tls(entry)
    elif not _is_loopback(host):
        yield Finding(
            severity=Severity.ERROR,
            check="VerbsExposed",
            object=at,
            message=f"the verbs travel to {host} in the clear: who reaches them places pods with "
            "the extender's rights",
            remedy="listen on 127.0.0.1 in the scheduler's own pod, or use mutual TLS "
            "(deploy/overlays/two-deployments)",
        )
    elif given.enable_https:
        yield Finding(
            severity=Severity.WARNING,
            check="HttpsNotUsed",
            object=entry.at("enableHTTPS"),
            message="is true, and urlPrefix begins with http://: it is plain HTTP all the same",
            remedy="enableHTTPS: false on loopback, else urlPrefix: https://...",
        )


def _tls(entry: Entry) -> Iterator[Finding]:
    tls, given = entry.given.tls_config, entry.given
    has_ca = tls is not None and bool(tls.ca_file or tls.ca_data)
    if (tls is not None and tls.insecure) or (given.enable_https and not has_ca):
        yield Finding(
            severity=Severity.ERROR,
            check="ServerNotProven",
            object=entry.at("tlsConfig"),
            message="without a CA kube-scheduler takes any certificate: whoever answers at that "
            "address decides where pods go",
            remedy="tlsConfig: {caFile: /etc/kube-scheduler/tls/ca.crt}, and no insecure",
        )
    if tls is None or not (tls.cert_file or tls.cert_data) or not (tls.key_file or tls.key_data):
        yield Finding(
            severity=Severity.ERROR,
            check="NoClientCertificate",
            object=entry.at("tlsConfig"),
            message="shows no certificate of its own, and the extender answers nobody without one",
            remedy="tlsConfig: {certFile: /etc/kube-scheduler/tls/tls.crt, "
            "keyFile: /etc/kube-scheduler/tls/tls.key}",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
