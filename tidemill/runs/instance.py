"""What an `up` (or `replay --up`) leaves in its folder, so that other commands find its servers, running or not."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from tidemill.deploy.embedded.infrastructure import VARIABLES, Infrastructure
from tidemill.shared.observability.settings import ArtifactSettings

FILE = "instance.json"
_ARTIFACTS = "TIDEMILL_ARTIFACTS__URI"


class InstanceError(RuntimeError):
    """No run can be found, or the one that is found cannot do what was asked: says what to do."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A run of an application.

    Attributes
    ----------
    application
        Its folder, as its user named it.
    content
        The run's own copy of it, which the services read; empty for a run of a version that kept none.
    clock
        ``live`` or ``replay``; empty when nobody here knows.
    addresses
        Kafka, registry and Redis, as environment variables.
    artifacts
        Where its models are.
    servers
        Folder of its embedded servers; empty when they were given by address.
    pid, started
        The process that runs it (0 after its end), and when that process was created (a pid alone may be somebody else's by now).
    """

    application: str
    clock: str
    addresses: Mapping[str, str]
    artifacts: str
    servers: str = ""
    pid: int = 0
    started: float = 0.0
    content: str = ""

    @property
    def runs(self) -> bool:
        """Whether its process is alive."""
        try:
            return self.pid > 0 and abs(psutil.Process(self.pid).create_time() - self.started) < 1.0
        except psutil.NoSuchProcess:
            return False

    @property
    def reads(self) -> Path:
        """The application's folder that the services read: the run's own copy, of an older run the one that was named."""
        return Path(self.content or self.application)

    def ended(self) -> "Instance":
        """Return the run as it is after its end, whatever becomes of the process."""
        return replace(self, pid=0, started=0.0)

    def write(self, folder: Path) -> None:
        """Leave the file; a reader sees the old one or the new one whole."""
        part = folder / f"{FILE}.part"
        # Addresses may hold passwords: nobody else may read them.
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        part.rename(folder / FILE)

    @classmethod
    def of_this_process(
        cls, application: Path, content: Path, clock: str, infrastructure: Infrastructure, servers: Path | None, folder: Path
    ) -> "Instance":
        """Describe what this process runs."""
        return cls(
            str(application.absolute()), clock, infrastructure.environment, str((folder / "artifacts").absolute()),
            str(servers.absolute()) if servers else "", os.getpid(), psutil.Process().create_time(), str(content.absolute()),
        )  # fmt: skip


def read_instance(folder: Path) -> Instance | None:
    """Return what a run left in its folder; None when there is nothing.

    Raises
    ------
    InstanceError
        The file is not one that a run has written.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return Instance(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InstanceError(
            f"{file}: expected what `tidemill up` writes, found something else ({error}); remove it and start the run again"
        ) from error


def find_instance(folder: Path, environment: Mapping[str, str]) -> Instance:
    """Find a run: by the addresses in the environment, else by its folder.

    Raises
    ------
    InstanceError
    """
    addresses = {name: environment.get(name, "").strip() for name in VARIABLES}
    if all(addresses.values()):
        return Instance("", "", addresses, environment.get(_ARTIFACTS, ArtifactSettings().uri))
    if any(addresses.values()):
        missing = ", ".join(name for name, value in addresses.items() if not value)
        raise InstanceError(f"expected all of {', '.join(VARIABLES)} or none; not set: {missing}")
    instance = read_instance(folder)
    if instance is None:
        raise InstanceError(
            f"expected a run in {folder}, found none. Start one with `tidemill up`, name its folder with --run,"
            f" or give the addresses of its servers: {', '.join(VARIABLES)}"
        )
    return instance


@contextmanager
def reachable(instance: Instance) -> Iterator[Infrastructure]:
    """Give a run's servers: those that run, or its embedded ones brought up again on what they left."""
    if instance.runs or not instance.servers:
        yield Infrastructure.given(*(instance.addresses[name] for name in VARIABLES))
        return
    with Infrastructure.embedded(Path(instance.servers)) as infrastructure:
        yield infrastructure
