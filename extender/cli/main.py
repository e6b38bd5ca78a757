"""The command ``model-cache-extender`` and its exit codes: 0 yes, 1 no, 2 wrong use."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from extender import __version__
from extender.cli.demo import demo
from extender.cli.doctor import doctor
from extender.cli.explain import explain
from extender.cli.inventory import inventory
from extender.cli.loader import loader
from extender.cli.serve import serve
from extender.cli.simulate import simulate
from extender.cli.terminal import complain
from extender.errors import ExtenderError

WRONG_USE = 2
KUBECTL_PLUGIN = "kubectl-modelcache"
"""https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="model-cache-extender")
def cli() -> None:
    """Schedule inference pods where their model already is."""


for command in (serve, explain, inventory, simulate, doctor, demo, loader):
    cli.add_command(command)


def main() -> None:
    """Run a command; errors of ours are one message on stderr, never a stack trace."""
    as_plugin = Path(sys.argv[0]).name == KUBECTL_PLUGIN
    try:
        cli.main(prog_name="kubectl modelcache" if as_plugin else "model-cache-extender")
    except ExtenderError as error:
        complain(f"error: {error}")
        sys.exit(WRONG_USE)
    except OSError as error:  # the answer itself could not be written: a full disk behind `>`
        complain(f"error: {error.strerror}: {error.filename or 'the output'}")
        sys.exit(WRONG_USE)
