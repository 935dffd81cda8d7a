"""What a chunk runs: servers, machines, traffic, and who is held by a fault at the moment."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from campaigns.chaos.machine import Machine, fork_server
from campaigns.chaos.traffic import Traffic
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.command_channel import command_key
from tidemill.runs.pipeline import SEPARATE
from tidemill.runs.watch import record_codec
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.topics import STAGES
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.commands.signing import signed_command
from tidemill.shared.models.deployments import Lifecycles
from tidemill.shared.service.stage import FUSED, FUSIBLE

BEHIND = "behind"
TOPOLOGIES: Mapping[str, tuple[str, ...]] = {FUSED: (FUSED,), SEPARATE: FUSIBLE}
STAGES_BEHIND = tuple(stage for stage in STAGES if stage not in FUSIBLE)
MODEL = "fraud"


@dataclass
class World:
    """The system under test.

    Attributes
    ----------
    machines
        Instances of the prediction path by name.
    behind
        The stages that follow it.
    mixed
        Whether instances of both topologies run side by side.
    topologies
        Of the instances.
    held
        What faults under way have taken: ``machine 0``, ``behind archive``, ``kafka``, ...
    long
        Whether the servers' long absences are part of the campaign.
    """

    plan: Plan
    servers: Infrastructure
    registry: SchemaRegistry
    environment: Mapping[str, str]
    folder: Path
    traffic: Traffic
    rng: random.Random
    mixed: bool = True
    long: bool = False
    machines: dict[str, Machine] = field(default_factory=dict)
    topologies: dict[str, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    restarts: int = 0
    named: int = 2
    _behind: Machine | None = None

    def __post_init__(self) -> None:
        """Register what is needed while the registry may be away."""
        self._codec = record_codec(self.registry, self.plan.topics.commands, "Command")
        self._codec.encode(signed_command(command_key(None, self.folder), MODEL, "retrain", "never sent"))
        self._forks = fork_server(self.environment, self.folder / "logs")
        self.admin = AdminClient({"bootstrap.servers": self.servers.bootstrap_servers, "log_level": 0})
        self._producer = Producer({"bootstrap.servers": self.servers.bootstrap_servers, "message.timeout.ms": 600_000, "log_level": 0})

    @property
    def behind(self) -> Machine:
        """The stages that follow the prediction path."""
        if self._behind is None:
            raise ValueError("the stages behind the prediction path have not been started")
        return self._behind

    def start(self) -> None:
        """Start two instances and what follows them."""
        self._behind = Machine(BEHIND, STAGES_BEHIND, self.environment, self.folder, self._forks)
        for name in ("0", "1"):
            self.add(name, self.drawn_topology(self.rng))

    def drawn_topology(self, rng: random.Random) -> str:
        """Return the topology of a new instance: any, where both run side by side, else that of the others."""
        others = set(self.topologies.values())
        return rng.choice(list(TOPOLOGIES)) if self.mixed or not others else others.pop()

    def add(self, name: str, topology: str) -> None:
        """Start an instance."""
        self.topologies[name] = topology
        self.machines[name] = Machine(name, TOPOLOGIES[topology], self.environment, self.folder, self._forks)

    def remove(self, name: str) -> None:
        """End an instance in good order."""
        machine = self.machines.pop(name)
        del self.topologies[name]
        self.restarts += machine.restarts()
        machine.stop()

    def check(self) -> None:
        """Let the supervisors start again what has ended; ServiceFailed when somebody would have to help."""
        for machine in self.everything:
            machine.check()

    def stop(self) -> None:
        """End every process."""
        for machine in self.everything:
            machine.stop()
        self._forks.close()

    @property
    def everything(self) -> list[Machine]:
        """All machines."""
        return [*self.machines.values(), *([self._behind] if self._behind else [])]

    @property
    def embedded(self) -> bool:
        """Whether the servers are this campaign's own, to be killed."""
        return bool(self.servers.components)

    def free_machines(self) -> list[str]:
        """Instances that no fault holds, as targets."""
        return [name for name in sorted(self.machines) if machine_place(name) not in self.held]

    def free_behind(self) -> list[str]:
        """Stages behind the prediction path that no fault holds."""
        return [stage for stage in STAGES_BEHIND if behind_place(stage) not in self.held]

    def new_name(self) -> str:
        """Return the name of an instance that there never was."""
        self.named += 1
        return str(self.named - 1)

    @contextmanager
    def holding(self, *places: str) -> Iterator[None]:
        """Keep other faults away from what this one strikes."""
        self.held.update(places)
        try:
            yield
        finally:
            self.held.difference_update(places)

    def ready(self, name: str) -> Callable[[], bool]:
        """Return whether an instance is back; None of that name is left: it has been removed meanwhile."""
        return lambda: name not in self.machines or self.machines[name].is_live()

    def standing(self) -> str:
        """Say what does not answer or has no work: for whoever watches a wait."""
        away = [name for name, component in self.servers.components.items() if not component.running or not component.ready()]
        idle = [f"{machine.name} {stage} {said}" for machine in self.everything for stage in machine.stages if (said := machine.unready(stage))]
        return f"servers away: {', '.join(away) or 'none'}; not ready: {', '.join(idle) or 'none'}; {self.traffic.open_requests} without an answer"

    def move(self, what: str, rng: random.Random) -> None:
        """Have an operator move a candidate; an A/B test is of what is on trial, else of any version, and a training where there is none."""
        lifecycle = Lifecycles().follow(list(self.traffic.deployments)).of(MODEL)
        serving = "" if lifecycle.champion is None else lifecycle.champion.version
        tried = lifecycle.challenger
        others = [one.version for one in lifecycle.registered if one.version != serving] if tried is None else [tried.version]
        if what == "ab" and not (serving and others):
            what = "retrain"
        self.command(what, rng.choice(others) if what == "ab" else "")

    def command(self, what: str, version: str = "") -> None:
        """Command the control plane; the broker may be away, and gets it when it is back."""
        record = signed_command(command_key(None, self.folder), MODEL, what, "chaos", version=version)
        self._producer.produce(self.plan.topics.commands, self._codec.encode(record), MODEL.encode())
        self._producer.poll(0)


def machine_place(name: str) -> str:
    """What holds an instance."""
    return f"machine {name}"


def behind_place(stage: str) -> str:
    """What holds a stage behind the prediction path."""
    return f"{BEHIND} {stage}"


def machine_places(names: Sequence[str]) -> list[str]:
    """What holds instances."""
    return [machine_place(name) for name in names]
