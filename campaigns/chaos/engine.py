"""Has faults strike one after another, some at the same time, and times until answers flow again."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from campaigns.chaos.fault import Kind, MissedError, Strikes, Wait
from campaigns.chaos.world import World

TICK_S = 0.05
_REPORT_S = 15.0
_PAUSE_S = (0.1, 1.0)
# A fault may wait for a training, or for a server that is away for two minutes.
DEADLINE_S = 240.0


@dataclass(slots=True)
class Struck:
    """A fault that struck.

    Attributes
    ----------
    recovered_s
        From the strike until every partition has answered a payment that came after it; None as long as it has not.
    """

    kind: str
    target: str
    at_s: float
    mark: int
    recovered_s: float | None = None
    ended_s: float | None = None
    missed: bool = False


@dataclass(slots=True)
class _UnderWay:
    fault: Struck
    course: Iterator[Wait]
    wait: Wait | None = None
    since_s: float = 0.0


class Engine:
    """Runs faults of all kinds in a world.

    Parameters
    ----------
    kinds
        Each comes as often as its weight says before one comes again, in an order drawn from the world's seed.
    say
        Told of every strike, and every quarter of a minute of what is waited for.
    at_once
        Faults under way at most.
    """

    def __init__(self, world: World, kinds: Sequence[Kind], say: Callable[[str], None] = lambda _: None, at_once: int = 3) -> None:
        self._world, self._say, self._at_once = world, say, at_once
        self._kinds = [kind for kind in kinds if (world.embedded or not kind.embedded) and (world.long or not kind.long)]
        self._bag: list[Kind] = []
        self._under_way: list[_UnderWay] = []
        self._next_s = self._report_s = 0.0
        self.faults: list[Struck] = []
        self.problems: list[str] = []

    @property
    def struck(self) -> int:
        """Faults that struck."""
        return sum(not fault.missed for fault in self.faults)

    def _report(self) -> None:
        """Say now and then what faults under way wait for."""
        now = time.monotonic()
        if now < self._report_s:
            return
        self._report_s = now + _REPORT_S
        for one in self._under_way:
            fault, waited = one.fault, now - one.fault.at_s
            if waited < _REPORT_S:
                continue
            silent = self._world.traffic.silent_since(fault.mark, range(self._world.plan.application.partitions))
            waits = [f"partitions {silent} have not answered"] if fault.recovered_s is None else []
            waits += ["what it struck is not back"] if one.wait is not None else []
            self._say(f"  {waited:.0f} s after {fault.kind} ({fault.target}): {'; '.join(waits)}; {self._world.standing()}")

    def run(self, count: int) -> None:
        """Strike until so many faults more have struck, and go on until all is over and answered."""
        wanted = self.struck + count
        # One that is under way counts, until its moment has not come.
        while self.struck < wanted or self._under_way:
            self.tick()
            now = time.monotonic()
            if self.struck < wanted and len(self._under_way) < self._at_once and now >= self._next_s:
                self._strike(now)
                self._next_s = now + self._world.rng.uniform(*_PAUSE_S)

    def tick(self) -> None:
        """Look after everything once."""
        self._world.check()
        for one in list(self._under_way):
            self._advance(one, time.monotonic())
        self._report()
        time.sleep(TICK_S)

    def until(self, condition: Callable[[], bool], what: str, limit_s: float = DEADLINE_S) -> bool:
        """Wait for something; a problem when it does not come."""
        begun = time.monotonic()
        end, said = begun + limit_s, begun
        while not condition():
            if time.monotonic() > end:
                self._found(f"not within {limit_s:.0f} s: {what}")
                return False
            if time.monotonic() > said + _REPORT_S:
                said = time.monotonic()
                self._say(f"  waits since {said - begun:.0f} s: {what}; {self._world.standing()}")
            self.tick()
        return True

    def _found(self, problem: str) -> None:
        self.problems.append(problem)
        self._say(f"PROBLEM {problem}")

    def _strike(self, now: float) -> None:
        if not self._bag:
            self._bag = [kind for kind in self._kinds for _ in range(kind.weight)]
            self._world.rng.shuffle(self._bag)
        for place, kind in reversed(list(enumerate(self._bag))):
            targets = kind.targets(self._world)
            if targets:
                del self._bag[place]
                target = self._world.rng.choice(list(targets))
                rng = random.Random(self._world.rng.random())
                fault = Struck(kind.name, target, now, self._world.traffic.mark())
                one = _UnderWay(fault, kind.course(self._world, target, rng))
                self.faults.append(fault)
                self._under_way.append(one)
                self._say(f"{kind.name}: {target}")
                self._step(one)
                return
        if not self._under_way:
            # Nothing is held, so nothing here can be struck by what is left: leaders where there is one broker.
            self._bag.clear()

    def _step(self, one: _UnderWay) -> None:
        try:
            one.wait, one.since_s = next(one.course), time.monotonic()
            if isinstance(one.wait, Strikes):
                one.fault.at_s, one.fault.mark, one.fault.recovered_s = one.since_s, self._world.traffic.mark(), None
                one.wait, one.since_s = next(one.course), time.monotonic()
        except StopIteration:
            one.wait, one.fault.ended_s = None, round(time.monotonic() - one.fault.at_s, 2)
        except MissedError:
            one.wait, one.fault.missed = None, True

    def _advance(self, one: _UnderWay, now: float) -> None:
        fault, wait = one.fault, one.wait
        if isinstance(wait, float):
            if now >= one.since_s + wait:
                self._step(one)
        elif callable(wait) and wait():
            self._step(one)
        if fault.recovered_s is None:
            answered = self._world.traffic.answered_since(fault.mark, range(self._world.plan.application.partitions))
            fault.recovered_s = None if answered is None else round(max(0.0, answered - fault.at_s), 3)
        if one.wait is None and (fault.missed or fault.recovered_s is not None):
            self._under_way.remove(one)
        elif now > fault.at_s + DEADLINE_S:
            what = "answers do not flow" if fault.recovered_s is None else "what it struck is not back"
            self._found(f"{DEADLINE_S:.0f} s after {fault.kind} ({fault.target}): {what}")
            self._under_way.remove(one)
            one.course.close()  # type: ignore[attr-defined]  # courses are generators
