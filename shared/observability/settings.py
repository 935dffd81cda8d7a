"""Settings of a process, read from the environment in this one place.

Variables begin with ``TIDEMILL_``; two underscores go one level down: ``TIDEMILL_KAFKA__BOOTSTRAP_SERVERS``.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill.shared.log.topic_settings import TopicSettings
from tidemill.shared.observability.addresses import Address
from tidemill.shared.observability.secret_file import secret_file


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Frozen):
    """The broker's address; `options` are further librdkafka settings (TLS, SASL), `password` SASL's.

    A broker that is silent for longer than `deadline_s` counts as unreachable: the process ends, and its supervisor starts it again.
    How topics are made: `replication`, `min_insync_replicas`, `max_message_bytes`, and Kafka's own settings by pattern in `topics`
    (``{"*-predictions": {"retention.ms": "604800000"}}``), see `tidemill.shared.log.topic_settings`.
    """

    bootstrap_servers: str = "127.0.0.1:9092"
    deadline_s: float = Field(default=30.0, gt=0)
    options: dict[str, str] = Field(default_factory=dict)
    password: SecretStr | None = None
    replication: int | None = Field(default=None, ge=1)
    min_insync_replicas: int | None = Field(default=None, ge=1)
    max_message_bytes: int | None = Field(default=None, ge=1)
    topics: dict[str, dict[str, str]] = Field(default_factory=dict)

    def topic_settings(self) -> TopicSettings:
        """How topics are made."""
        return TopicSettings(self.replication, self.min_insync_replicas, self.max_message_bytes, self.topics)

    def client_options(self) -> dict[str, str]:
        """Librdkafka settings, the secret included."""
        return {**self.options, **({"sasl.password": self.password.get_secret_value()} if self.password else {})}


class RegistrySettings(_Frozen):
    """A Confluent-compatible schema registry."""

    url: Address = "http://127.0.0.1:8081"


class RedisSettings(_Frozen):
    """The online store."""

    url: Address = "redis://127.0.0.1:6379/0"


class LakeSettings(_Frozen):
    """Where Delta tables live: a folder or an object store's address."""

    uri: Address = ".tidemill/lake"


class ArtifactSettings(_Frozen):
    """Where models live: a folder or an object store's address."""

    uri: Address = ".tidemill/artifacts"


class TrackingSettings(_Frozen):
    """The MLflow store of trainings and model versions: a tracking server's address or ``sqlite:///file``."""

    uri: Address = "sqlite:///.tidemill/mlflow.db"


class TrainingsSettings(_Frozen):
    """How many trainings the worker of an application runs at once, each in a process of its own and of different models."""

    at_once: int = Field(default=1, ge=1, le=64)


class CommandsSettings(_Frozen):
    """Who may command the control plane: those who have this key, with which commands are signed.

    Without `key`, the key is what `key_file` says; a file that is not there is made, with a random key, readable by its owner alone. Control, the
    gateway and the commands of an operator need the same one.
    """

    key: SecretStr | None = Field(default=None, min_length=16)
    key_file: Path = Path(".tidemill/commands-key")

    def secret(self) -> bytes:
        """Return the key."""
        return (self.key.get_secret_value() if self.key is not None else secret_file(self.key_file)).encode()


class RunClockSettings(BaseModel):
    """What a service other than ingestion has to know of the run's clock: ``TIDEMILL_INGESTION__CLOCK``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    clock: Literal["live", "replay"] = "live"


class HealthSettings(_Frozen):
    """The probe server: port 0 takes any free one; a process is not live after `stalled_after_s` without progress.

    It ends after twice that; after five times, until every stage has worked on data since the state was restored.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    stalled_after_s: float = Field(default=60.0, gt=0)


class RunnerSettings(_Frozen):
    """Cadence and limits of the runner's loop.

    Attributes
    ----------
    commit_interval_ms
        Time between commits under load; a record that comes after a pause is processed at once.
    idle_interval_ms
        How often a task without input is called.
    max_batch
        Records per step at most.
    checkpoint_interval_ms, checkpoint_bytes
        A share of about so many bytes of dirty state goes out with a commit, at most so often.
    backoff_initial_ms, backoff_max_ms
        Wait between retries of a TransientError; doubles.
    retries
        Retries of a TransientError at one place before the process crashes; one that waits for a server beside Kafka (registry, lake, artifacts)
        waits for as long as it takes.
    crash_limit
        Crashes at one place before the culprit is looked for and quarantined (two at most where the process died without an exception: a signal, out
        of memory, a hang). The first exception ends the process; what follows within five minutes of its restart is searched in place.
    dead_letter_window, dead_letter_share, dead_letter_run
        When more than this share of about the last `window` input records of a task, or this many in a row, became dead letters, its input is
        a flood: steps are cut to about 50 ms until the share has fallen to half of the limit, and log, metric and probe say so. Nothing stops.
    trial_timeout_s, trial_memory_bytes
        What ends the process without an exception twice (a native fault or a hang: once) is tried in child processes: one that says nothing for so
        long hangs (five times that while it restores its state), and one that takes more memory has run out of it (None: four fifths of what is
        available when it starts).
    accept_torn
        Torn transactions to go on from, each as the error names it (``stage:partition:sequence``): what they lost stays lost.
    topic_check_ms
        How often a running process asks whether its topics are still those that it has read and written, and whether those that it reads in full have
        more partitions.
    accept_topics
        Topics made anew with which to go on, as the error names them (``topic:id``): inputs that hold the records of their predecessors at the same
        offsets, and outputs of which nobody misses what they held.
    state_folder
        Where crashes are counted across restarts.
    """

    commit_interval_ms: int = Field(default=10, ge=1)
    idle_interval_ms: int = Field(default=50, ge=1)
    max_batch: int = Field(default=10_000, ge=1)
    checkpoint_interval_ms: int = Field(default=1_000, ge=0)
    checkpoint_bytes: int = Field(default=1 << 20, ge=1)
    backoff_initial_ms: int = Field(default=50, ge=0)
    backoff_max_ms: int = Field(default=5_000, ge=0)
    retries: int = Field(default=20, ge=0)
    crash_limit: int = Field(default=3, ge=1)
    dead_letter_window: int = Field(default=10_000, ge=1)
    dead_letter_share: float = Field(default=0.5, gt=0, le=1)
    dead_letter_run: int = Field(default=100_000, ge=1)
    trial_timeout_s: float = Field(default=60.0, gt=0)
    trial_memory_bytes: int | None = Field(default=None, ge=1)
    accept_torn: tuple[str, ...] = ()
    topic_check_ms: int = Field(default=5_000, ge=1)
    accept_topics: tuple[str, ...] = ()
    state_folder: Path = Path(".tidemill/state")


class ServiceSettings(BaseSettings):
    """What every service needs; a service adds its own section in a subclass.

    Attributes
    ----------
    application
        Folder with ``app.yaml``.
    instance
        Stable name of this instance of a service: it is the transactional id's and the static membership's last part.
    """

    model_config = SettingsConfigDict(env_prefix="TIDEMILL_", env_nested_delimiter="__", frozen=True, extra="ignore")

    application: Path
    instance: str = "0"
    log_level: str = "INFO"
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    redis: RedisSettings = RedisSettings()
    lake: LakeSettings = LakeSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    tracking: TrackingSettings = TrackingSettings()
    commands: CommandsSettings = CommandsSettings()
    trainings: TrainingsSettings = TrainingsSettings()
    health: HealthSettings = HealthSettings()
    runner: RunnerSettings = RunnerSettings()
