"""The configuration document: read whole, every error named, before anything starts."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from extender.cluster.memory import VolumeCounting
from extender.documents import API_VERSION, Section, load_yaml, read_document
from extender.errors import InvalidConfigurationError, InvalidQuantityError
from extender.kube.quantity import parse_quantity
from extender.placement.narrowing import THE_LEAST
from extender.placement.policy import Bandwidths, OnStale, Policy
from extender.verbs.context import ListRejected
from extender.verbs.doubt import LOST_SECONDS

KIND = "ExtenderConfiguration"

Seconds = Annotated[float, Meta(ge=0, le=86_400 * 30)]
Positive = Annotated[float, Meta(gt=0, le=10_000)]
Size = str | int


class MemorySection(Section, frozen=True):
    """``memory``: which memory-backed volumes count (``sized``, ``strict`` or ``off``)."""

    volumes: VolumeCounting = VolumeCounting.SIZED


class EvidenceSection(Section, frozen=True):
    """``evidence``: whose word counts, and for how long after a loader stopped being Ready.

    ``required_timeout_seconds``: how long a pod insists on a model that it can fetch; 0 for ever.
    """

    stale_grace_seconds: Seconds = 600.0
    required_timeout_seconds: Seconds = 0.0
    trusted_namespaces: tuple[str, ...] = ("kube-system", "model-cache-system")


class FreshnessSection(Section, frozen=True):
    """``freshness``: when knowledge counts as old, and what follows for pods that need it."""

    bound_seconds: Annotated[float, Meta(ge=5, le=3600)] = 180.0
    on_stale: OnStale = OnStale.REFUSE


class BandwidthSection(Section, frozen=True):
    """``estimate.bandwidths``: GB/s (10^9 bytes per second)."""

    page_cache: Positive = 6.0
    disk: Positive = 2.0
    shared_volume: Positive = 0.5
    registry: Positive = 0.2
    hub: Positive = 0.2


class EstimateSection(Section, frozen=True):
    """``estimate``: what the estimated start is made of; ``bench tune`` tries the defaults."""

    engine_start_seconds: Seconds = 20.0
    default_model_size: Size = "16G"
    half_life_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 15.0
    bandwidths: BandwidthSection = BandwidthSection()
    learn: bool = True


class FilterSection(Section, frozen=True):
    """``filter``: when refused nodes are listed, and how many that fit are offered.

    ``offered_percentage`` is meant as kube-scheduler's ``percentageOfNodesToScore``.
    """

    list_rejected: ListRejected = ListRejected.WHEN_NONE_PASS
    offered_percentage: Annotated[int, Meta(ge=0, le=100)] = THE_LEAST


class BindSection(Section, frozen=True):
    """``bind``: how long memory is kept for a pod that the watch has not shown on its node yet."""

    hold_seconds: Annotated[float, Meta(ge=0, le=600)] = 5.0
    reservation_seconds: Annotated[float, Meta(gt=0, le=3600)] = 300.0


class WakingSection(Section, frozen=True):
    """``waking``: refused pods are tried again as soon as what they wait for is true.

    ``scheduler_names`` tells whose pods are looked at: woken, and shown and counted as waiting.
    """

    enabled: bool = True
    per_second: Annotated[float, Meta(gt=0, le=1000)] = 50.0
    scheduler_names: tuple[str, ...] = ("model-cache-scheduler",)


class EventsSection(Section, frozen=True):
    """``events``: what is said on pods beside kube-scheduler's own events, and how often."""

    enabled: bool = True
    per_hour: Annotated[int, Meta(ge=1, le=100_000)] = 600


class LoadersSection(Section, frozen=True):
    """``loaders``: whether this program's own loaders are asked for what waiting pods need."""

    on_demand: bool = True


class ServerSection(Section, frozen=True):
    """``server``: limits of the HTTP listeners.

    ``page``: whether ``status_listen`` has the page where the network reaches it, over TLS then.
    """

    threads: Annotated[int, Meta(ge=1, le=256)] = 16
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**31)] = 64 * 1024 * 1024
    keep_alive_seconds: Annotated[int, Meta(ge=90, le=3600)] = 120
    deadline_seconds: Annotated[float, Meta(gt=0, le=60)] = 4.0
    graceful_seconds: Annotated[int, Meta(ge=1, le=300)] = 20
    page: bool = False
    recent_decisions: Annotated[int, Meta(ge=16, le=100_000)] = 2048


class CertificateFiles(Section, frozen=True):
    """What a listener shows and whom it believes: paths of PEM files."""

    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""

    @property
    def given(self) -> dict[str, str]:
        """Return each path by its key; empty where it is left out."""
        return {
            "certFile": self.cert_file,
            "keyFile": self.key_file,
            "clientCaFile": self.client_ca_file,
        }


class TlsSection(CertificateFiles, frozen=True):
    """``tls``: mutual TLS on ``listen``; all three files or none."""

    @property
    def enabled(self) -> bool:
        """Whether all that is needed is named."""
        return all(self.given.values())


class StatusTlsSection(CertificateFiles, frozen=True):
    """``statusTls``: TLS on ``status_listen``; both files of its own or none.

    With ``client_ca_file`` what is more than health and metrics is for clients with a certificate
    of it.
    """

    @property
    def enabled(self) -> bool:
        """Whether all that is needed is named."""
        return bool(self.cert_file and self.key_file)


