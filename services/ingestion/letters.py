"""Dead letters of ingestion, encoded by columns; one by one only where an original outgrows its topic."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.rejections import Rejection, Rejections
from tidemill.services.ingestion.sizes import Quarantine
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec, message_encoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.packed import Packed
from tidemill.shared.log.records import Emission
from tidemill.shared.runner.letter_size import LONGEST_KEY, fitted, letter_key, weight

_STAGE = "ingestion"
_TIME = pa.timestamp("ms")


class LetterWriter:
    """Writes `tidemill.Rejected` for what a step refuses.

    Parameters
    ----------
    limit_bytes
        What the dead letters' topic takes.
    quarantine
        Keeps originals that outgrow it; None: they are in their own topic only.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, partition: int, limit_bytes: int, quarantine: Quarantine | None) -> None:
        self._topics = {stream.name: stream.topic for stream in plan.streams.values()}
        self._topic, self._partition = plan.topics.rejected, partition
        self._limit, self._quarantine = limit_bytes, quarantine
        self._columns, self._single = message_encoder(registry, self._topic, "rejected"), message_codec(registry, self._topic, "rejected")

    def emission(self, rejections: Rejections) -> Emission:
        """Encode them, in order."""
        said = zip(rejections.streams, rejections.verdicts, strict=True)
        texts = np.array([len(_STAGE) + len(self._topics[stream]) + len(verdict.reason) + len(verdict.detail) for stream, verdict in said])
        key_bytes = _lengths(rejections.keys)
        large = np.flatnonzero(weight(key_bytes, _lengths(rejections.values), texts) > self._limit)
        keys = rejections.keys if key_bytes.max() <= LONGEST_KEY else [letter_key(key) for key in rejections.keys]
        if not len(large):
            return Emission(self._topic, self._partition, keys, self._columns.encode(self._batch(rejections)))
        small = np.setdiff1d(np.arange(len(rejections)), large)
        values: list[bytes] = [b""] * len(rejections)
        if len(small):
            for row, value in zip(small.tolist(), self._columns.encode(self._batch(rejections.take(small))), strict=True):
                values[row] = value
        for row, value in self._cut(rejections, large.tolist()):
            values[row] = value
        return Emission(self._topic, self._partition, keys, values)

    def _batch(self, rejections: Rejections) -> pa.RecordBatch:
        n = len(rejections)
        columns = {
            "stage": pa.repeat(_STAGE, n),
            "reason": pa.array([verdict.reason for verdict in rejections.verdicts]),
            "detail": pa.array([verdict.detail for verdict in rejections.verdicts]),
            "source_topic": pa.array([self._topics[stream] for stream in rejections.streams]),
            "source_partition": pa.array(rejections.partitions),
            "source_offset": pa.array(rejections.offsets),
            "source_timestamp": pa.array(rejections.timestamps_ms).cast(_TIME),
            "key": _bytes(rejections.keys),
            "value": _bytes(rejections.values),
            "journal_time": pa.array(rejections.journal_times_ms).cast(_TIME),
        }
        schema = self._columns.arrow
        arrays = [columns[field.name].cast(field.type) if field.name in columns else pa.nulls(n, field.type) for field in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _cut(self, rejections: Rejections, rows: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Encode those that outgrow the topic, after their originals are kept, those of a topic partition together."""
        chosen = [(row, rejections[row]) for row in rows]
        kept: dict[tuple[str, int], bool] = {}
        if self._quarantine is not None:
            places: dict[tuple[str, int], list[Rejection]] = {}
            for _, one in chosen:
                places.setdefault((one.stream, one.partition), []).append(one)
            kept = {place: self._quarantine.keep(ones, self._topics[place[0]]) for place, ones in places.items()}
        for row, one in chosen:
            topic = self._topics[one.stream]
            letter = {
                "stage": _STAGE,
                "reason": one.reason,
                "detail": one.detail,
                "source_topic": topic,
                "source_partition": one.partition,
                "source_offset": one.offset,
                "source_timestamp": one.timestamp_ms,
                "key": one.key,
                "value": one.value,
                "journal_time": one.journal_time_ms,
            }
            place = None
            if self._quarantine is None:
                letter["detail"] = f"{one.detail[:1_000]}; no lake is configured that would keep the whole original: it is in its own topic only"
            elif kept[one.stream, one.partition]:
                place = self._quarantine.place(one, topic)
            yield row, self._single.encode(fitted(letter, self._limit, place))


def _bytes(values: Sequence[bytes | None]) -> pa.Array:
    return values.column() if isinstance(values, Packed) else pa.array(values, pa.binary())


def _lengths(values: Sequence[bytes | None]) -> NDArray[np.int64]:
    return values.lengths if isinstance(values, Packed) else np.array([len(value or b"") for value in values], np.int64)
