"""A trainer that trains nothing: data is run through the stages for its vectors and labels alone."""

from tidemill.services.retraining.processes.job_files import JobRequest, JobResult, version_name
from tidemill.services.retraining.processes.trainer import Trainer


class NoTrainer(Trainer):
    """Trainer whose every training has failed at once."""

    def __init__(self) -> None:
        self._version = ""

    def start(self, request: JobRequest) -> None:
        """Take note of what was asked for."""
        self._version = version_name(request.retraining)

    def poll(self) -> JobResult | None:
        """Return that nothing was trained."""
        return JobResult(finished=False, reason="nothing is trained: the data is being archived for experiments", version=self._version)
