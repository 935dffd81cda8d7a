"""What rules may ask of a record: its columns, made of the decoded record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from tidemill.shared.application.alert_rules import AGE, COLUMNS, METRICS, TIME
from tidemill.shared.application.alerts import AlertSource

Fields = dict[str, Any]
AgentSource = AlertSource | Literal["commands"]
"""What agents read: the sources that rules may name, and the commands of operators."""
_HOUR_MS = 3_600_000
_LONGEST_TEXT = 1_000


class AlertInput(NamedTuple):
    """A record of a public topic: where it stands, when it became true (journal time, milliseconds), and its columns."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    fields: Fields

    @property
    def origin(self) -> str:
        """Topic, partition and offset, as alerts name it."""
        return f"{self.topic}:{self.partition}:{self.offset}"


def fields_of(source: AgentSource, record: Mapping[str, Any]) -> tuple[int, Fields]:
    """Return a decoded record's time in milliseconds and its columns (of `COLUMNS`, but for its age); texts are cut at 1,000 characters.

    Commands have all of their fields, uncut: they are signed.
    """
    if source == "commands":
        return record["issued_at"], dict(record)
    made = _SPECIAL[source](record) if source in _SPECIAL else {}
    named = {name: made[name] if name in made else record.get(name) for name in COLUMNS[source].names if name not in (TIME, AGE)}
    time_ms = record["covered_time"] if source == "progress" else record["journal_time"]
    return time_ms, {name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in named.items()}


def record_batch(source: AlertSource, rows: Sequence[tuple[int, Fields]], clocks: Sequence[int]) -> pa.RecordBatch:
    """Return records, as (time in milliseconds, columns), as a batch of what rules may ask for; ages are those at the instants `clocks`."""
    made = [{**fields, TIME: time_ms, AGE: (clock - time_ms) / 1000} for (time_ms, fields), clock in zip(rows, clocks, strict=True)]
    return pa.RecordBatch.from_pylist(made, COLUMNS[source])


def _health(record: Mapping[str, Any]) -> Fields:
    hours = (record["window_end"] - record["window_start"]) / _HOUR_MS
    return {"window_hours": hours, **{name: record["metrics"].get(name) for name in METRICS}}


def _progress(record: Mapping[str, Any]) -> Fields:
    windows = [*(flow["window"] for flow in record["flows"].values()), record["refusals"]]
    read = float(sum(window[0] for window in windows if window))
    refused = float(sum(window[1] for window in windows if window))
    paused = sorted(topic for topic, flow in record["flows"].items() if flow["paused"] >= 0)
    share = refused / read if read else 0.0
    return {"records_read": read, "records_refused": refused, "refused_share": share, "paused_topics": ", ".join(paused)}


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any]], Fields]] = {"health": _health, "progress": _progress}
