"""Trainings and promotions are interrupted, and the disks that they and the archive write to are full or fail."""

import resource
import time
from collections.abc import Iterator
from random import Random

import psutil

from campaigns.chaos.fault import Kind, Strikes, Wait
from campaigns.chaos.kinds.calls import learning, strike_at
from campaigns.chaos.world import World, behind_place, machine_place

_JOB = "tidemill.services.retraining.processes.job"
_TRAINING_S = 60.0
_FULL_BYTES = 1_024
_LEARNING = tuple(behind_place(stage) for stage in ("archive", "retraining", "control"))


def _kill_in_training(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """The stage, or the training's own process, is killed some time after a training was asked for."""
    with world.holding(*_LEARNING):
        world.command("retrain")
        end = time.monotonic() + _TRAINING_S
        yield lambda: bool(_jobs(world)) or time.monotonic() > end
        yield rng.uniform(0.0, 2.0)
        jobs = _jobs(world)
        if jobs and rng.random() < 0.5:
            jobs[0].kill()
        else:
            world.behind.kill("retraining")
        yield Strikes()
        yield lambda: world.behind.is_live("retraining")


def _kill_at_promotion(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """The stage is killed as it commits what became of a training."""
    with world.holding(*_LEARNING):
        how, moves = rng.choice(("kill before", "kill within", "kill after")), ("retrain", "promote", "roll_back")
        yield from strike_at(world.behind, "retraining", "commit", how, rng, _TRAINING_S, lambda: world.command(rng.choice(moves)))
        yield lambda: world.behind.is_live("retraining")


def _kill_at_switch(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """An instance is killed as it fetches the model that serves."""
    with world.holding(machine_place(target)):
        machine = world.machines[target]
        stage = machine.stages[-1]  # The fused process, or scoring.
        yield from strike_at(machine, stage, "artifact get", "kill before", rng, _TRAINING_S, lambda: machine.kill(stage))
        yield world.ready(target)


def _disk_full(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """No file of the stage may grow: what the kernel answers is what it answers on a full disk, under another number."""
    with world.holding(*_LEARNING):
        stage = rng.choice(("archive", "retraining"))
        full = [world.behind.pid(stage), *(child.pid for child in world.behind.children(stage))]
        for pid in full:
            _limit(pid, _FULL_BYTES)
        world.command("retrain")
        yield rng.uniform(2.0, 8.0)
        for pid in {*full, *(child.pid for child in world.behind.children(stage))}:
            _limit(pid, resource.RLIM_INFINITY)
        yield lambda: world.behind.is_live(stage)


def _lake_fails(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """A write to the lake fails, or fails after it was done."""
    with world.holding(*_LEARNING):
        how = rng.choice(("fail before", "fail after"))
        yield from strike_at(world.behind, "archive", "lake write", how, rng, _TRAINING_S, lambda: world.command("retrain"))
        yield lambda: world.behind.is_live("archive")


def _artifact_fails(world: World, target: str, rng: Random) -> Iterator[Wait]:
    """A model cannot be written, or its write fails after it was done."""
    with world.holding(*_LEARNING):
        how = rng.choice(("fail before", "fail after"))
        yield from strike_at(world.behind, "retraining", "artifact write", how, rng, _TRAINING_S, lambda: world.command("retrain"))
        yield lambda: world.behind.is_live("retraining")


def _jobs(world: World) -> list[psutil.Process]:
    jobs = []
    for child in world.behind.children("retraining"):
        try:
            if _JOB in child.cmdline():
                jobs.append(child)
        except psutil.NoSuchProcess:
            continue
    return jobs


def _limit(pid: int, size: int) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    except ProcessLookupError:
        return


KINDS = (
    Kind("SIGKILL in training", learning, _kill_in_training),
    Kind("SIGKILL at promotion", learning, _kill_at_promotion),
    Kind("SIGKILL as a model is fetched", lambda world: world.free_machines(), _kill_at_switch),
    Kind("disk full", learning, _disk_full),
    Kind("I/O error in the lake", learning, _lake_fails),
    Kind("I/O error at an artifact", learning, _artifact_fails),
)
