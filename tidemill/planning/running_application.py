"""What a change is compared with: the application that a run has, exactly, and how far the run has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidemill.audit.run_log import TopicLog
from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.planning.application_plan import state_digest
from tidemill.planning.difference import Difference
from tidemill.runs.instance import InstanceError, read_instance
from tidemill.runs.kafka_clients import connect
from tidemill.runs.settings import read_settings
from tidemill.shared.application.application_files import content_digest
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.models.deployments import Lifecycles, ModelDeployment


@dataclass(frozen=True, slots=True)
class RunningApplication:
    """An application that runs, or one that is taken for it.

    Attributes
    ----------
    folder
        Where its content lies.
    content
        Digest of that.
    champions
        By model, as the lifecycle log has it; none where no run could be asked.
    journal_records
        None where no run could be asked.
    lake, artifacts
        Addresses of its archive and its models; empty where there is no run.
    """

    folder: Path
    plan: Plan
    content: str
    champions: Mapping[str, ModelDeployment] = field(default_factory=dict)
    journal_records: int | None = None
    lake: str = ""
    artifacts: str = ""

    def state(self, difference: Difference) -> str:
        """Return the digest of what a change depends on: the content, and the champions of models that it touches."""
        touched = {change.name for change in difference.changes if change.section == "models"}
        return state_digest(self.content, {name: one.version for name, one in self.champions.items() if name in touched})


def of_folder(folder: Path) -> RunningApplication:
    """Take a folder for what runs: in CI, the application of the main branch."""
    return RunningApplication(folder, load_plan(folder), content_digest(folder))


def of_run(run: Path) -> RunningApplication:
    """Return the application that a run has; its broker is asked while it goes on.

    Raises
    ------
    InstanceError
        There is no such run, or it has no content of its own.
    """
    instance = read_instance(run)
    if instance is None:
        raise InstanceError(
            f"expected a run in {run}, found none; start one with `tidemill up`, name its folder with --run, or compare with --against"
        )
    if not instance.content:
        raise InstanceError(
            f"{run}: its run was started by a version that kept no copy of the application; stop it and start it again with `tidemill up`"
        )
    folder = Path(instance.content)
    plan, content = load_plan(folder), content_digest(folder)
    lake = str(run / "lake")
    if not instance.runs:
        return RunningApplication(folder, plan, content, {}, None, lake, instance.artifacts)
    broker = connect(read_settings().kafka_at(instance.addresses[VARIABLES[0]]))
    log = TopicLog(plan, broker, ConfluentSchemaRegistry(instance.addresses[VARIABLES[1]]))
    records = sum(log.journal_end(partition) for partition in range(plan.application.partitions))
    champions = {name: one.champion for name, one in Lifecycles().follow(log.deployments()).models.items() if one.champion is not None}
    return RunningApplication(folder, plan, content, champions, records, lake, instance.artifacts)
