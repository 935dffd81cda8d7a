"""What the environment may say to the commands beyond the servers' addresses."""

import pydantic_settings
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.application.model import Topology
from shared.observability.settings import KafkaSettings

_PREFIX, _LEVEL = "TIDEMILL_", "__"


class SettingsError(ValueError):
    """A variable of the environment cannot be used: names it, what was expected and what came."""


class CommandSettings(BaseSettings):
    """Settings of a command; the services that it starts read their own.

    Attributes
    ----------
    kafka
        ``TIDEMILL_KAFKA__OPTIONS`` and so on: how the services reach the broker, which the commands do in the same way.
    topology
        ``TIDEMILL_TOPOLOGY``: overrides the application's.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter=_LEVEL, env_ignore_empty=True, frozen=True, extra="ignore")

    kafka: KafkaSettings = KafkaSettings()
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
        raise SettingsError(_in_one_line(problem)) from problem
    except pydantic_settings.SettingsError as problem:
        raise SettingsError(f"{_PREFIX}*: expected JSON in the variable of a group of settings, came something else ({problem})") from problem


def _in_one_line(problem: ValidationError) -> str:
    """Return what is wrong with the first variable that is; the options of a client may hold a password, so they are not shown."""
    first = problem.errors(include_url=False)[0]
    place, inner = list(map(str, first["loc"][:2])), list(map(str, first["loc"][2:]))
    came = type(first["input"]).__name__ if place == ["kafka", "options"] else repr(first["input"])
    expected = first["msg"].replace("Input should be", "expected")
    return f"{': '.join([_PREFIX + _LEVEL.join(place).upper(), *inner, expected])}, came {came}; correct it or unset it"
