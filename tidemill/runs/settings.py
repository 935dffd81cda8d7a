"""What the environment may say to the commands beyond the servers' addresses."""

import pydantic_settings
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill.shared.application.model import Topology
from tidemill.shared.observability.settings import CommandsSettings, KafkaSettings, RedisSettings, RegistrySettings
from tidemill.shared.observability.settings_problem import settings_problem

_PREFIX, _LEVEL = "TIDEMILL_", "__"


class SettingsError(ValueError):
    """A variable of the environment cannot be used: names it, what was expected and what came."""


class CommandSettings(BaseSettings):
    """Settings of a command; the services that it starts read their own.

    Attributes
    ----------
    kafka
        ``TIDEMILL_KAFKA__OPTIONS`` and so on: how the services reach the broker, which the commands do in the same way.
    registry, redis
        Looked at here so that an address that is none is refused before anybody connects.
    commands
        ``TIDEMILL_COMMANDS__KEY`` or ``TIDEMILL_COMMANDS__KEY_FILE``; None: a run has a key of its own in its folder.
    topology
        ``TIDEMILL_TOPOLOGY``: overrides the application's.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter=_LEVEL, env_ignore_empty=True, frozen=True, extra="ignore")

    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    redis: RedisSettings = RedisSettings()
    commands: CommandsSettings | None = None
    topology: Topology | None = None

    def kafka_at(self, bootstrap_servers: str) -> KafkaSettings:
        """Return how to reach the broker of a run, whose address may not be the environment's."""
        return self.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})


def read_settings() -> CommandSettings:
    """Read the environment.

    Raises
    ------
    SettingsError
    """
    try:
        return CommandSettings()
    except ValidationError as problem:
        raise SettingsError(settings_problem(problem)) from problem
    except pydantic_settings.SettingsError as problem:
        raise SettingsError(f"{_PREFIX}*: expected JSON in the variable of a group of settings, came something else ({problem})") from problem
