"""What the services of a run need before they start: its servers, and the process that they are forked from."""

from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.instance import InstanceError, read_instance
from tidemill.runs.pipeline import LIBRARIES
from tidemill.runs.supervisor import LOADED_ONCE
from tidemill.shared.fork_server.client import ForkServer


class RunServers:
    """Kafka, registry and Redis (embedded unless given by address), and a fork server: from their first use to the end of the block.

    A run that reads its history and then goes live has them for both. The fork server loads its modules while the others come up.

    Parameters
    ----------
    folder
        The run's; its embedded servers' data lie in `servers`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def data(self) -> Path:
        """Where embedded servers have their data."""
        return self.folder / "servers"

    @cached_property
    def forks(self) -> ForkServer:
        """Forks the services."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        return self._open.enter_context(closing(ForkServer(LIBRARIES, LOADED_ONCE, logs / "fork-server.log")))

    @cached_property
    def infrastructure(self) -> Infrastructure:
        """The servers, which answer.

        Raises
        ------
        InstanceError
            Another process runs from this folder.
        """
        before = read_instance(self.folder)
        if before is not None and before.runs:
            app = Path(before.application).name
            raise InstanceError(f"{self.folder}: process {before.pid} runs {app} from there; stop it, or choose another folder")
        self.forks.begin()
        return self._open.enter_context(Infrastructure.from_environment(self.data))
