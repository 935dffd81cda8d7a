"""The events that ask, and what they say themselves: the first columns of every vector."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.application.column_roles import feature_values
from tidemill.shared.application.journal import JournalBatch
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.key_text import key_texts


class AskingEvents:
    """Finds the asking events of a run of the journal and gathers their columns, in journal order. Pure."""

    def __init__(self, plan: Plan) -> None:
        self._features = [feature for feature in plan.features if feature.origin == "event"]
        self._streams = {plan.streams[name].index: name for name in plan.asking_streams}

    def __contains__(self, stream_index: int) -> bool:
        """Tell whether the events of a stream ask."""
        return stream_index in self._streams

    def rows(self, batch: JournalBatch) -> NDArray[np.int64]:
        """Return the rows of the asking events, ascending; shape (asks,)."""
        return np.flatnonzero(np.isin(batch.stream_index, list(self._streams)))

    def envelope(self, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, pa.Array]:
        """Return what every vector says of its event, by column."""
        stamp = pa.timestamp("ms")
        names = pa.array(list(self._streams.values()), pa.string())
        numbers = np.searchsorted(sorted(self._streams), batch.stream_index[asks])
        order = np.argsort(list(self._streams))
        return {
            "_request_id": self.gather(batch, "_event_id", pa.string()),
            "_ask": names.take(pa.array(order[numbers] if len(numbers) else np.empty(0, np.int64))),
            "_event_time": self.gather(batch, "_event_time", stamp),
            "_journal_partition": pa.array(np.full(len(asks), batch.partition, np.int32)),
            "_journal_offset": pa.array(batch.offsets[asks]),
            "_journal_time": pa.array(batch.journal_time_ms[asks]).cast(stamp),
            "_late": self.gather(batch, "_late", pa.bool_()),
        }

    def features(self, batch: JournalBatch) -> dict[str, pa.Array]:
        """Return the features that are columns of the event, by name."""
        columns = {}
        for feature in self._features:
            kind = pa.string() if feature.type == "string" else pa.float64()
            column = self.gather(batch, feature.column, kind)
            # NaN is no value, as in the views: it leaves as null, and no model or reader has to know two kinds of missing.
            columns[feature.name] = column if feature.type == "string" else pa.array(column.to_numpy(zero_copy_only=False), from_pandas=True)
        return columns

    def gather(self, batch: JournalBatch, column: str, kind: pa.DataType) -> pa.Array:
        """Return an entry column of the asking events in journal order; null where an asking stream does not have it."""
        parts, rows = [], []
        for name in self._streams.values():
            group = batch.groups.get(name)
            if group is not None:
                has = column in group.columns.schema.names
                values = group.columns.column(column) if has else pa.nulls(len(group.rows), kind)
                parts.append(key_texts(values) if kind == pa.string() else feature_values(values, kind))
                rows.append(group.rows)
        if not parts:
            return pa.nulls(0, kind)
        joined = pa.concat_arrays(parts)
        return joined if len(parts) == 1 else joined.take(pa.array(np.argsort(np.concatenate(rows), kind="stable")))
