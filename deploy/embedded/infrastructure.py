"""The three servers Tidemill needs, whoever runs them: embedded here, or given by address."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tidemill.deploy.embedded.component import Component, ComponentError
from tidemill.deploy.embedded.folders import new_run_folder
from tidemill.deploy.embedded.kafka import SESSION_S
from tidemill.deploy.embedded.programs import java_caches, java_programs
from tidemill.deploy.embedded.servers import prepare_servers

VARIABLES = ("TIDEMILL_KAFKA__BOOTSTRAP_SERVERS", "TIDEMILL_REGISTRY__URL", "TIDEMILL_REDIS__URL")


class InfrastructureError(RuntimeError):
    """The addresses are incomplete, or something was asked that only embedded servers can do."""


class Infrastructure:
    """Kafka, a schema registry and Redis, as a context manager.

    Made by `embedded`, `given` or `from_environment`. Embedded servers come up on entry and go down on exit; after SIGKILL of
    this process they end by themselves within a second.

    Attributes
    ----------
    bootstrap_servers, registry_url, redis_url
        Addresses; the registry's is the root of its Confluent-compatible API. Embedded ones are known from entry on and stay
        the same when a server is restarted.
    """

    def __init__(
        self,
        bootstrap_servers: str = "",
        registry_url: str = "",
        redis_url: str = "",
        folder: Path | None = None,
        temporary: bool = False,
        brokers: int = 1,
        session_s: float = SESSION_S,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.registry_url = registry_url
        self.redis_url = redis_url
        self._folder = folder
        self._temporary = temporary
        self._brokers = brokers
        self._session_s = session_s
        self._components: dict[str, Component] = {}

    @classmethod
    def embedded(cls, folder: Path | None = None, brokers: int = 1, session_s: float = SESSION_S) -> Self:
        """Run the servers here, without Docker, Java or root.

        Parameters
        ----------
        folder
            Their data and logs; continued when it has some. By default a new folder in `.tidemill/runs`, deleted after a run
            without error.
        brokers
            Nodes of the Kafka cluster; a process of 430 MB each.
        session_s
            How long a broker may get no processor time before its partitions have no leader; one that was killed comes back after so long.
        """
        return cls(folder=folder.resolve() if folder else new_run_folder(), temporary=folder is None, brokers=brokers, session_s=session_s)

    @classmethod
    def given(cls, bootstrap_servers: str, registry_url: str, redis_url: str) -> Self:
        """Use servers that somebody else runs."""
        return cls(bootstrap_servers, registry_url, redis_url)

    @classmethod
    def from_environment(cls, folder: Path | None = None, environment: Mapping[str, str] = os.environ) -> Self:
        """Use the servers whose addresses the environment gives; embedded ones when it gives none.

        Raises
        ------
        InfrastructureError
            Some of the three addresses are set and some are not.
        """
        values = [environment.get(name, "").strip() for name in VARIABLES]
        if all(values):
            return cls.given(*values)
        if any(values):
            missing = ", ".join(name for name, value in zip(VARIABLES, values, strict=True) if not value)
            raise InfrastructureError(
                f"expected all of {', '.join(VARIABLES)} or none; not set: {missing}. Set it, or unset the others to run embedded servers."
            )
        return cls.embedded(folder)

    @property
    def environment(self) -> dict[str, str]:
        """The addresses as the environment variables that every service reads."""
        return dict(zip(VARIABLES, (self.bootstrap_servers, self.registry_url, self.redis_url), strict=True))

    @property
    def components(self) -> Mapping[str, Component]:
        """The embedded servers by name, to stop, kill or restart; none when they were given by address."""
        return dict(self._components)

    @property
    def folder(self) -> Path:
        """Data and logs of the embedded servers."""
        if self._folder is None:
            raise InfrastructureError("expected embedded servers; these were given by address and have no folder here")
        return self._folder

    @property
    def kafka(self) -> Component:
        """The embedded broker, to stop, kill or restart, where there is one only; of several see `components`."""
        return self._component("kafka")

    @property
    def registry(self) -> Component:
        """The embedded registry, to stop, kill or restart."""
        return self._component("registry")

    @property
    def redis(self) -> Component:
        """The embedded Redis, to stop, kill or restart."""
        return self._component("redis")

    def start(self) -> None:
        """Bring the embedded servers up, all at once; nothing to do for given ones.

        Raises
        ------
        ComponentError
            One of them did not come up; the others are stopped.
        ServerArchiveError
            Their programs could not be fetched or are not the locked ones.
        """
        if self._folder is None:
            return
        if not self._components:
            programs = java_programs()
            caches = java_caches(programs)
            reading = {name: cache.reading for name, cache in caches.items()}
            self._components = prepare_servers(self._folder, programs, reading, self._brokers, self._session_s)
        try:
            for component in self._components.values():
                component.launch()
            for component in self._components.values():
                component.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.bootstrap_servers = ",".join(one.address for name, one in self._components.items() if name.startswith("kafka"))
        self.registry_url = self.registry.address
        self.redis_url = self.redis.address

    def check(self) -> None:
        """Raise ComponentError, with the end of its log, for an embedded server that has ended by itself."""
        for component in self._components.values():
            if not component.running:
                raise ComponentError(component.name, "ended although nobody asked it to", component.log)

    def stop(self) -> None:
        """Take the embedded servers down; their data stays."""
        for component in self._components.values():
            component.begin_stop()
        for component in self._components.values():
            component.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if self._temporary and self._folder is not None and kind is None:
            shutil.rmtree(self._folder)

    def _component(self, name: str) -> Component:
        if name not in self._components:
            raise InfrastructureError(f"expected an embedded {name} that has been started; this one was given by address or not started yet")
        return self._components[name]
