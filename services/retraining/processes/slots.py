"""Places for trainings: so many run at once, one of each decision."""

from collections.abc import Collection, Sequence
from typing import Any

from tidemill.services.retraining.processes.job_files import JobNews, JobRequest, JobResult
from tidemill.services.retraining.processes.trainer import Trainer


class Slots:
    """Which trainer has which decision's training; outlives the incarnations of the task, so that a training gets no twin.

    Parameters
    ----------
    trainers
        One for each training that may run at once.
    tells_places
        Whether those that wait are told of: they wait by the machine's speed, so a backtest, which is to say the same each time, tells of none.

    Attributes
    ----------
    places
        How many may run at once.
    """

    def __init__(self, trainers: Sequence[Trainer], *, tells_places: bool = False) -> None:
        self._free = list(trainers)
        self._taken: dict[str, Trainer] = {}
        self._asked: dict[str, dict[str, Any]] = {}
        self.places, self.tells_places = len(trainers), tells_places

    @property
    def running(self) -> list[dict[str, Any]]:
        """What was asked for by the trainings that run (`tidemill.Retraining`)."""
        return [self._asked[decision] for decision in self._taken]

    def retain(self, decisions: Collection[str]) -> None:
        """Give places free whose decision nobody asks about any more: somebody else has answered it."""
        for decision in self._taken.keys() - set(decisions):
            self._free.insert(0, self._taken.pop(decision))

    def takes(self, decision: str) -> bool:
        """Whether a training of a decision can begin, or go on."""
        return decision in self._taken or bool(self._free)

    def start(self, request: JobRequest) -> None:
        """Begin a training, or go on with the same."""
        decision = request.retraining["decision_id"]
        if decision not in self._taken:
            if not self._free:
                raise RuntimeError(f"expected a free place for the training {decision}, all have one: ask `takes` first")
            self._taken[decision] = self._free.pop(0)
        self._asked = {other: asked for other, asked in self._asked.items() if other in self._taken} | {decision: request.retraining}
        self._taken[decision].start(request)

    def look(self, decision: str) -> tuple[JobResult | None, list[JobNews]]:
        """Return the result, with which the place is free, or None while it runs; and what has happened since the last look."""
        trainer = self._taken[decision]
        result, news = trainer.poll(), trainer.news()
        if result is not None:
            self._free.insert(0, self._taken.pop(decision))
        return result, news
