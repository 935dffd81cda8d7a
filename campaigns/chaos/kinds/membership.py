"""Instances come, go, change their names, their topology and their clocks."""

from collections.abc import Iterator
from random import Random

from campaigns.chaos.fault import Kind, Wait
from campaigns.chaos.world import TOPOLOGIES, World, machine_place, machine_places

_MEANWHILE_S = (1.0, 6.0)
# Within the hour that the application allows a payment to be late, should a process start under a wrong clock.
_STEPS_S = (-1_800.0, -90.0, -15.0, 15.0, 90.0, 1_800.0)


def _add(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """A third instance comes and goes again."""
    name = world.new_name()
    with world.holding(machine_place(name)):
        world.add(name, world.drawn_topology(rng))
        yield rng.uniform(*_MEANWHILE_S)
        world.remove(name)
        yield 0.0


def _remove(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """An instance leaves for a while."""
    with world.holding(machine_place(target)):
        topology = world.topologies[target]
        world.remove(target)
        yield rng.uniform(*_MEANWHILE_S)
        world.add(target, topology)
        yield world.ready(target)


def _rename(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """An instance ends, in good order or not, and its successor has another name."""
    name = world.new_name()
    with world.holding(machine_place(target), machine_place(name)):
        topology = world.topologies[target]
        _end(world, target, rng)
        world.add(name, topology)
        yield world.ready(name)


def _switch(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """An instance is stopped, or killed, and goes on in the other topology under the same name; the others stay in theirs."""
    with world.holding(machine_place(target)):
        topology = _other(world.topologies[target])
        _end(world, target, rng)
        world.add(target, topology)
        yield world.ready(target)


def _switch_all(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """The whole prediction path is stopped, or killed, and goes on in the other topology under the same names."""
    names = sorted(world.machines)
    with world.holding(*machine_places(names)):
        topologies = {name: _other(world.topologies[name]) for name in names}
        for name in names:
            _end(world, name, rng)
        for name in names:
            world.add(name, topologies[name])
        yield lambda: all(world.ready(name)() for name in names)


def _end(world: World, name: str, rng: Random) -> None:
    if rng.random() < 0.5:
        world.machines[name].kill_all()
    world.remove(name)


def _other(topology: str) -> str:
    return next(other for other in TOPOLOGIES if other != topology)


def _step_clock(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """The wall clock of an instance is set, and set right again."""
    with world.holding(machine_place(target)):
        machine = world.machines[target]
        machine.set_clock(rng.choice(_STEPS_S))
        yield rng.uniform(*_MEANWHILE_S)
        machine.set_clock(0.0)
        yield world.ready(target)


def _machines(world: World) -> list[str]:
    return world.free_machines()


def _mixing(world: World) -> list[str]:
    return world.free_machines() if world.mixed else []


def _all_free(world: World) -> list[str]:
    free = world.free_machines()
    return ["all"] if len(free) == len(world.machines) > 1 else []


KINDS = (
    Kind("instance added", lambda world: ["new"] if len(world.machines) < 3 else [], _add, 2),
    Kind("instance removed", _machines, _remove, 2),
    Kind("instance renamed", _machines, _rename, 2),
    Kind("topology switched", _mixing, _switch, 2),
    Kind("every topology switched", _all_free, _switch_all),
    Kind("clock set", _machines, _step_clock, 2),
)
