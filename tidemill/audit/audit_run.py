"""The audit of a run that was made by `up` or `replay`, or that stands behind given addresses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemill.audit.audit import AuditResult, Extent, audit
from tidemill.audit.run_log import TopicLog
from tidemill.runs.instance import InstanceError, find_instance, reachable
from tidemill.runs.kafka_clients import connect
from tidemill.runs.settings import read_settings
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.quarantine import Quarantined
from tidemill.shared.version import CODE_VERSION


@dataclass(frozen=True, slots=True)
class RunAudit:
    """What was found.

    Attributes
    ----------
    journal, covered
        Ends of the journal's partitions, and the offsets up to which features and scoring had both come, added up: that far it is audited.
    quarantined
        Records put aside after crashes; they have no vector or no prediction.
    """

    result: AuditResult
    journal: int
    covered: int
    quarantined: int


def audit_run(plan: Plan, folder: Path, environment: Mapping[str, str], artifacts: str | None = None) -> RunAudit:
    """Audit a run; its servers are started for it when they do not run.

    Raises
    ------
    InstanceError
        There is no such run, or another application or version made it.
    SettingsError
        The environment says something that cannot be used.
    """
    settings, instance = read_settings(), find_instance(folder, environment)
    with reachable(instance) as infrastructure:
        broker = connect(settings.kafka_at(infrastructure.bootstrap_servers))
        if not broker.partitions(plan.topics.journal):
            raise InstanceError(f"expected the topic {plan.topics.journal} at {infrastructure.bootstrap_servers}, found none: nothing ran there")
        return audit_topics(plan, broker, infrastructure.registry_url, ArtifactStore(artifacts or instance.artifacts))


def audit_topics(plan: Plan, broker: Broker, registry_url: str, artifacts: ArtifactStore) -> RunAudit:
    """Audit what a broker holds of an application, up to where scoring and features have come."""
    registry = ConfluentSchemaRegistry(registry_url)
    log = TopicLog(plan, broker, registry)
    extents, journal, covered, quarantined = {}, 0, 0, 0
    for partition in range(plan.application.partitions):
        # Downstream first: whatever scoring has covered, features had covered before.
        scoring, features = log.progress("scoring", partition), log.progress("features", partition)
        for progress in (features, scoring):
            check_versions(plan, progress)
        extent = Extent(
            features.covered_offset if features else 0,
            min(scoring.covered_offset, features.covered_offset) if scoring and features else 0,
            quarantined_offsets(features, log.quarantined("features", partition), plan.topics.journal, partition),
            quarantined_offsets(scoring, log.quarantined("scoring", partition), plan.topics.vectors, partition),
            scoring.outputs.get(plan.topics.shadow_scores, 0) if scoring else None,
        )
        extents[partition] = extent
        journal += log.journal_end(partition)
        covered += min(extent.features, extent.scoring)
        quarantined += len(extent.quarantined_journal) + len(extent.quarantined_vectors)
    return RunAudit(audit(plan, registry, artifacts, log, extents), journal, covered, quarantined)


def check_versions(plan: Plan, progress: Progress | None) -> None:
    """Raise InstanceError when a stage ran with another application or code than these."""
    if progress is None:
        return
    made = progress.versions
    for what, now in (("application", plan.application_hash), ("code", CODE_VERSION)):
        if made.get(what, now) != now:
            raise InstanceError(
                f"expected a run made with {what} {now[:12]}, found that {progress.stage} last ran with {made[what][:12]}:"
                f" recompute it with the {what} of that time"
            )


def quarantined_offsets(progress: Progress | None, verdicts: Quarantined, topic: str, partition: int) -> frozenset[int]:
    """Return the offsets set aside: those of the checkpoint's log, and those that an older version kept in the progress record only."""
    found = [*verdicts, *(progress.quarantined if progress else ())]
    return frozenset(offset for name, p, offset in found if (name, p) == (topic, partition))
