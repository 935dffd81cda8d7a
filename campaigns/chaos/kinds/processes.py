"""Processes are killed, stopped and paused, also while they come back."""

import signal
from collections.abc import Iterator
from random import Random

from campaigns.chaos.fault import Kind, Wait
from campaigns.chaos.world import World, behind_place, machine_place

# Longer than the group's patience with a member (10 s).
_BEYOND_SESSION_S = (11.0, 14.0)
_SHORT_S = (0.5, 4.0)


def _kill(world: World, target: str, rng: Random) -> Iterator[Wait]:
    with world.holding(machine_place(target)):
        machine = world.machines[target]
        machine.kill(rng.choice(machine.stages))
        yield world.ready(target)


def _kill_behind(world: World, target: str, rng: Random) -> Iterator[Wait]:
    with world.holding(behind_place(target)):
        world.behind.kill(target)
        yield lambda: world.behind.is_live(target)


def _terminate(world: World, target: str, rng: Random) -> Iterator[Wait]:
    with world.holding(machine_place(target)):
        machine = world.machines[target]
        stage = rng.choice(machine.stages)
        before = machine.pid(stage)
        machine.send(stage, signal.SIGTERM)
        yield lambda: machine.pid(stage) != before
        yield world.ready(target)


def _terminate_behind(world: World, target: str, rng: Random) -> Iterator[Wait]:
    with world.holding(behind_place(target)):
        before = world.behind.pid(target)
        world.behind.send(target, signal.SIGTERM)
        yield lambda: world.behind.pid(target) != before
        yield lambda: world.behind.is_live(target)


def _pause(world: World, target: str, seconds: float, rng: Random) -> Iterator[Wait]:
    with world.holding(machine_place(target)):
        machine = world.machines[target]
        stopped = machine.stages if rng.random() < 0.5 else (rng.choice(machine.stages),)
        for stage in stopped:
            machine.send(stage, signal.SIGSTOP)
        yield seconds
        for stage in stopped:
            machine.send(stage, signal.SIGCONT)
        yield world.ready(target)


def _pause_short(world: World, target: str, rng: Random) -> Iterator[Wait]:
    return _pause(world, target, rng.uniform(*_SHORT_S), rng)


def _pause_long(world: World, target: str, rng: Random) -> Iterator[Wait]:
    return _pause(world, target, rng.uniform(*_BEYOND_SESSION_S), rng)


def _kill_in_recovery(world: World, target: str, rng: Random) -> Iterator[Wait]:
    with world.holding(machine_place(target)):
        machine = world.machines[target]
        stage = rng.choice(machine.stages)
        for _ in range(2):
            before = machine.pid(stage)
            machine.kill(stage)
            yield lambda before=before: machine.pid(stage) != before  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            # From its first line to a place in the group takes some two seconds.
            yield rng.uniform(0.1, 3.0)
        yield world.ready(target)


def _kill_in_rebalance(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """One instance leaves its groups; while they share out its partitions, the other is killed."""
    other = rng.choice([name for name in world.free_machines() if name != target])
    with world.holding(machine_place(target), machine_place(other)):
        leaving, killed = world.machines[target], world.machines[other]
        leaving.send(rng.choice(leaving.stages), signal.SIGTERM)
        yield rng.uniform(0.05, 1.5)
        killed.kill(rng.choice(killed.stages))
        yield lambda: world.ready(target)() and world.ready(other)()


def _machines(world: World) -> list[str]:
    return world.free_machines()


def _two_machines(world: World) -> list[str]:
    free = world.free_machines()
    return free if len(free) > 1 else []


def _behind(world: World) -> list[str]:
    return world.free_behind()


KINDS = (
    Kind("SIGKILL", _machines, _kill, 3),
    Kind("SIGKILL behind", _behind, _kill_behind, 2),
    Kind("SIGTERM", _machines, _terminate, 2),
    Kind("SIGTERM behind", _behind, _terminate_behind),
    Kind("SIGSTOP", _machines, _pause_short, 2),
    Kind("SIGSTOP beyond the session", _machines, _pause_long),
    Kind("SIGKILL in recovery", _machines, _kill_in_recovery, 2),
    Kind("SIGKILL in a rebalance", _two_machines, _kill_in_rebalance),
)
