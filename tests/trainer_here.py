"""The trainings of `tidemill`, in this process: a process of their own takes seconds to start."""

from tidemill.services.retraining.processes.job import run
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult
from tidemill.services.retraining.processes.trainer import Trainer


class TrainerHere(Trainer):
    """Trainer that has its result when it has begun.

    Attributes
    ----------
    results
        Of all trainings so far.
    """

    def __init__(self) -> None:
        self._result: JobResult | None = None
        self.results: list[JobResult] = []

    def start(self, request: JobRequest) -> None:
        """Train."""
        self._result = run(request)
        self.results.append(self._result)

    def poll(self) -> JobResult | None:
        """Return its result."""
        return self._result
