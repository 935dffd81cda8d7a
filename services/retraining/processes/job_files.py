"""What goes to a training's process and what comes back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tidemill.shared.instant import utc

PASSING = 75
"""Exit code of a training that was ended by something that may pass (``EX_TEMPFAIL`` of sysexits.h)."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a training needs to know: where things lie, what was asked for, and who serves now.

    Attributes
    ----------
    retraining
        The public record that asked for it.
    max_duration_ms
        After which it is ended.
    champion, predecessor
        SHA-256 of the serving model and of the champion before it; empty when there is none.
    recipe, admitted
        Text of the serving model's recipe, empty when unknown, and whether its refits go out after light checks.
    searched_ms
        Of `Admissions`: the instant of the last search, or what stands for it.
    spent
        Instant and level of each look of the last year.
    versions
        Delta version by table, of a training that is made again; the latest ones where there is none.
    classes
        Of a model that learns them: those that its versions know until now.
    retries, retry_delay_ms
        How often a training is begun again that something ended which may pass; how long after the first time, and twice as long after each
        further one.
    """

    application: str
    lake: str
    artifacts: str
    retraining: dict[str, Any]
    champion: str
    predecessor: str
    max_duration_ms: int = 3_600_000
    recipe: str = ""
    admitted: bool = False
    searched_ms: int = -1
    spent: list[list[float]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    retries: int = 0
    retry_delay_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class JobNews:
    """What happens while a training is open, as its public account tells it.

    Attributes
    ----------
    event
        ``step``: it has come so far; ``retrying``: something ended it that may pass, and it is begun again.
    """

    event: Literal["step", "retrying"]
    reason: str
    details: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What came of it. One that did not finish has a reason and a version only.

    Attributes
    ----------
    skipped
        It did not finish because there was nothing to learn.
    passed
        The candidate may replace the champion.
    roll_back
        The predecessor should.
    record
        What the registry is told.
    classes
        Of a model that learns them: those that the candidate knows; None of any other.
    cpu_s
        Processor time of all its attempts, in seconds; 0 where it was not measured. It says nothing of the model, and no verdict rests on it.
    """

    finished: bool
    reason: str
    version: str
    skipped: bool = False
    passed: bool = False
    roll_back: bool = False
    artifact_sha256: str = ""
    artifact_uri: str = ""
    threshold: float = 0.5
    figures: dict[str, float] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    cpu_s: float = 0.0
    classes: list[str] | None = None


def progress_file(request: Path) -> Path:
    """Return where a training says how far it has come: step, parts done, parts in all."""
    return request.with_name(f"{request.stem}.progress.json")


def trials_folder(request: Path) -> Path:
    """Return where a training keeps what its search has computed, for an attempt that takes its place."""
    return request.with_name(f"{request.stem}.trials")


def version_name(retraining: dict[str, Any]) -> str:
    """Return the version a request's model gets: the day it was asked for and the decision."""
    day = utc(retraining["journal_time"]).strftime("%Y-%m-%d")
    return f"{day}-{retraining['decision_id'][:6]}"
