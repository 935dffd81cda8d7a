"""Waiting until every stage has dealt with everything up to an instant."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from tidemill.runs.watch import RunState
from tidemill.shared.application.plan import Plan

WAITED_FOR = ("ingestion", "features", "scoring", "outcomes", "drift", "control", "retraining")
_STANDSTILL_LIMIT_S = 300.0


class CoverageTimeout(TimeoutError):
    """The pipeline stands still: says which stages are behind, and how far they are."""


class Looks(Protocol):
    """Whoever knows how far every stage has come (`tidemill.runs.watch.Watch`; a backtest)."""

    def poll(self, timeout_s: float = ...) -> RunState:
        """Return what is seen now, waiting for more for a moment."""
        ...


def wait_until_covered(
    plan: Plan,
    watch: Looks,
    instant: int,
    on_progress: Callable[[RunState], None],
    limit_s: float = _STANDSTILL_LIMIT_S,
    stages: Sequence[str] = WAITED_FOR,
) -> None:
    """Return when every stage has covered `instant` and scoring follows the last deployment.

    Parameters
    ----------
    instant
        Journal time, milliseconds.
    on_progress
        Called while waiting.
    limit_s
        How long no stage may come any further.
    stages
        Those that are waited for.

    Raises
    ------
    CoverageTimeout
    """
    last: Mapping[str, int] = {}
    deadline = time.monotonic() + limit_s
    while True:
        seen = watch.poll()
        on_progress(seen)
        behind = stages_behind(plan, seen, instant, stages)
        if not behind:
            return
        now = time.monotonic()
        if behind != last:
            last, deadline = behind, now + limit_s
        if now > deadline:
            raise CoverageTimeout(
                f"no stage came any further within {limit_s:.0f} s; expected all at journal time {instant}, behind are {dict(behind)}."
                " Are all services running, and is their ingestion on the clock this replay needs?"
            )


def stages_behind(plan: Plan, seen: RunState, instant: int, stages: Sequence[str] = WAITED_FOR) -> Mapping[str, int]:
    """Return the stages that have not covered an instant, with what they have."""
    partitions = plan.application.partitions
    # An instant itself is complete only for what lies before it.
    covered = {stage: seen.covered_ms(stage, partitions) for stage in stages}
    behind = {stage: time for stage, time in covered.items() if time < instant - 1}
    head = max((int(event["sequence"]) for event in seen.deployments), default=-1)
    applied = min((progress.deployment_sequence for (stage, _), progress in seen.progress.items() if stage == "scoring"), default=-1)
    return behind if applied >= head else {**behind, "scoring (deployment)": applied}
