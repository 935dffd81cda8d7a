"""Which processes of a run ended by themselves, and why, from their logs: who was killed says nothing."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STARTS = "starting"
# What a process says last: the runner before it closes its clients, the guard of its loop, and whatever nobody caught.
_ENDS, _STALLED, _CRASHED = "ends", "stalled: the process ends, to be started again", "crashed"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a process that nobody had killed or asked to stop.

    Attributes
    ----------
    log
        Of the process and its predecessors.
    time
        UTC, as the log has it.
    why
        The error, its type first.
    """

    log: Path
    time: str
    why: str

    @property
    def reason(self) -> str:
        """Why, without what differs from one process to the next: numbers, and whatever follows the first sentence."""
        return re.sub(r"\d+", "N", self.why.splitlines()[0])[:160]


def endings(logs: Path) -> list[Ending]:
    """Return the endings that the logs below a folder tell of, in order of time."""
    return sorted((ending for log in logs.rglob("*.log") for ending in _of(log)), key=lambda ending: ending.time)


def reasons(ended: Iterable[Ending]) -> dict[str, int]:
    """How many processes ended for which reason, by stage, the most frequent first."""
    return dict(Counter(f"{ending.log.stem}: {ending.reason}" for ending in ended).most_common())


def keep_logs(ended: Iterable[Ending], logs: Path, target: Path) -> None:
    """Copy the logs in which processes ended by themselves; their places below `logs` stay."""
    for log in sorted({ending.log for ending in ended}):
        copy = target / log.relative_to(logs)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(log, copy)


def _of(log: Path) -> Iterator[Ending]:
    said = False
    for line in _lines(log):
        message = line.get("message")
        if message == _STARTS:
            said = False
        elif message in (_ENDS, _STALLED, _CRASHED) and not said:
            # A crash follows what the runner has said of it, with the same error in its traceback.
            said = True
            error = str(line.get("error", message)).strip()
            yield Ending(log, str(line["time"]), error if message != _CRASHED else _last_error(error))


def _last_error(traceback: str) -> str:
    """Return the line of a traceback that names its error; notes may follow it."""
    named = [line for line in traceback.splitlines() if line and not line.startswith((" ", "Traceback"))]
    return next((line for line in reversed(named) if re.match(r"[\w.]+(: |$)", line)), named[-1] if named else "unknown")


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if text.startswith("{"):
            try:
                yield json.loads(text)
            except ValueError:  # Cut by a kill.
                continue
