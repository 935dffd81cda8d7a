"""What went wrong in a run, by name: records refused or set aside, trainings that failed, requests nobody answered, stages that stand still."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.runs.watch import RunState
from tidemill.shared.application.plan import Plan

DECLARED = ("expectation", "non_finite")
QUARANTINED = "quarantined"
STANDSTILL_S = 30.0
# The archive covers what it has appended to the lake, every 30 s when little comes: one that works moves twice in this time.
_LONGER_S = {"archive": 90.0}
_TRAINING_ENDS = frozenset({"finished", "failed", "refused"})
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class RunProblem:
    """One sentence; `fails` where the run is not what its user must think it is."""

    text: str
    fails: bool


def findings(plan: Plan, seen: RunState, *, requests: int | None = None, allowed: int | None = 0) -> list[RunProblem]:
    """Name what went wrong.

    Parameters
    ----------
    requests
        Requests that were published for an answer; None when nobody knows.
    allowed
        So many records may be refused for other reasons than the application's own expectations; None: any number.
    """
    return [*_refused(seen, allowed), *_floods(plan, seen), *_trainings(seen.retraining), *_unanswered(plan, seen, requests)]


def _refused(seen: RunState, allowed: int | None) -> list[RunProblem]:
    problems = []
    undeclared = sum(count for (_, _, reason), count in seen.rejected.items() if reason not in (*DECLARED, QUARANTINED))
    for (stage, topic, reason), count in sorted(seen.rejected.items(), key=lambda item: -item[1]):
        what = "set aside because they crash" if reason == QUARANTINED else f"rejected by {stage} as {reason}:"
        text = f"{count:,} {'record' if count == 1 else 'records'} of {topic} {what} {stage if reason == QUARANTINED else ''}".rstrip()
        if example := seen.examples.get((stage, topic, reason)):
            text += f" (the first: {example})"
        fails = reason == QUARANTINED or (reason not in DECLARED and allowed is not None and undeclared > allowed)
        problems.append(RunProblem(text, fails))
    return problems


def floods(plan: Plan, seen: RunState) -> dict[tuple[str, int], str]:
    """Return what is paused or throttled because most of it is refused, by (stream, partition): ``paused`` or ``throttled``."""
    names = {stream.topic: name for name, stream in plan.streams.items()}
    return {
        (names[topic], partition): "paused" if flow.is_paused else "throttled"
        for (stage, partition), progress in sorted(seen.progress.items())
        if stage == "ingestion"
        for topic, flow in progress.flows.items()
        if topic in names and (flow.is_paused or flow.throttled)
    }


def rejected_of(plan: Plan, seen: RunState, stream: str) -> str:
    """Say how many records of a stream have ever been refused, and why."""
    total: Counter[str] = Counter()
    for (stage, _), progress in seen.progress.items():
        if stage == "ingestion" and (flow := progress.flows.get(plan.streams[stream].topic)) is not None:
            total.update(flow.rejected)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in total.most_common(3))
    return f"{total.total():,} of its records were rejected so far ({reasons})"


def _floods(plan: Plan, seen: RunState) -> list[RunProblem]:
    partitions_of: dict[tuple[str, str], list[str]] = {}
    for (stream, partition), state in floods(plan, seen).items():
        partitions_of.setdefault((stream, state), []).append(str(partition))
    return [
        RunProblem(
            f"stream {stream} is {state} in partition {', '.join(partitions)}: {rejected_of(plan, seen, stream)}"
            + (f"; resume it with: tidemill resume APPLICATION {stream}" if state == "paused" else ""),
            state == "paused",
        )
        for (stream, state), partitions in partitions_of.items()
    ]


def _trainings(records: Sequence[Mapping[str, Any]]) -> list[RunProblem]:
    """Failed trainings by model and reason; a model none of whose trainings came to an end fails the run."""
    failed, finished = Counter[tuple[str, str]](), Counter[str]()
    for record in records:
        if record["event"] == "failed":
            failed[record["model"], record["reason"].splitlines()[0][:_LONGEST] if record["reason"] else ""] += 1
        finished[record["model"]] += record["event"] == "finished"
    return [
        RunProblem(f"{count:,} {'training' if count == 1 else 'trainings'} of {model} failed: {reason}", not finished[model])
        for (model, reason), count in failed.items()
    ]


def _unanswered(plan: Plan, seen: RunState, requests: int | None) -> list[RunProblem]:
    answered = seen.produced("scoring", plan.topics.predictions)
    if requests and plan.models and not answered:
        return [RunProblem(f"{requests:,} requests were published and none was answered", True)]
    return []


@dataclass(slots=True)
class Standstill:
    """Notices stages that come no further although another has.

    Attributes
    ----------
    since
        By stage, what it had covered and when (monotonic seconds) it came there.
    """

    since: dict[str, tuple[int, float]] = field(default_factory=dict)

    def stages(self, seen: RunState, now_s: float) -> dict[str, float]:
        """Return the seconds for which each stage that is behind has not moved, where that is long.

        Retraining covers nothing beyond the oldest training that is under way, which ends by its own `training.max_duration`.
        """
        covered: dict[str, int] = {}
        for (stage, _), progress in seen.progress.items():
            covered[stage] = min(progress.covered_time, covered.get(stage, progress.covered_time))
        trains = _trains(seen.retraining)
        for stage, time_ms in covered.items():
            if self.since.get(stage, (None, 0.0))[0] != time_ms or (stage == "retraining" and trains):
                self.since[stage] = time_ms, now_s
        newest = max(covered.values(), default=0)
        waited = {stage: now_s - self.since[stage][1] for stage, time_ms in covered.items() if time_ms < newest}
        return {stage: seconds for stage, seconds in waited.items() if seconds > _LONGER_S.get(stage, STANDSTILL_S)}


def _trains(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a training has begun and not ended."""
    last = {record["decision_id"]: record["event"] for record in records}
    return any(event not in _TRAINING_ENDS for event in last.values())
