"""What every command shares: where it prints, how it reads an application, how it says that something went wrong."""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape

from tidemill.runs.safe_console import SafeConsole
from tidemill.shared.application.errors import ApplicationError

if TYPE_CHECKING:
    from tidemill.runs.verdict import RunProblem
    from tidemill.shared.application.plan import Plan

console = SafeConsole()
errors = SafeConsole(stderr=True)
Value = TypeVar("Value")
ApplicationFolder = Annotated[Path, typer.Argument(metavar="APPLICATION", help="Folder with app.yaml.", exists=True, file_okay=False)]
NOT_WELL = 3
_FULL = (errno.ENOSPC, errno.EDQUOT)


def read_plan(application: Path) -> "Plan":
    """Read an application; a mistake ends the command with 2."""
    from tidemill.shared.application.planning import load_plan

    try:
        return load_plan(application)
    except ApplicationError as problem:
        errors.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem


def checked(option: str, make: Callable[[], Value]) -> Value:
    """Make an option's value; what is wrong with it ends the command with its usage."""
    try:
        return make()
    except ValueError as problem:
        raise typer.BadParameter(str(problem), param_hint=option) from problem


@contextmanager
def failures() -> Iterator[None]:
    """Say what went wrong in one paragraph: 2 when something does not fit together, 1 when the run failed."""
    from tidemill.deploy.embedded.artifacts import ServerArchiveError
    from tidemill.deploy.embedded.component import ComponentError
    from tidemill.deploy.embedded.infrastructure import InfrastructureError
    from tidemill.replay.file_rows import DataSetError
    from tidemill.replay.replay import ReplayRefused
    from tidemill.runs.coverage import CoverageTimeout
    from tidemill.runs.former_requests import RunEndedError
    from tidemill.runs.instance import InstanceError
    from tidemill.runs.settings import SettingsError
    from tidemill.runs.supervisor import ServiceFailed
    from tidemill.shared.log.broker import BrokerUnreachableError, FencedError
    from tidemill.shared.log.errors import TransientError
    from tidemill.shared.models.artifacts import ArtifactError as ModelArtifactError
    from tidemill.shared.observability.redaction import redacted

    try:
        yield
    except (DataSetError, InstanceError, ReplayRefused, SettingsError) as problem:
        errors.print(redacted(str(problem)), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem
    except (
        CoverageTimeout,
        RunEndedError,
        ServiceFailed,
        InfrastructureError,
        ComponentError,
        ServerArchiveError,
        ModelArtifactError,
        BrokerUnreachableError,
        TransientError,
    ) as problem:
        errors.print(redacted(str(problem)), markup=False, soft_wrap=True)
        raise typer.Exit(1) from problem
    except FencedError as problem:
        errors.print("Somebody else has begun the same; what was done until then is done, and nothing twice.", markup=False, soft_wrap=True)
        raise typer.Exit(1) from problem
    except OSError as problem:
        if problem.errno in _FULL:
            errors.print(f"expected room on the disk, found none: {problem.strerror}", markup=False, soft_wrap=True)
            raise typer.Exit(1) from problem
        if problem.filename is None:
            raise
        words = f"expected a path that can be read or written, found {problem.filename}: {problem.strerror}"
        errors.print(redacted(words), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem


def tell(problems: "Sequence[RunProblem]", what: str) -> None:
    """Print what went wrong, one line each; what must not be ends the command with `NOT_WELL`."""
    for finding in problems:
        errors.print(
            f"[{'red' if finding.fails else 'yellow'}]{'FAILED' if finding.fails else 'note'}[/] {escape(finding.text)}",
            soft_wrap=True,
            highlight=False,
        )
    wrong = sum(finding.fails for finding in problems)
    if wrong:
        errors.print(f"{what} did not go as it must: {wrong} of the above (exit code {NOT_WELL}).", highlight=False)
        raise typer.Exit(NOT_WELL)
