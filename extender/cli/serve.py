"""``serve``: run the extender."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import structlog

from extender.cli.source import (
    cluster_options,
    new_context,
    new_state,
    state_from_snapshot,
    warn_of,
)
from extender.config import ExtenderConfiguration, check_listeners, load_configuration
from extender.errors import InvalidConfigurationError, UsageError
from extender.serving.logs import configure_logging

log = structlog.get_logger("extender.cluster")


@click.command()
@cluster_options
@click.option("--listen", help="HOST:PORT of everything (default 127.0.0.1:8888).")
@click.option(
    "--status-listen",
    help="HOST:PORT of health and metrics; on loopback also of the read-only API. With statusTls "
    "over TLS.",
)
@click.option(
    "--observe", is_flag=True, help="Shadow mode: decide for every bound pod, change nothing."
)
@click.option(
    "--lease",
    metavar="NAMESPACE/NAME",
    help="Bind only while the kube-scheduler of this host holds this Lease.",
)
@click.option(
    "--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"])
)
@click.option("--log-format", default="json", type=click.Choice(["json", "text"]))
def serve(
    *,
    config: Path | None,
    kubeconfig: Path | None,
    kube_context: str | None,
    snapshot: Path | None,
    listen: str | None,
    status_listen: str | None,
    observe: bool,
    lease: str | None,
    log_level: str,
    log_format: str,
) -> None:
    """Run the extender until SIGTERM."""
    from extender.serving.knowledge import FileKnowledge
    from extender.serving.server import Server
    from extender.serving.service import Service

    configuration = _configuration(config, listen, status_listen)
    if observe and snapshot is not None:
        raise UsageError("--observe watches a live cluster; leave out --snapshot")
    configure_logging(level=log_level, pretty=log_format == "text")
    if snapshot is not None:
        read = state_from_snapshot(configuration, snapshot)
        warn_of(snapshot, [*read.problems, *read.gaps.values()])
        service = Service(new_context(read.state, configuration), FileKnowledge(), configuration)
    else:
        from extender.cli.live import watched_service

        service = watched_service(
            new_state(configuration, name_problem=_name_problem),
            configuration,
            kubeconfig=kubeconfig,
            kube_context=kube_context,
            observe=observe,
            lease=lease,
        )
    Server(service, configuration).run()


def _name_problem(name: str, problem: str) -> None:
    log.warning("object cannot be read", object=name, error=problem)


def _configuration(
    path: Path | None, listen: str | None, status_listen: str | None
) -> ExtenderConfiguration:
    """Read the file and put the command line's listeners over it."""
    configuration = load_configuration(path)
    given = {"listen": listen, "status_listen": status_listen}
    configuration = msgspec.structs.replace(
        configuration, **{key: value for key, value in given.items() if value is not None}
    )
    errors = check_listeners(configuration.listen, configuration.status_listen)
    if errors:
        raise InvalidConfigurationError("; ".join(errors))
    return configuration
