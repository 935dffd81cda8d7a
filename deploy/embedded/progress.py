"""Progress of the one-time download: a bar on a terminal, a few plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PLAIN_LINES = 5


class FetchProgress:
    """Shows how many of the archives are there; writes to standard error."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._count = 0
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("Fetching the embedded servers (once)"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
            self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        else:
            sys.stderr.write(f"Fetching the embedded servers (once): {self._total} archives ...\n")
            sys.stderr.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def done(self, name: str) -> None:
        """Count one more archive as fetched and verified."""
        self._count += 1
        if self._bar:
            self._bar.update(self._task, advance=1, description=name)
        elif self._count % max(1, self._total // PLAIN_LINES) == 0 or self._count == self._total:
            sys.stderr.write(f"  {self._count} of {self._total}: {name}\n")
            sys.stderr.flush()
