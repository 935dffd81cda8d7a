"""Processes end exactly at a call that leaves them: before it, in it, after it."""

import time
from collections.abc import Callable, Iterator
from random import Random

from campaigns.chaos.fault import Kind, MissedError, Strikes, Wait
from campaigns.chaos.machine import Machine
from campaigns.chaos.world import World, behind_place, machine_place
from tidemill.shared.service.stage import FUSED

_KILLS = ("kill before", "kill within", "kill after")
# The stages in which the calls of the prediction path are made; a fused process makes all of them.
_MAKES_IT = {"redis": ("features",), "artifact get": ("scoring",)}
_SOON_S, _LATER_S = 8.0, 60.0


def strike_at(
    machine: Machine, stage: str, point: str, how: str, rng: Random, limit_s: float, then: Callable[[], None] | None = None
) -> Iterator[Wait]:
    """Order a strike, have happen what leads to the call, and wait until it has struck; MissedError when it has not by then."""
    end = time.monotonic() + limit_s
    machine.order(stage, point, how, round(rng.uniform(0.0, 0.02), 4))
    if then is not None:
        then()
    yield lambda: machine.was_struck(stage, point) or time.monotonic() > end
    machine.withdraw(stage, point)
    if not machine.was_struck(stage, point):
        raise MissedError
    yield Strikes()


def _at_call(point: str) -> Callable[[World, str, Random], Iterator[Wait]]:
    """Return the course: SIGKILL of an instance at the next such call."""

    def course(world: World, target: str, rng: Random) -> Iterator[Wait]:
        with world.holding(machine_place(target)):
            machine = world.machines[target]
            makes = [stage for stage in machine.stages if stage == FUSED or stage in _MAKES_IT.get(point, machine.stages)]
            yield from strike_at(machine, rng.choice(makes), point, rng.choice(_KILLS), rng, _SOON_S)
            yield world.ready(target)

    return course


def _at_start(point: str) -> Callable[[World, str, Random], Iterator[Wait]]:
    """Return the course: SIGKILL of an instance, and again at such a call of the one that follows it."""

    def course(world: World, target: str, rng: Random) -> Iterator[Wait]:
        with world.holding(machine_place(target)):
            machine = world.machines[target]
            stage = rng.choice(machine.stages)
            yield from strike_at(machine, stage, point, rng.choice(_KILLS), rng, _LATER_S, lambda: machine.kill(stage))
            yield world.ready(target)

    return course


def _at_append(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """SIGKILL of the archive in its next append, which a request for a training brings about."""
    with world.holding(behind_place("archive"), behind_place("retraining"), behind_place("control")):
        point = rng.choice(("lake append", "lake write"))
        yield from strike_at(world.behind, "archive", point, rng.choice(_KILLS), rng, _LATER_S, lambda: world.command("retrain"))
        yield lambda: world.behind.is_live("archive")


def _at_artifact(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """SIGKILL of a training as it stores its model."""
    with world.holding(behind_place("archive"), behind_place("retraining"), behind_place("control")):
        point = rng.choice(("artifact put", "artifact write"))
        yield from strike_at(world.behind, "retraining", point, rng.choice(_KILLS), rng, _LATER_S, lambda: world.command("retrain"))
        yield lambda: world.behind.is_live("retraining")


def _at_commit_behind(world: World, target: str, rng: Random) -> Iterator[Wait]:
    with world.holding(behind_place(target)):
        point = rng.choice(("produce", "offsets", "commit"))
        yield from strike_at(world.behind, target, point, rng.choice(_KILLS), rng, _SOON_S)
        yield lambda: world.behind.is_live(target)


def learning(world: World) -> list[str]:
    """Return the stages that make a model, when no fault holds one of them: they are struck together."""
    return ["archive"] if {"archive", "retraining", "control"} <= set(world.free_behind()) else []


def _machines(world: World) -> list[str]:
    return world.free_machines()


KINDS = (
    Kind("SIGKILL at produce", _machines, _at_call("produce"), 2),
    Kind("SIGKILL at offsets", _machines, _at_call("offsets"), 2),
    Kind("SIGKILL at commit", _machines, _at_call("commit"), 3),
    Kind("SIGKILL at a Redis call", _machines, _at_call("redis"), 2),
    Kind("SIGKILL at the first call of a producer", _machines, _at_start("open")),
    Kind("SIGKILL in restore", _machines, _at_start("restore"), 2),
    Kind("SIGKILL at a lake append", learning, _at_append),
    Kind("SIGKILL at an artifact write", learning, _at_artifact),
    Kind("SIGKILL at commit behind", lambda world: world.free_behind(), _at_commit_behind, 2),
)
