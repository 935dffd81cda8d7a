"""How a command reaches a run: the key that signs it, made with the run, and the topic that takes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemill.runs.instance import InstanceError, find_instance
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.kafka.connection import KafkaFailureError
from tidemill.shared.log.broker import Broker, BrokerUnreachableError
from tidemill.shared.observability.settings import CommandsSettings

KEY_FILE = "commands-key"


def command_key(given: CommandsSettings | None, folder: Path | None) -> bytes:
    """Return the key that the environment names, else that of the run in a folder.

    Raises
    ------
    InstanceError
        There is none yet; one that is made here would be nobody's.
    """
    settings = given or (CommandsSettings(key_file=folder / KEY_FILE) if folder is not None else CommandsSettings())
    if settings.key is None and not settings.key_file.is_file():
        raise InstanceError(
            f"expected the key of the control plane in {settings.key_file}, found no file; name it with TIDEMILL_COMMANDS__KEY_FILE (or __KEY),"
            " as the services have it"
        )
    return settings.secret()


class NotTakenError(RuntimeError):
    """The broker did not take a command: says why."""


@dataclass(frozen=True, slots=True)
class CommandChannel:
    """A run that takes commands: its broker and registry, and the key that it obeys.

    Attributes
    ----------
    topic
        Which takes the commands.
    """

    topic: str
    broker: Broker
    registry: SchemaRegistry
    key: bytes

    @classmethod
    def to_run(cls, plan: Plan, folder: Path, environment: Mapping[str, str]) -> "CommandChannel":
        """Find the run of a folder, or the servers that the environment names.

        Raises
        ------
        InstanceError
            There is no such run, it has ended, or there is no key.
        SettingsError
            The environment is not understood.
        """
        from tidemill.deploy.embedded.infrastructure import VARIABLES
        from tidemill.runs.kafka_clients import connect
        from tidemill.runs.settings import read_settings
        from tidemill.shared.avro.registry import ConfluentSchemaRegistry

        settings, instance = read_settings(), find_instance(folder, environment)
        if instance.servers and not instance.runs:
            raise InstanceError(f"expected a run in {folder} that goes on, found one that has ended; start it with `tidemill up`")
        key = command_key(settings.commands, folder if instance.application else None)
        broker = connect(settings.kafka_at(instance.addresses[VARIABLES[0]]))
        return cls(plan.topics.commands, broker, ConfluentSchemaRegistry(instance.addresses[VARIABLES[1]]), key)

    def send(
        self,
        target: str,
        action: str,
        reason: str,
        command_id: str = "",
        *,
        version: str = "",
        serving: str = "",
        operator: str = "",
        rules: str = "",
        duration_ms: int = 0,
        share: float = 0.0,
    ) -> str:
        """Sign a command to a model, a stream or alerts, publish it and return its id; see `signed_command`.

        Raises
        ------
        NotTakenError
            The broker did not take it within 30 s.
        """
        from tidemill.runs.watch import record_codec
        from tidemill.shared.commands.signing import signed_command

        record = signed_command(
            self.key,
            target,
            action,
            reason,
            command_id,
            version=version,
            serving=serving,
            operator=operator,
            rules=rules,
            duration_ms=duration_ms,
            share=share,
        )
        sink = self.broker.sink()
        sink.publish(self.topic, target.encode(), record_codec(self.registry, self.topic, "Command").encode(record))
        try:
            sink.flush(30.0)
        except (BrokerUnreachableError, KafkaFailureError) as problem:
            raise NotTakenError(f"{self.topic} did not take the command: {problem}") from problem
        sink.close()
        return str(record["command_id"])
