"""``loader run``: keep the node's cache as the catalog says."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from threading import Event, Thread
from time import sleep

import click

from extender.cli.loader_paths import Named
from extender.config import listen_address
from extender.serving.logs import configure_logging

_END_SECONDS = 4.5
"""After SIGTERM: a node that shuts down gives its pods less time than they ask for."""


@click.command("run")
@click.option(
    "--catalog",
    required=True,
    type=Named("file"),
    help="The ModelCatalog, followed as it changes (config/model-catalog.yaml has every key).",
)
@click.option(
    "--directory",
    required=True,
    type=Named(exists=True),
    help="The cache's directory, as this process sees it.",
)
@click.option(
    "--host-directory",
    default="",
    help="What the node calls it. Left out: read from the hostPath volume of the loader's own pod.",
)
@click.option("--hub-token-file", help="File with the hub's token. Left out: $HF_TOKEN, if set.")
@click.option("--hub-endpoint", help="A mirror of the hub. Left out: $HF_ENDPOINT, if set.")
@click.option("--endpoint-url", help="Of an object store that speaks S3 or GCS.")
@click.option("--status-listen", help="HOST:PORT of /healthz, /readyz and /metrics.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Left out: the pod's account.")
@click.option("--context", "kube_context", help="Context of the kubeconfig.")
@click.option("--standalone", is_flag=True, help="Without a cluster: report to nobody.")
@click.option(
    "--look-seconds", default=60.0, type=click.FloatRange(min=0.1), hidden=True, help="For tests."
)
@click.option(
    "--lease-seconds", default=90, type=click.IntRange(min=1), hidden=True, help="For tests."
)
@click.option(
    "--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"])
)
@click.option("--log-format", default="json", type=click.Choice(["json", "text"]))
def run(
    *,
    catalog: Path,
    directory: Path,
    host_directory: str,
    hub_token_file: str | None,
    hub_endpoint: str | None,
    endpoint_url: str | None,
    status_listen: str | None,
    kubeconfig: Path | None,
    kube_context: str | None,
    standalone: bool,
    look_seconds: float,
    lease_seconds: int,
    log_level: str,
    log_format: str,
) -> None:
    """Keep the node's model cache as a catalog says, until SIGTERM.

    Every model is fetched, proven and shown whole; looked at again all the time; and reported on
    this loader's own pod. POD_NAME, POD_NAMESPACE, POD_UID and NODE_NAME say which pod that is.
    """
    from extender.loader.identity import identity_from
    from extender.loader.running import Cluster, Loader, Settings
    from extender.loader.sources import Credentials
    from extender.watch.client import connect

    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    Thread(target=_end_soon, args=(stopping,), name="ending", daemon=True).start()
    configure_logging(level=log_level, pretty=log_format == "text")
    settings = Settings(
        catalog=catalog,
        directory=directory,
        host_directory=host_directory,
        credentials=Credentials(
            hub_token_file=hub_token_file, hub_endpoint=hub_endpoint, endpoint_url=endpoint_url
        ),
        status_listen=(
            listen_address(status_listen, field="--status-listen") if status_listen else None
        ),
        look_seconds=look_seconds,
        lease_seconds=lease_seconds,
    )
    cluster = None
    if not standalone:
        me = identity_from(os.environ)
        transport = connect(str(kubeconfig) if kubeconfig else None, kube_context)
        cluster = Cluster(transport, me)
    Loader(settings, cluster).run(stopping)


def _end_soon(stopping: Event) -> None:
    """End the process where something does not stop: no step of ours minds to be the last one."""
    stopping.wait()
    sleep(_END_SECONDS)
    os._exit(0)
