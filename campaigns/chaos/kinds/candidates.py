"""Candidates move through their stages, by command and by their trials, while what scores, judges or moves them is killed."""

from collections.abc import Iterator
from random import Random

from campaigns.chaos.fault import Kind, Strikes, Wait
from campaigns.chaos.world import World, behind_place, machine_place

_MOVES = ("retrain", "retrain", "retrain", "promote", "promote", "step_back", "roll_back", "ab", "ab")
_SWITCHES_WITHIN_S = 3.0


def _kill_machine(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """An instance is killed while it learns who answers from now on."""
    with world.holding(machine_place(target)):
        world.move(rng.choice(_MOVES), rng)
        yield rng.uniform(0.0, _SWITCHES_WITHIN_S)
        machine = world.machines[target]
        machine.kill(rng.choice(machine.stages))
        yield Strikes()
        yield world.ready(target)


def _kill_behind(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """A stage that joins, judges or moves is killed while a candidate moves."""
    with world.holding(behind_place(target)):
        world.move(rng.choice(_MOVES), rng)
        yield rng.uniform(0.0, _SWITCHES_WITHIN_S)
        world.behind.kill(target)
        yield Strikes()
        yield lambda: world.behind.is_live(target)


KINDS = (
    Kind("SIGKILL as a candidate moves", lambda world: world.free_machines(), _kill_machine, 3),
    Kind("SIGKILL behind as a candidate moves", lambda world: world.free_behind(), _kill_behind, 2),
)
