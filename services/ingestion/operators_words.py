"""What operators say to ingestion on the topic of commands: a paused stream is to go on."""

import logging
from pathlib import Path

from services.ingestion.domain.stream_flows import Resume
from shared.application.plan import Plan
from shared.avro.records import RecordCodec
from shared.avro.registry import SchemaRegistry
from shared.commands.signing import RESUME_STREAM, is_signed
from shared.streaming.errors import InvalidRecord
from shared.streaming.records import Records

_LOG = logging.getLogger(__name__)
_SCHEMA = Path(__file__).parents[2] / "schemas" / "command.avsc"


class OperatorsWords:
    """Reads commands; those to models are control's.

    Parameters
    ----------
    key
        Under which commands must be signed; None obeys everybody: for simulations without operators.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, key: bytes | None) -> None:
        self._streams = frozenset(plan.streams)
        self._key = key
        self._codec = RecordCodec(registry, f"{plan.topics.commands}-tidemill.Command", _SCHEMA.read_text(encoding="utf-8"))

    def read(self, records: Records) -> list[Resume]:
        """Return what is to be resumed; anybody may write to the topic, so what is not signed is said and not followed."""
        found = []
        for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
            if value is None:
                continue
            try:
                command = self._codec.decode(value)
            except InvalidRecord:
                # Control answers it in public.
                continue
            if command["command"] != RESUME_STREAM:
                continue
            place = {"topic": records.topic, "partition": records.partition, "offset": offset}
            if self._key is not None and not is_signed(command, self._key):
                _LOG.warning("a command to resume a stream is not followed: its signature is missing or wrong", extra=place)
            elif command["model"] not in self._streams:
                _LOG.warning("a command to resume a stream is not followed: there is no such stream", extra=place)
            else:
                _LOG.warning("told to resume %s", command["model"], extra={**place, "command_id": command["command_id"], "reason": command["reason"]})
                found.append(Resume(command["model"], command["issued_at"]))
        return found
