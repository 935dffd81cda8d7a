"""Signs commands and writes them to the control plane's topic."""

import asyncio
from dataclasses import asdict

from tidemill.services.gateway.commands import Command
from tidemill.services.gateway.publisher import Publisher
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.commands.signing import signed_command
from tidemill.shared.log.errors import TransientError


class SigningDesk:
    """`CommandDesk` of the gateway: its own key, Kafka, and the registry for the record's schema.

    The registry is first asked when the first command comes: the gateway serves features and events without it.
    """

    def __init__(self, plan: Plan, publisher: Publisher, registry: SchemaRegistry, key: bytes) -> None:
        self._topic, self._publisher, self._registry, self._key = plan.topics.commands, publisher, registry, key
        self._codec: RecordCodec | None = None

    async def issue(self, command: Command) -> tuple[str, int, int]:
        """Return the command's id, its partition and its offset; ConnectionError."""
        record = signed_command(self._key, **asdict(command))
        try:
            value = await asyncio.to_thread(self._encode, record)
        except TransientError as error:
            raise ConnectionError(str(error)) from error
        return (record["command_id"], *await self._publisher.publish(self._topic, command.model.encode(), value))

    def _encode(self, record: dict[str, object]) -> bytes:
        if self._codec is None:
            self._codec = message_codec(self._registry, self._topic, "command")
        return self._codec.encode(record)
