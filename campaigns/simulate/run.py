"""One run: a schedule with faults, then peace, then the books."""

import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from campaigns.simulate.actions import Action
from campaigns.simulate.checks import SafetyChecks, ViolationError
from campaigns.simulate.learned_classes import check_classes
from campaigns.simulate.oracle import EndCounts, check_end
from campaigns.simulate.process import GATHERED
from campaigns.simulate.scheduler import Scheduler
from campaigns.simulate.system import System, UnexpectedEndError
from campaigns.simulate.world import RunSettings, World
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.service.stage import FUSED

_ROUNDS = 200
_STILL = 60
# Who meets a record that crashes it reads again, three to seven records a round, what it had read ahead of its commits: about once for each crash.
_ROUNDS_PER_CULPRIT = 400
_DELAY_MS = 21_000
# How time passes in peace: several ticks of the journal at once, less than what a host's clock may jump.
_PEACE_MS = 3_300


@dataclass(slots=True)
class RunResult:
    """What came of a run.

    Attributes
    ----------
    violation
        What did not hold; empty when all did.
    faults
        Those that struck, by point and mode.
    records
        Those published, by kind.
    ended
        Processes that ended by themselves, by error.
    pauses
        How often a task paused the stream that may be paused.
    rounds
        In which everything drained.
    counts
        What was held against an oracle at the end.
    classes
        How many classes the versions know, where they are learned.
    fingerprint
        SHA-256 of all that was written: equal for equal runs.
    """

    settings: RunSettings
    actions: list[Action] = field(default_factory=list)
    violation: str = ""
    faults: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    pauses: int = 0
    rounds: int = 0
    counts: EndCounts = field(default_factory=EndCounts)
    classes: int = 0
    fingerprint: str = ""


def settings_of(seed: int) -> RunSettings:
    """Draw a run's settings."""
    rng = random.Random(f"settings-{seed}")
    return RunSettings(
        instances=rng.choice((1, 2, 2)),
        max_batch=rng.choice((3, 5, 7, 30)),
        checkpoint_bytes=rng.choice((1, 300, 2_000, 1 << 20)),
        checkpoint_interval_ms=rng.choice((0, 0, 300)),
        topology=rng.choice(("separate", FUSED, "mixed")),
        explains=rng.random() < 0.5,
        times_scoring=rng.random() < 0.5,
        learned=seed % 9 == 0,
    )


def run_seed(seed: int, length: int) -> RunResult:
    """Run a seed's schedule of `length` actions."""
    return _run(settings_of(seed), seed, length)


def replay(settings: RunSettings, actions: Sequence[Action]) -> RunResult:
    """Run recorded actions again."""
    return _run(settings, actions, 0)


def _run(settings: RunSettings, source: int | Sequence[Action], length: int) -> RunResult:
    result = RunResult(settings)
    with tempfile.TemporaryDirectory(prefix="simulate-") as folder:
        world = World(Path(folder), settings)
        checks = SafetyChecks(world)
        system = System(world, checks.check)
        try:
            for name in system.actors():
                system.start(name)
            for action in _schedule(system, source, length):
                result.actions.append(action)
                if action.kind == "settle":
                    settle(system, checks)
                else:
                    system.do(action)
            result.rounds = settle(system, checks)
            checks.check()
            result.counts = check_end(world, checks, bool(system.faults["clock"]))
            result.classes = check_classes(world)
        except (ViolationError, UnexpectedEndError) as problem:
            result.violation = str(problem)
        result.faults, result.records, result.ended = system.faults, system.records, system.ended
        result.pauses, result.fingerprint = checks.pauses, world.fingerprint()
    return result


def _schedule(system: System, source: int | Sequence[Action], length: int) -> Iterable[Action]:
    if not isinstance(source, int):
        yield from source
        return
    scheduler = Scheduler(source, system)
    for number in range(length):
        if source % 2 == 0 and number == length * 3 // 5:
            # Models come late in a schedule: an A/B test that begins when one serves has the rest of it, with its requests and faults.
            yield from (Action("settle"), Action("command", text="ab"), Action("settle"))
        if source % 2 == 0 and number == length * 4 // 5 and system.world.settings.times_scoring:
            # Evidence of a slow challenger is more requests than a schedule has.
            yield from (Action("slow", number=10_000), *(Action("start", name) for name in system.actors()), Action("rush", number=60))
        yield scheduler.next()


