"""The commands of `tidemill`, and the examples in each one's help."""

import shlex
from collections.abc import Iterator
from typing import Any

import typer

from tidemill.services.cli.__main__ import app


def commands() -> dict[tuple[str, ...], Any]:
    """Return every command by its words, those of groups included."""
    return dict(_leaves(typer.main.get_command(app)))


def examples(command: Any) -> list[list[str]]:
    """Return the words behind `tidemill` of each line of a command's help that begins with it, without redirection and comment."""
    lines = [line for line in (command.help or "").splitlines() if line.strip().startswith("tidemill ")]
    return [shlex.split(line.split(">")[0], comments=True)[1:] for line in lines]


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    else:
        for name, one in below.items():
            yield from _leaves(one, (*path, name))
