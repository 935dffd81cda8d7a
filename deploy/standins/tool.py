"""The tools that make the images (debootstrap, docker), and what is said when one of them fails."""

import subprocess
from collections.abc import Sequence

SHOWN = 3_000


class StandInError(RuntimeError):
    """An image could not be built: says which, and what the tool that failed said."""


def run(command: Sequence[str], what: str) -> None:
    """Run a tool and show the end of its output only when it fails.

    Raises
    ------
    StandInError
        It ended with an error, or is not there.
    """
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError as error:
        raise StandInError(f"{what}: expected {command[0]} on the PATH, found none") from error
    if done.returncode != 0:
        raise StandInError(f"{what}: {command[0]} ended with {done.returncode}:\n{done.stdout[-SHOWN:]}")