class ExtenderConfiguration(Section, frozen=True):
    """The whole document."""

    api_version: str = API_VERSION
    kind: str = KIND
    listen: str = "127.0.0.1:8888"
    status_listen: str = ""
    memory: MemorySection = MemorySection()
    evidence: EvidenceSection = EvidenceSection()
    freshness: FreshnessSection = FreshnessSection()
    estimate: EstimateSection = EstimateSection()
    filter: FilterSection = FilterSection()
    bind: BindSection = BindSection()
    waking: WakingSection = WakingSection()
    events: EventsSection = EventsSection()
    loaders: LoadersSection = LoadersSection()
    server: ServerSection = ServerSection()
    tls: TlsSection = TlsSection()
    status_tls: StatusTlsSection = StatusTlsSection()

    def policy(self) -> Policy:
        """Return what the core needs of it."""
        speeds = self.estimate.bandwidths
        return Policy(
            stale_grace=self.evidence.stale_grace_seconds,
            engine_start=self.estimate.engine_start_seconds,
            default_model_bytes=parse_quantity(self.estimate.default_model_size),
            half_life=self.estimate.half_life_seconds,
            on_stale=self.freshness.on_stale,
            required_timeout=self.evidence.required_timeout_seconds,
            bandwidths=Bandwidths(
                page_cache=speeds.page_cache,
                disk=speeds.disk,
                shared_volume=speeds.shared_volume,
                registry=speeds.registry,
                hub=speeds.hub,
            ),
        )


def load_configuration(path: Path | None) -> ExtenderConfiguration:
    """Read the file, or return the defaults for None.

    Raises InvalidConfigurationError whose message lists every error with its field and remedy.
    """
    if path is None:
        return ExtenderConfiguration()
    return read_configuration(load_yaml(path), name=str(path))


def read_configuration(document: Any, *, name: str = "configuration") -> ExtenderConfiguration:
    """Check a parsed document and return it typed; see ``load_configuration``."""
    return read_document(
        document,
        ExtenderConfiguration,
        name=name,
        kind=KIND,
        further=_errors_between_fields,
    )


def _errors_between_fields(read: ExtenderConfiguration) -> list[str]:
    listening = check_listeners(read.listen, read.status_listen)
    errors = listening or check_exposure(read)
    return errors + _size_errors(read) + _reservation_errors(read)


def listen_address(text: str, *, field: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` (``[::1]:8888`` for IPv6). Raises InvalidConfigurationError."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        number = int(port)
        if host != "localhost":
            ipaddress.ip_address(host)
    except ValueError:
        number = -1
    if not colon or not 0 <= number <= 65_535:
        raise InvalidConfigurationError(
            f"{field}: {text!r} is not IP:PORT; write it like 127.0.0.1:8888"
        )
    return host, number


def check_listeners(listen: str, status_listen: str) -> list[str]:
    """Return what is wrong with the two addresses, in words."""
    errors, ports = [], []
    for field, text in (("listen", listen), ("statusListen", status_listen)):
        if not text and field == "statusListen":
            continue
        try:
            ports.append(listen_address(text, field=field)[1])
        except InvalidConfigurationError as error:
            errors.append(str(error))
    if len(ports) == 2 and ports[0] == ports[1] != 0:
        errors.append(f"statusListen: port {ports[1]} is that of listen; choose another")
    return errors


def check_exposure(configuration: ExtenderConfiguration) -> list[str]:
    """Return what is wrong with who can reach the verbs and the page, in words.

    Whoever calls bind places pods with this program's rights; the page names pods and models.
    """
    return _verbs_exposure(configuration) + _page_exposure(configuration)


def _verbs_exposure(configuration: ExtenderConfiguration) -> list[str]:
    tls = configuration.tls
    if any(tls.given.values()) and not tls.enabled:
        return [
            f"tls.{key}: is missing; give certFile, keyFile and clientCaFile, or none of them"
            for key, name in tls.given.items()
            if not name
        ]
    if tls.enabled or _on_loopback(configuration.listen, field="listen"):
        return []
    return [
        f"listen: {configuration.listen} can be reached by others, and the verbs have no guard "
        "there; listen on 127.0.0.1, or set tls.certFile, tls.keyFile and tls.clientCaFile"
    ]


def _page_exposure(configuration: ExtenderConfiguration) -> list[str]:
    tls, address = configuration.status_tls, configuration.status_listen
    if any(tls.given.values()) and not tls.enabled:
        return [
            f"statusTls.{key}: is missing; give certFile and keyFile, or leave statusTls out"
            for key in ("certFile", "keyFile")
            if not tls.given[key]
        ]
    if not configuration.server.page or not address or tls.enabled:
        return []
    if _on_loopback(address, field="statusListen"):
        return []
    return [
        f"server.page: the page at statusListen {address} would cross the network in the clear; "
        "set statusTls.certFile and statusTls.keyFile, or leave server.page out and forward a port "
        "to listen"
    ]


def _on_loopback(address: str, *, field: str) -> bool:
    host, _ = listen_address(address, field=field)
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def _size_errors(read: ExtenderConfiguration) -> list[str]:
    try:
        positive = parse_quantity(read.estimate.default_model_size) > 0
    except InvalidQuantityError as error:
        return [f"estimate.defaultModelSize: {error}"]
    return [] if positive else ["estimate.defaultModelSize: is 0; write a size such as 16G"]


def _reservation_errors(read: ExtenderConfiguration) -> list[str]:
    kept, bound = read.bind.reservation_seconds, read.freshness.bound_seconds
    least = bound + LOST_SECONDS
    if kept > least:
        return []
    return [
        f"bind.reservationSeconds: {kept:g} is not more than {least:g}, freshness.boundSeconds "
        f"({bound:g}) and {LOST_SECONDS:g}; raise it, or lower freshness.boundSeconds: a Binding "
        f"whose answer was lost may take effect for {LOST_SECONDS:g} seconds, and the pod not be "
        f"seen for {bound:g} more, and its memory would be given to another one meanwhile"
    ]
