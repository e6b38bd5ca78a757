"""Which apiserver, as whom: the official client's configuration, kept current.

The official client reads kubeconfig files and service accounts (all the ways to authenticate
included) better than anything written here could. What it leaves to do:

- In a pod it re-reads the token file once a minute, but it reads a kubeconfig's ``tokenFile`` and
  inline certificates only once. ``renew`` reads everything again after a 401.
- Some of its error texts quote the whole ``users`` entry of the kubeconfig, token included. They
  are never passed on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from time import monotonic

import structlog
from kubernetes.client.configuration import Configuration
from kubernetes.config import incluster_config, kube_config
from kubernetes.config.config_exception import ConfigException

from extender.documents import NOT_YAML
from extender.errors import InvalidConfigurationError

log = structlog.get_logger(__name__)

_RENEW_AT_MOST_EVERY = 5.0  # seconds; a wrong credential must not become a loop of exec plugins
_MISSING_KEY = re.compile(r"Expected key (\S+) in")
_UNUSABLE = (ConfigException, OSError, *NOT_YAML)
_POOL_SIZE = 72
"""Connections that are kept: for all threads that bind side by side (``serving.pools``), and the
few that share their transport. One more would be made anew for each request."""

Load = Callable[[], Configuration]


class Access:
    """A configuration that can be renewed. Shared by all transports, from any thread."""

    def __init__(self, load: Load, *, clock: Callable[[], float] = monotonic) -> None:
        self._load = load
        self._clock = clock
        self._lock = Lock()
        self._renewed_at = clock()
        self._configuration = load()
        self._generation = 0

    def current(self) -> tuple[int, Configuration]:
        """Return the configuration with its generation; a new generation needs new connections."""
        with self._lock:
            return self._generation, self._configuration

    def authorization(self) -> str | None:
        """Return the Authorization header, with the token as it is now; None without one."""
        with self._lock:
            configuration = self._configuration
            try:
                setting = configuration.auth_settings().get("BearerToken")
                value = setting["value"] if setting else None
            except _UNUSABLE as error:
                # The source is being rewritten or a plugin failed: what it said last may do.
                log.warning("token not refreshed", error=_harmless(error))
                keys = configuration.api_key
                value = keys.get("BearerToken") or keys.get("authorization")
        return str(value).strip() if value else None

    def anonymous(self) -> bool:
        """Tell whether requests carry neither a token nor a certificate."""
        _, configuration = self.current()
        return not configuration.cert_file and self.authorization() is None

    def renew(self, generation: int) -> bool:
        """Read the configuration again; return whether there is a newer one than ``generation``.

        Another thread may have done it already. Rate-limited; a source that cannot be read now
        (a file being rewritten) leaves the present configuration in place.
        """
        with self._lock:
            if self._generation != generation:
                return True
            if self._clock() - self._renewed_at < _RENEW_AT_MOST_EVERY:
                return False
            self._renewed_at = self._clock()
            try:
                self._configuration = self._load()
            except InvalidConfigurationError as error:
                log.warning("cluster configuration not renewed", error=str(error))
                return False
            self._generation += 1
        log.info("cluster configuration renewed", generation=generation + 1)
        return True


def load_access(kubeconfig: str | None = None, context: str | None = None) -> Access:
    """Find the cluster as kubectl does: what is named, ``$KUBECONFIG``, the pod's own, ``~/.kube``.

    Raises InvalidConfigurationError that says what is missing.
    """
    return Access(lambda: _load(kubeconfig, context))


def _load(kubeconfig: str | None, context: str | None) -> Configuration:
    configuration = Configuration()
    configuration.connection_pool_maxsize = _POOL_SIZE
    configuration.keep_alive = True
    named = kubeconfig or os.environ.get("KUBECONFIG")
    in_pod = incluster_config.SERVICE_HOST_ENV_NAME in os.environ
    if named or context or not in_pod:
        _load_kubeconfig(named or str(Path("~/.kube/config").expanduser()), context, configuration)
    else:
        _load_service_account(configuration)
    # Else it walks through the whole environment, which names every Service, for each request.
    configuration.proxy = configuration.proxy
    return configuration


def _load_kubeconfig(path: str, context: str | None, configuration: Configuration) -> None:
    if not any(Path(part).expanduser().is_file() for part in path.split(os.pathsep)):
        raise InvalidConfigurationError(
            f"kubeconfig {path}: no such file; name one with --kubeconfig"
        )
    loader: Callable[..., None] = kube_config.load_kube_config
    try:
        loader(config_file=path, context=context, client_configuration=configuration)
    except _UNUSABLE as error:
        raise InvalidConfigurationError(f"kubeconfig {path}: {_harmless(error)}") from None


def _load_service_account(configuration: Configuration) -> None:
    loader: Callable[..., None] = incluster_config.load_incluster_config
    try:
        loader(client_configuration=configuration)
    except _UNUSABLE as error:
        raise InvalidConfigurationError(
            f"service account of this pod: {_harmless(error)}; is automountServiceAccountToken off?"
        ) from None


def _harmless(error: Exception) -> str:
    """Say what is wrong without the official client's text: it can quote credentials."""
    missing = _MISSING_KEY.search(str(error))
    if missing:
        return f"the key {missing[1]} is missing"
    if isinstance(error, OSError):
        return f"{error.strerror}: {error.filename}"
    return f"cannot be read ({type(error).__name__}); kubectl config view shows what it holds"
