"""``loader fill``: fetch, prove and publish one model once."""

from __future__ import annotations

import signal
import sys
from math import inf
from pathlib import Path
from threading import Event

import click

from extender.cli.loader_paths import Named
from extender.errors import UsageError
from extender.kube.quantity import format_bytes, parse_quantity
from extender.loader.sources import Part
from extender.serving.logs import configure_logging

_WAITS = 3
"""Nothing has failed: a Job that counts this as a failure gives up while servers still read."""


@click.command("fill")
@click.argument("source")
@click.argument("dest", type=Named())
@click.option("--revision", help="Branch, tag or commit, for hf:// only.")
@click.option("--include", multiple=True, help="Shell pattern of files to take; repeat it.")
@click.option("--exclude", multiple=True, help="Shell pattern of files to leave out; repeat it.")
@click.option(
    "--without",
    multiple=True,
    type=click.Choice([part.value for part in Part]),
    help="What the model is meant to have none of; repeat it.",
)
@click.option(
    "--from",
    "nearer",
    multiple=True,
    type=Named(),
    help="A directory that may hold the same model (its own, or a cache or a claim with many): "
    "copied from there where it is whole, otherwise from SOURCE. Repeat it; the first that serves "
    "is taken.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="What another program left at DEST may go if it is not the model.",
)
@click.option(
    "--replace-in-use",
    is_flag=True,
    help="A new revision takes its place though a process on this machine reads the one before.",
)
@click.option("--hub-token-file", help="File with the hub's token. Left out: $HF_TOKEN, if set.")
@click.option("--hub-endpoint", help="A mirror of the hub. Left out: $HF_ENDPOINT, if set.")
@click.option("--endpoint-url", help="Of an object store that speaks S3 or GCS.")
@click.option("--connections", default=8, type=click.IntRange(1, 256), show_default=True)
@click.option("--bytes-per-second", default="0", help="Bound such as 200M; 0: none.")
@click.option("--log-format", default="text", type=click.Choice(["json", "text"]))
def fill(
    *,
    source: str,
    dest: Path,
    revision: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    without: tuple[str, ...],
    nearer: tuple[Path, ...],
    replace: bool,
    replace_in_use: bool,
    hub_token_file: str | None,
    hub_endpoint: str | None,
    endpoint_url: str | None,
    connections: int,
    bytes_per_second: str,
    log_format: str,
) -> None:
    """Fetch the model at SOURCE into the directory DEST, prove it, and show it whole.

    Safe to run twice, in parallel, and again after a kill: it goes on where it was, and does
    nothing where DEST is up to date and looks whole: all names and sizes, the headers, and every
    byte of what was touched since it was proven ('loader verify DEST --level content' reads all of
    it). A DEST that is a mount point itself (a memory-backed
    emptyDir) is written in place and never holds two copies. What another program left at DEST is
    kept where it is the model, and left as it is where not, unless --replace is given. A new
    revision waits while a process on this machine reads the one before: the next run shows it.
    Where that cannot be told (a network file system), nothing that is there is replaced unless
    --replace-in-use is given.
    SOURCE is hf://organisation/name, s3://, gs://, https:// or file://.

    Exit code: 0 DEST holds the model, 1 it could not be filled (a later run goes on from there),
    2 wrong use, also where --replace-in-use has to be given, 3 a new revision is proven and waits
    for those who read the one before (a later run shows it).
    """
    from extender.loader.filling import FAILURES, Filling
    from extender.loader.origin import Origin
    from extender.loader.placing import InUseError, ReadersUnknownError
    from extender.loader.sources import Credentials
    from extender.loader.sources.urls import locate
    from extender.loader.telling import telling

    configure_logging(pretty=log_format == "text")
    filling = Filling(
        dest,
        credentials=Credentials(
            hub_token_file=hub_token_file, hub_endpoint=hub_endpoint, endpoint_url=endpoint_url
        ),
        connections=connections,
        bytes_per_second=parse_quantity(bytes_per_second),
        replace_in_use=replace_in_use,
    )
    locate(source, revision)  # an address that is none is wrong use, not a failure
    origin = Origin(
        source=source,
        revision=revision,
        include=include,
        exclude=exclude,
        without=tuple(Part(part) for part in without),
    )
    stopped = _stopped_by_signals()
    try:
        with telling() as tell:
            marker = filling.fill(
                origin,
                nearer=nearer,
                tell=tell,
                stop=stopped.is_set,
                lock_wait=inf,
                replace=replace,
            )
    except ReadersUnknownError as error:
        raise UsageError(str(error)) from error
    except InUseError as error:
        click.echo(f"waits: {error}", err=True)
        sys.exit(_WAITS)
    except FAILURES as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo(
        f"{dest}: whole: {len(marker.files)} files, {format_bytes(marker.bytes)}",
        err=True,
    )
    for note in marker.unchecked:
        click.echo(f"not checked: {note}", err=True)


def _stopped_by_signals() -> Event:
    """Let SIGTERM and SIGINT end the process: the first process of a container ignores them else.

    Raising ends what waits (for a lock, for a server's list); the event ends other threads' work.
    """
    stopped = Event()

    def stop(*_: object) -> None:
        stopped.set()
        sys.exit("error: stopped before it was complete; what was fetched stays for the next run")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopped
