"""What ingestion's log says of its records: each kind of finding at its first record and at every doubling, with the record's place."""

import logging
from collections import Counter
from collections.abc import Mapping

import numpy as np

from tidemill.services.ingestion.domain.ingestion_step import FUTURE, IngestionStep
from tidemill.services.ingestion.domain.rejections import Rejections
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.times import implausible, instant_text

_LOG = logging.getLogger(__name__)
_FLAGGED = {FUTURE: "dated further ahead than allowed_skew ('future')", "non_finite": "in which a NaN or an infinity became null ('non_finite')"}
_NO_EVENTS = {
    "tombstone": "without a value behind a deletion ('tombstone'; skipped)",
    "skipped_delete": "of deletions (deletes: skip)",
    "skipped_update": "of updates (updates: skip)",
}
_DOUBTFUL = "_doubtful_time"


class StepReport:
    """Counts what was refused, flagged or is doubtful, and says so; a flood costs a line at each doubling."""

    def __init__(self, plan: Plan) -> None:
        self._topics: Mapping[str, str] = {name: stream.topic for name, stream in plan.streams.items()}
        self._event_times = {name: stream.event_time for name, stream in plan.streams.items() if stream.event_time not in stream.times}
        self._counts: Counter[tuple[str, str]] = Counter()

    def tell(self, step: IngestionStep) -> None:
        """Say what is new in a step."""
        self._tell_rejections(step.rejections)
        for (stream, expectation), records in step.flagged.items():
            if not (count := self._doubled(stream, expectation, records)):
                continue
            if expectation in _NO_EVENTS:
                _LOG.info("%s: %d records so far %s", stream, count, _NO_EVENTS[expectation])
            else:
                _LOG.warning(
                    "%s: %d records so far %s (accepted)", stream, count, _FLAGGED.get(expectation, f"for which {expectation!r} does not hold")
                )
        for stream, entries in step.journal.entries.items():
            if stream not in self._event_times:
                continue
            times = int64_ms(entries.column("_event_time"))
            # Seconds in a column of milliseconds are times of January 1970: in Avro they are what the publisher says, so they are accepted, and said.
            doubtful = implausible(times)
            if doubtful.any() and (count := self._doubled(stream, _DOUBTFUL, int(doubtful.sum()))):
                row = int(np.flatnonzero(doubtful)[0])
                place = {
                    "topic": self._topics[stream],
                    "partition": entries.column("_source_partition")[row].as_py(),
                    "offset": entries.column("_source_offset")[row].as_py(),
                }
                time_ms = int(times[row])
                doubt = f"{self._event_times[stream]} is {time_ms}, in milliseconds {instant_text(time_ms)}: does the publisher send seconds?"
                _LOG.warning("doubtful event time", extra={**place, "found": doubt, "records_so_far": count})

    def _tell_rejections(self, rejections: Rejections) -> None:
        """Name the record at each doubling; those between cost a count."""
        for kind, more in rejections.counts().items():
            before = self._counts[kind]
            self._counts[kind] = before + more
            doublings = [2**power for power in range(before.bit_length(), (before + more).bit_length())]
            rows = rejections.rows(kind) if doublings else []
            for count in doublings:
                one = rejections[rows[count - before - 1]]
                place = {"topic": self._topics[one.stream], "partition": one.partition, "offset": one.offset}
                _LOG.warning("rejected", extra={**place, "reason": one.reason, "detail": one.detail, "rejected_so_far": count})

    def _doubled(self, stream: str, what: str, more: int) -> int:
        """Count; returns how many there are so far where that is worth a line, else 0."""
        before = self._counts[stream, what]
        self._counts[stream, what] = count = before + more
        return count if count.bit_length() > before.bit_length() else 0
