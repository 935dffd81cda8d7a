"""Operators' commands to ingestion: a paused stream is to be resumed."""

import logging

from tidemill.services.ingestion.domain.stream_flows import Resume
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.commands.signing import RESUME_STREAM, is_signed
from tidemill.shared.log.errors import InvalidRecord
from tidemill.shared.log.records import Records

_LOG = logging.getLogger(__name__)


class OperatorCommands:
    """Reads commands; those to models are control's.

    Parameters
    ----------
    key
        Under which commands must be signed; None obeys everybody: for simulations without operators.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, key: bytes | None) -> None:
        self._streams = frozenset(plan.streams)
        self._key = key
        self._codec = message_codec(registry, plan.topics.commands, "command")

    def read(self, records: Records) -> list[Resume]:
        """Return what is to be resumed. Anybody may write to the topic: a command without a valid signature is logged and ignored."""
        resumed = []
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
            elif not command["command_id"]:
                _LOG.warning("a command to resume a stream is not followed: it has no command_id, by which a repeated one is known", extra=place)
            else:
                _LOG.warning("told to resume %s", command["model"], extra={**place, "command_id": command["command_id"], "reason": command["reason"]})
                resumed.append(Resume(command["model"], command["command_id"], command["issued_at"]))
        return resumed
