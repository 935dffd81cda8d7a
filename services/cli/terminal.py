"""What every command shares: where it prints, how it reads an application, how it says that something went wrong."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from shared.application.errors import ApplicationError

if TYPE_CHECKING:
    from services.cli.verdict import Finding
    from shared.application.plan import Plan

console = Console()
errors = Console(stderr=True)
Value = TypeVar("Value")
ApplicationFolder = Annotated[Path, typer.Argument(metavar="APPLICATION", help="Folder with app.yaml.", exists=True, file_okay=False)]
NOT_WELL = 3


def read_plan(application: Path) -> "Plan":
    """Read an application; a mistake ends the command with 2."""
    from shared.application.planning import load_plan

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
    from deploy.embedded.artifacts import ArtifactError
    from deploy.embedded.component import ComponentError
    from deploy.embedded.infrastructure import InfrastructureError
    from services.cli.coverage import CoverageTimeout
    from services.cli.file_rows import DataSetError
    from services.cli.instance import InstanceError
    from services.cli.replay import ReplayRefused
    from services.cli.settings import SettingsError
    from services.cli.supervisor import ServiceFailed
    from shared.models.artifacts import ArtifactError as ModelArtifactError
    from shared.observability.redaction import redacted
    from shared.streaming.broker import BrokerUnreachableError

    try:
        yield
    except (DataSetError, InstanceError, ReplayRefused, SettingsError) as problem:
        errors.print(redacted(str(problem)), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem
    except (
        CoverageTimeout,
        ServiceFailed,
        InfrastructureError,
        ComponentError,
        ArtifactError,
        ModelArtifactError,
        BrokerUnreachableError,
    ) as problem:
        errors.print(redacted(str(problem)), markup=False, soft_wrap=True)
        raise typer.Exit(1) from problem


def tell(found: "Sequence[Finding]", what: str) -> None:
    """Print what went wrong, one line each; what must not be ends the command with `NOT_WELL`."""
    for finding in found:
        errors.print(
            f"[{'red' if finding.fails else 'yellow'}]{'FAILED' if finding.fails else 'note'}[/] {escape(finding.text)}",
            soft_wrap=True,
            highlight=False,
        )
    wrong = sum(finding.fails for finding in found)
    if wrong:
        errors.print(f"{what} did not go as it must: {wrong} of the above (exit code {NOT_WELL}).", highlight=False)
        raise typer.Exit(NOT_WELL)
