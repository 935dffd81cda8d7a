"""How a command reaches a run: the key that signs it, made with the run, and the topic that takes it."""

from pathlib import Path

from tidemill.runs.instance import InstanceError
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


def publish_command(broker: Broker, topic: str, key: bytes, value: bytes) -> None:
    """Publish a command and wait until the broker has it.

    Raises
    ------
    NotTakenError
    """
    sink = broker.sink()
    sink.publish(topic, key, value)
    try:
        sink.flush(30.0)
    except (BrokerUnreachableError, KafkaFailureError) as problem:
        raise NotTakenError(f"{topic} did not take the command: {problem}") from problem
    sink.close()
