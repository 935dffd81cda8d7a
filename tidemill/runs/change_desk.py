"""Where a change of its application waits for a run: one file that asks, one that answers, in the run's folder."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tidemill.shared.runner.atomic_file import replace_text

_FOLDER, _OPEN, _REQUEST, _ANSWER = "changes", "open.json", "request.json", "answer.json"
_LOOKS_EVERY_S = 0.1


class ChangeRefusedError(RuntimeError):
    """A change that a run does not take over, or could not; says why, and that the run has what it had."""


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A changed application for a run.

    Attributes
    ----------
    application
        The folder that its user named.
    content
        The run's copy of it.
    state
        Digest of the state of the run that it was planned for.
    """

    identity: str
    application: str
    content: str
    state: str


class ChangeDesk:
    """Both sides of the files. Whoever may write to a run's folder may change the run: it holds the key of its control plane as well."""

    def __init__(self, run: Path) -> None:
        self._folder = run / _FOLDER

    @contextmanager
    def opened(self) -> Iterator["ChangeDesk"]:
        """Take requests for as long as the block lasts; one that was left by an earlier run is not followed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _REQUEST).unlink(missing_ok=True)
        (self._folder / _OPEN).write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        try:
            yield self
        finally:
            (self._folder / _OPEN).unlink(missing_ok=True)

    def take(self) -> ChangeRequest | None:
        """Return what is asked for, once; None when nothing is."""
        file = self._folder / _REQUEST
        if not file.is_file():
            return None
        text = file.read_text(encoding="utf-8")
        file.unlink()
        try:
            return ChangeRequest(**json.loads(text))
        except (ValueError, TypeError):  # Somebody else's file: whoever asks by the command waits for an answer under its own id.
            return None

    def answer(self, request: ChangeRequest, problem: str) -> None:
        """Say that a change was taken over (no problem), or what hindered it."""
        replace_text(self._folder / _ANSWER, json.dumps({"identity": request.identity, "problem": problem}))

    def ask(self, application: Path, content: Path, state: str, goes_on: Callable[[], bool]) -> None:
        """Ask a run for a change, and return when it has taken it over.

        Parameters
        ----------
        goes_on
            Whether the run is still there; asked while waiting.

        Raises
        ------
        ChangeRefusedError
            The run takes no changes, has ended meanwhile, is at another change, or did not take this one over.
        """
        if not (self._folder / _OPEN).is_file():
            raise ChangeRefusedError(f"{self._folder.parent}: expected a run of `tidemill up`, which takes changes; found one that does not")
        request = ChangeRequest(uuid.uuid4().hex, str(application.absolute()), str(content.absolute()), state)
        place = self._folder / _REQUEST
        if place.is_file():
            raise ChangeRefusedError(f"{place}: another change waits for the run; apply this one when it is through")
        replace_text(place, json.dumps(asdict(request)))
        while (answer := self._answer()) is None or answer["identity"] != request.identity:
            if not goes_on():
                place.unlink(missing_ok=True)
                raise ChangeRefusedError("the run has ended before it answered; start it with `tidemill up` and the application that it is to have")
            time.sleep(_LOOKS_EVERY_S)
        if answer["problem"]:
            raise ChangeRefusedError(answer["problem"])

    def _answer(self) -> dict[str, str] | None:
        file = self._folder / _ANSWER
        if not file.is_file():
            return None
        answer: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return answer
