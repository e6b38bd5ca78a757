"""The command line: what ``--help`` of every command says."""

from __future__ import annotations

from collections.abc import Iterator

import click

from extender.cli.main import cli

_PROGRAM = "model-cache-extender"
_WIDTH = 96


def command_line() -> str:
    """Return a section for each command, in the order of their names."""
    return "\n\n".join(_section(context) for context in _contexts(_context(cli, _PROGRAM, None)))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None:
                yield from _contexts(_context(command, name, context))


def _section(context: click.Context) -> str:
    title = context.command_path.removeprefix(f"{_PROGRAM} ")
    return f"## {title}\n\n```text\n{context.get_help()}\n```"
