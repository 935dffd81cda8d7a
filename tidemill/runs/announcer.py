"""Says what goes wrong while an application runs: each kind of fault at its first record and at every doubling, not for each."""

import time
from collections.abc import Callable, Mapping

from tidemill.runs.verdict import DECLARED, QUARANTINED, RunProblem, Standstill, findings, floods, rejected_of
from tidemill.runs.watch import RunState
from tidemill.shared.application.plan import Plan


class Announcer:
    """Compares what is seen with what has been said.

    Parameters
    ----------
    say
        Prints one line.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._said: dict[tuple[str, ...], int] = {}
        self._trainings = 0
        self._standstill = Standstill()
        self._flooded: Mapping[tuple[str, int], str] = {}
        self._standing: Mapping[str, float] = {}

    def look(self, seen: RunState, restarts: Mapping[str, int], now_s: float | None = None) -> None:
        """Say what is new: dead letters, failed trainings, processes started again, floods, stages that stand still or go on."""
        for kind, count in seen.rejected.items():
            if self._doubled(("rejected", *kind), count):
                stage, topic, reason = kind
                what = f"set aside because they crash {stage}" if reason == QUARANTINED else f"rejected by {stage} as {reason}"
                declared = " (declared)" if reason in DECLARED else ""
                self._say(f"{count:,} so far of {topic} {what}{declared}, the first: {seen.examples[kind]}")
        for record in seen.retraining[self._trainings :]:
            if record["event"] == "failed":
                self._say(f"a training of {record['model']} failed: {record['reason']}")
        self._trainings = len(seen.retraining)
        for service, count in restarts.items():
            if self._doubled(("restarts", service), count):
                self._say(f"service {service} has ended and was started again, {count} times so far; see its log")
        flooded = floods(self._plan, seen)
        for (stream, partition), state in flooded.items():
            if self._flooded.get((stream, partition)) != state:
                what = rejected_of(self._plan, seen, stream)
                way = f"; resume it with: tidemill resume APPLICATION {stream}" if state == "paused" else ""
                self._say(f"stream {stream} is {state} in partition {partition}: {what}{way}")
        for stream, partition in self._flooded.keys() - flooded.keys():
            self._say(f"stream {stream} goes on in partition {partition}")
        self._flooded = flooded
        standing = self._standstill.stages(seen, time.monotonic() if now_s is None else now_s)
        for stage in standing.keys() - self._standing.keys():
            self._say(f"stage {stage} has stood still for {standing[stage]:.0f} s while others went on; see its log")
        for stage in self._standing.keys() - standing.keys():
            self._say(f"stage {stage} goes on")
        self._standing = standing

    def summary(self, seen: RunState) -> list[RunProblem]:
        """Return what went wrong altogether; rejections are their publishers' fault and do not fail a run that serves."""
        standing = [RunProblem(f"stage {stage} stood still for {seconds:.0f} s at the end", True) for stage, seconds in self._standing.items()]
        return [*findings(self._plan, seen, allowed=None), *standing]

    def _doubled(self, what: tuple[str, ...], count: int) -> bool:
        before = self._said.get(what, 0)
        if count.bit_length() <= before.bit_length():
            return False
        self._said[what] = count
        return True