def settle(system: System, checks: SafetyChecks) -> int:
    """Stop all faults and let the system drain; returns the rounds it took.

    Raises
    ------
    ViolationError
        A task that is behind has not moved for `_STILL` rounds, or the system has not drained after some hundred rounds, six times as many more as
        its records make batches, and some hundred for each record that was set aside meanwhile: it never will.
    """
    world = system.world
    for process in [*system.processes.values(), *system.zombies]:
        process.points.disarm()
    system.bury()
    world.memory.away = False
    journal = [checks.journal_time(partition) for partition in (0, 1)]
    world.clock.jump(max(0, max(journal) - world.clock.wall_ms()))
    target = world.clock.wall_ms() + _DELAY_MS
    rounds = _ROUNDS + 6 * world.written() // world.settings.max_batch
    set_aside = _set_aside(checks)
    before: tuple[object, ...] = ()
    still = 0
    number = 0
    while number < rounds + _ROUNDS_PER_CULPRIT * (_set_aside(checks) - set_aside):
        number += 1
        busy = False
        for name in system.actors():
            system.start(name)
            busy |= system.step(name)
        if number % 6 == 3 and any(progress.paused for progress in checks.progress.values()):
            world.resume()
        if number % 3 == 0 or not busy:
            world.clock.advance(_PEACE_MS if world.clock.wall_ms() < target + 8_000 else 150)
        now = _first_behind(checks, target)
        # Who looks for a culprit reads record by record, and may commit nothing for long.
        moved = (now, system.read_by(str(now[0]))) if now else ()
        still = still + 1 if world.clock.wall_ms() > target + 8_000 and moved == before else 0
        before = moved
        if now and still > _STILL:
            raise ViolationError(f"stands still: {_behind(system, checks, target)}")
        if number % 6 == 0 and world.clock.wall_ms() > target and not _behind(system, checks, target):
            for _ in range(8):
                world.clock.advance(150)
                for name in system.actors():
                    system.step(name)
            return number
    raise ViolationError(f"not drained after {number} rounds: {_behind(system, checks, target)}")


def _set_aside(checks: SafetyChecks) -> int:
    """Return how many records were set aside, in all stages together."""
    return sum(len(offsets) for places in checks.quarantined.values() for offsets in places.values())


def _first_behind(checks: SafetyChecks, target_ms: int) -> tuple[object, ...]:
    """Return where the tasks stand of the first stage that is behind: those after it wait for it, and may be moved by others."""
    for stage in checks.stages:
        tasks = [(task, one) for (name, task), one in checks.progress.items() if name == stage and one.covered_time < target_ms]
        if tasks:
            return (stage, *((task, one.covered_time, sum(one.input_offsets.values())) for task, one in tasks))
    return ()


def _behind(system: System, checks: SafetyChecks, target_ms: int) -> list[str]:
    """Say which tasks have not covered an instant, or have raw records left."""
    world = system.world
    behind = []
    for (stage, task), progress in sorted(checks.progress.items()):
        if progress.covered_time < target_ms:
            behind.append(f"{stage} {task} has covered {progress.covered_time - target_ms} ms")
        if stage == "ingestion":
            for topic in ("shop-orders", "shop-verdicts"):
                place = TopicPartition(topic, task)
                end = world.broker.log(place).end
                # A record that was set aside is passed with the next one that is not.
                while end - 1 in checks.quarantined[stage, task].get((place.topic, place.partition), set()):
                    end -= 1
                if progress.input_offsets.get(place, 0) < end:
                    behind.append(f"{stage} {task} stands at {progress.input_offsets.get(place, 0)} of {end} of {topic}")
    tasks = sum(1 if stage in GATHERED else 2 for stage in checks.stages)
    if len(checks.progress) < tasks:
        behind.append(f"{tasks - len(checks.progress)} of {tasks} tasks never committed: there are {sorted(checks.progress)}")
    return behind
