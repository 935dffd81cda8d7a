"""What control decides, as a record of the topic decisions."""

import hashlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class JournalPlace:
    """Journal coordinates a decision follows from."""

    time_ms: int
    partition: int = 0
    offset: int = 0


def decision(model: str, action: str, verdict: str, trigger: str, cause: str, at: JournalPlace, reason: str, again: str = "") -> dict[str, Any]:
    """Return a `tidemill.Decision`; its id follows from model, trigger and cause.

    Parameters
    ----------
    again
        What tells it from the first decision on its cause; empty for the first.
    """
    identity = "\x1f".join((model, trigger, cause, *([again] if again else [])))
    return {
        "decision_id": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "model": model,
        "action": action,
        "verdict": verdict,
        "trigger": trigger,
        "reason": reason,
        "cause": cause,
        "version": "",
        "serving": "",
        "operator": "",
        "issued_at": None,
        "figures": {},
        "share": 0.0,
        "journal_partition": at.partition,
        "journal_offset": at.offset,
        "journal_time": at.time_ms,
    }
