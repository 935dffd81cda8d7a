"""All stages of an application in one process: stepped in turn until nothing moves."""

from collections.abc import Callable, Mapping

from tidemill.backtest.public_log import PublicLog
from tidemill.runs.watch import RunState
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.runner.runner import Runner


class InProcess:
    """What a replay watches, and what does the work when it is looked at.

    `poll` runs every stage to the end of what it can read, in the order of the data, until none has more: a model that is decided upon in a slice
    serves from the next one on, whatever the size of the steps. What every reader has behind it goes, so that the logs hold what one slice makes.

    Parameters
    ----------
    runners
        By the leading stage, in the order of the data.
    log
        Takes what the stages publish.
    is_training
        Tells whether retraining has a result to wait for.
    """

    def __init__(
        self, app: str, broker: MemoryBroker, runners: Mapping[str, Runner], log: PublicLog, is_training: Callable[[], bool] = lambda: False
    ) -> None:
        self._app, self._broker, self._runners, self._log, self._is_training = app, broker, runners, log, is_training
        for runner in runners.values():
            while not runner.tasks:
                runner.step()

    def poll(self, timeout_s: float = 0.0) -> RunState:
        """Deal with all there is; returns what is seen then."""
        while any([self._run(stage) for stage in self._runners]):
            pass
        self._log.read()
        self._broker.forget()
        return self._log.seen

    def _run(self, stage: str) -> bool:
        """Step a stage while it has work; True when it had any."""
        worked = committed = False
        # What a step has said may be a reason for the next one, without input: the training that was asked for while another was under way.
        while committed or self._broker.is_behind(f"{self._app}-{stage}") or (stage == "retraining" and self._is_training()):
            committed = self._runners[stage].step() and stage == "retraining"
            worked = True
        return worked

    def write_out(self) -> None:
        """Have what is buffered written."""
        for runner in self._runners.values():
            runner.write_out()

    def close(self) -> None:
        """Stop."""
        for runner in self._runners.values():
            runner.close()
