"""The archived journal as a journal topic: the same entries at the same offsets, in the schema of an application that may be another one."""

from collections.abc import Callable, Iterator

import numpy as np

from tidemill.shared.application.journal import JournalBatch
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.key_text import key_texts
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.lake.journal import ArchivedJournal
from tidemill.shared.log.records import Records


class ArchivedFeed:
    """Gives the journals of all partitions up to one instant after the other.

    Columns that the application derives and the archive does not have are derived from those it has, as in a backfill.

    Attributes
    ----------
    begin_ms, end_ms
        Journal time of the first record, and of the last.
    total
        Journal offsets there are, for a progress bar.
    """

    def __init__(self, journal: ArchivedJournal, plan: Plan, registry: SchemaRegistry) -> None:
        self._plan = plan
        self._encoders = {
            name: ColumnEncoder(registry, f"{plan.topics.journal}-plan-{name}", stream.entry_schema) for name, stream in plan.streams.items()
        }
        self._runs: dict[int, Iterator[Records]] = {p: map(self._records, journal.batches(p)) for p in journal.partitions}
        self._rest: dict[int, Records] = {p: records for p, run in self._runs.items() if (records := next(run, None)) is not None}
        self.begin_ms = min((int(records.timestamps_ms[0]) for records in self._rest.values()), default=0)
        self.total = sum(journal.bounds(p)[1] + 1 - journal.bounds(p)[0] for p in journal.partitions)

    @property
    def next_ms(self) -> int | None:
        """Journal time of the next record; None at the end."""
        return min((int(records.timestamps_ms[0]) for records in self._rest.values()), default=None)

    def give_until(self, instant_ms: int, give: Callable[[Records], None]) -> int:
        """Give every record before an instant; returns how many."""
        given = 0
        for partition in list(self._rest):
            while (records := self._rest.pop(partition, None) or next(self._runs[partition], None)) is not None:
                count = int(np.searchsorted(records.timestamps_ms, instant_ms))
                if count:
                    give(records[:count])
                    given += count
                if count < len(records):
                    self._rest[partition] = records[count:]
                    break
        return given

    def _records(self, batch: JournalBatch) -> Records:
        keys: list[bytes | None] = [None] * len(batch)
        values: list[bytes | None] = [None] * len(batch)
        for name, group in batch.groups.items():
            texts = key_texts(group.columns.column(self._plan.streams[name].key)).to_pylist()
            for row, text, value in zip(group.rows.tolist(), texts, self._encoders[name].encode(group.columns), strict=True):
                keys[row], values[row] = None if text is None else text.encode(), value
        return Records(self._plan.topics.journal, batch.partition, batch.offsets, batch.journal_time_ms, keys, values)
