"""The record that a dead letter is about, byte for byte."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow.compute as pc
from deltalake.exceptions import DeltaError

from tidemill.shared.dead_letters.letters import Letter, LetterSource
from tidemill.shared.lake.names import QUARANTINE
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.broker import Broker, OffsetLostError
from tidemill.shared.log.records import TopicPartition


class OriginalGone(LookupError):
    """A dead letter's original cannot be published again: says why and what can be done."""


@dataclass(frozen=True, slots=True)
class Original:
    """What a publisher had sent.

    Attributes
    ----------
    found_in
        The letter, the record's own topic, or the lake's table `quarantine`.
    """

    key: bytes | None
    value: bytes
    found_in: Literal["letter", "topic", "lake"] = "letter"


class Originals:
    """Finds the originals of dead letters: in the letter itself, else in the record's own topic, else in the lake.

    What is found elsewhere is held against the length and the SHA-256 that the letter has: a topic that was made again has other records at the same
    offsets.

    Parameters
    ----------
    broker, lake
        Where to look; None: nowhere.
    """

    def __init__(self, broker: Broker | None = None, lake: Lake | None = None) -> None:
        self._broker, self._lake = broker, lake

    def of(self, letter: Letter) -> Original:
        """Return a letter's original.

        Raises
        ------
        OriginalGone
        TransientError
            Kafka does not answer.
        """
        record = letter.record
        value = record["value"]
        if value is None:
            raise OriginalGone("the dead letter has no value: it was a tombstone or a heartbeat")
        if record.get("value_bytes") is None:
            return Original(record["key"], value)
        tried = []
        for where, original in self._elsewhere(letter.source, record["key"]):
            if original is None:
                tried.append(f"not in {where}")
            elif len(original.value) != record["value_bytes"] or hashlib.sha256(original.value).hexdigest() != record["value_sha256"]:
                tried.append(f"in {where} there is another record at {letter.source}")
            else:
                return original
        said = record.get("quarantined_in")
        more = f"; the letter says {said}" if said else ""
        looked = ", ".join(tried) or "nowhere was looked"
        raise OriginalGone(f"the dead letter has only the beginning of {record['value_bytes']} bytes, and the whole was not found: {looked}{more}")

    def _elsewhere(self, source: LetterSource, key: bytes | None) -> Iterator[tuple[str, Original | None]]:
        if self._broker is not None:
            yield f"the topic {source.topic}", self._on_topic(self._broker, source)
        if self._lake is not None:
            yield self._lake.uri(QUARANTINE), self._in_lake(self._lake, source, key)

    @staticmethod
    def _on_topic(broker: Broker, source: LetterSource) -> Original | None:
        if source.partition >= broker.partitions(source.topic):
            return None
        reader, place = broker.reader(), TopicPartition(source.topic, source.partition)
        try:
            low, high = reader.watermarks(place)
            if not low <= source.offset < high:
                return None
            for records in reader.read(place, source.offset, source.offset + 1):
                for i in (records.offsets == source.offset).nonzero()[0].tolist():
                    value = records.values[i]
                    return None if value is None else Original(records.keys[i], value, "topic")
        except OffsetLostError:
            return None
        finally:
            reader.close()
        return None

    @staticmethod
    def _in_lake(lake: Lake, source: LetterSource, key: bytes | None) -> Original | None:
        try:
            if not lake.exists(QUARANTINE):
                return None
            at = (pc.field("source_topic") == source.topic) & (pc.field("source_partition") == source.partition)
            rows = lake.dataset(QUARANTINE).to_table(columns=["key", "value"], filter=at & (pc.field("source_offset") == source.offset))
        except (DeltaError, OSError) as problem:
            raise OriginalGone(f"the lake at {lake.uri(QUARANTINE)} does not answer: {problem}") from problem
        if not rows.num_rows:
            return None
        row = rows.slice(0, 1).to_pylist()[0]
        # The table has no null keys: a letter without a key says that there was none.
        return Original(None if key is None else row["key"], row["value"], "lake")
