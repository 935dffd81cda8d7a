"""The commands of `tidemill`, and the example with which each one's help begins."""

import shlex
from collections.abc import Iterator
from typing import Any

import typer

from tidemill.services.cli.__main__ import app


def commands() -> dict[tuple[str, ...], Any]:
    """Return every command by its words, those of groups included."""
    return dict(_leaves(typer.main.get_command(app)))


def first_example(command: Any) -> list[str]:
    """Return the words behind `tidemill` of the first line of a command's help that begins with it, without redirection and comment."""
    line = next(line for line in (command.help or "").splitlines() if line.strip().startswith("tidemill "))
    return shlex.split(line.split(">")[0], comments=True)[1:]


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    else:
        for name, one in below.items():
            yield from _leaves(one, (*path, name))
