"""Estimators of the application's own, tried in a process of their own: one that hangs or crashes takes nobody with it."""

import json
import tempfile
from pathlib import Path

from tidemill.services.retraining.domain.families.family import FamilyError
from tidemill.services.retraining.processes.child_pool import ChildDeath, ChildPool, ChildTask
from tidemill.shared.application.application_files import content_digest
from tidemill.shared.application.families import is_own
from tidemill.shared.application.plan import Plan
from tidemill.shared.models.training_environment import training_environment
from tidemill.shared.runner.atomic_file import replace_text

LONGEST_S = 120.0
"""For all of an application's own families together: each fits 60 rows of three columns."""


def try_own_families(plan: Plan, folder: Path, *, explained: bool = False, longest_s: float = LONGEST_S) -> None:
    """Try what a model's training names as ``module:factory``, in a child process, within a time.

    Parameters
    ----------
    explained
        Whether models that explain their predictions must be of families that can be taken apart.
    longest_s
        Seconds after which the child is ended.

    Raises
    ------
    FamilyError
        One cannot be trained, served or explained, hangs, or ends its process: bad configuration, which stops before the first record.
    """
    own = _own(plan)
    if not own:
        return
    problems: list[str] = []

    def done(_task: ChildTask, said: str | ChildDeath) -> None:
        problems.append(said if isinstance(said, str) else f"{_death(said, longest_s)} ({'; '.join(own)}); it said last: {said.last_line}")

    with tempfile.TemporaryDirectory(prefix="tidemill-families-") as made:
        request = json.dumps({"application": str(folder.absolute()), "explained": explained})
        task = ChildTask("families", request, Path(made) / "problem")
        ChildPool("tidemill.services.retraining.processes.family_trial", Path(made), 1, longest_s=longest_s).run([task], done)
    if problems[0]:
        raise FamilyError(problems[0])


def try_own_families_once(plan: Plan, folder: Path, verdict: Path) -> None:
    """As `try_own_families`, unless a process before has passed the same content with the same code and libraries: a restart waits for no child.

    Parameters
    ----------
    verdict
        File that names what passed last. Each training tries its families again, so a file that is lost or wrong costs no more than time.
    """
    if not _own(plan):
        return
    subject = json.dumps({"content": content_digest(folder), **training_environment()}, sort_keys=True)
    if verdict.is_file() and verdict.read_text(encoding="utf-8") == subject:
        return
    try_own_families(plan, folder)
    replace_text(verdict, subject)


def _own(plan: Plan) -> list[str]:
    return [f"models.{model.name}: {family}" for model in plan.models.values() for family in model.settings.training.families if is_own(family)]


def _death(death: ChildDeath, longest_s: float) -> str:
    if death.exit_code is None:
        return f"expected estimators that are made and fit 60 rows within {longest_s:g} s, found one that hangs or takes longer"
    return f"expected estimators that are made and fit 60 rows, found one that ended its process (exit code {death.exit_code})"
