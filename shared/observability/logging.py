"""Structured logs: one line of JSON per message, on standard error."""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TextIO

from tidemill.shared.observability.redaction import Redactor

_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class OneLine(logging.Formatter):
    """A log record as one JSON object: time, level, logger, message, then whatever `extra` held; nothing in it is a secret.

    Parameters
    ----------
    redactor
        Hides the secrets that the process knows, in messages, extras and tracebacks of any library.
    """

    def __init__(self, stage: str, instance: str, redactor: Redactor | None = None) -> None:
        super().__init__()
        self._origin = {"stage": stage, "instance": instance}
        self._redactor = redactor or Redactor()

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._origin,
            "message": self._redactor.text(record.getMessage()),
            **{name: self._redactor.value(value) for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            line["error"] = self._redactor.text(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def configure_logging(stage: str, instance: str, level: str = "INFO", stream: TextIO | None = None, secrets: Iterable[str] = ()) -> None:
    """Send all logs of this process to one handler, exceptions that nobody caught included.

    Parameters
    ----------
    secrets
        What must not be seen (`redaction.secrets_of` the settings).
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine(stage, instance, Redactor(secrets)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("uncaught", exc_info=(kind, error, trace))


def _uncaught_in_thread(hooked: threading.ExceptHookArgs) -> None:
    if hooked.exc_value is not None:
        name = hooked.thread.name if hooked.thread else "unknown"
        logging.getLogger(__name__).critical("uncaught in thread %s", name, exc_info=(hooked.exc_type, hooked.exc_value, hooked.exc_traceback))
