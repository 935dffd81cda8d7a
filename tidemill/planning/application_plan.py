"""A plan: what an application would change of a run, made against one state of that run."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tidemill.planning.difference import Difference

PlanVerdict = Literal["nothing", "changes", "refused"]
FORMAT = 1


class PlanFileError(ValueError):
    """A file is no plan, or one of another version: says so."""


@dataclass(frozen=True, slots=True)
class BackfillCost:
    """What is computed over the journal so far before the first vector of the new views.

    Attributes
    ----------
    records
        In the journal; None where nobody could be asked.
    rate_per_s
        Measured by folding archived records; None where there were too few.
    """

    columns: tuple[str, ...] = ()
    records: int | None = None
    rate_per_s: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long it takes; predictions wait for so long."""
        return None if self.records is None or not self.rate_per_s else self.records / self.rate_per_s


@dataclass(frozen=True, slots=True)
class ApplicationPlan:
    """What is to be done, to which run.

    Attributes
    ----------
    state
        Digest of what of the run the plan depends on: its application's content, and the champions of the models that change.
    content
        Digest of the changed application's content.
    before, after
        Application hashes.
    trial
        What the backtest of both found, by model; None without one.
    """

    app: str
    state: str
    content: str
    before: str
    after: str
    difference: Difference
    backfill: BackfillCost
    trial: Mapping[str, Any] | None = None
    notes: Sequence[str] = field(default=())

    @property
    def verdict(self) -> PlanVerdict:
        """Whether there is something to do that can be done."""
        if not self.difference.can_be_applied:
            return "refused"
        return "nothing" if self.difference.is_empty else "changes"

    def as_json(self) -> dict[str, Any]:
        """Return the plan as the file holds it."""
        values = {**asdict(self), "format": FORMAT, "verdict": self.verdict}
        values["backfill"]["seconds"] = self.backfill.seconds
        return values


def state_digest(content: str, champions: Mapping[str, str]) -> str:
    """Return the digest of a run's state.

    Parameters
    ----------
    champions
        Version by model, of those models that the change touches.
    """
    return hashlib.sha256(json.dumps([content, sorted(champions.items())]).encode()).hexdigest()


def planned_change(text: str) -> tuple[str, str]:
    """Return the state and the content that a plan's file was made for.

    Raises
    ------
    PlanFileError
    """
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise PlanFileError(f"expected a plan of format {FORMAT}, found format {values['format']}; make it anew with `tidemill plan --json`")
        return str(values["state"]), str(values["content"])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, PlanFileError):
            raise
        raise PlanFileError(
            f"expected what `tidemill plan --json` prints, found something else ({type(error).__name__}: {error}); make the plan anew"
        ) from error
