"""Structured logs: one line of JSON per message, on standard error."""

import json
import logging
import sys
import time
from typing import TextIO

_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class OneLine(logging.Formatter):
    """A log record as one JSON object: time, level, logger, message, then whatever `extra` held."""

    def __init__(self, stage: str, instance: str) -> None:
        super().__init__()
        self._origin = {"stage": stage, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._origin,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(stage: str, instance: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send all logs of this process to one handler."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine(stage, instance))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
