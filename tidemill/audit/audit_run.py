"""The audit of a run that was made by `up` or `replay`, or that stands behind given addresses."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tidemill.audit.application_spans import application_spans
from tidemill.audit.audit import AuditResult, Extent, audit, combined
from tidemill.audit.run_log import TopicLog
from tidemill.runs.application_copy import kept_applications
from tidemill.runs.instance import InstanceError, find_instance, reachable
from tidemill.runs.kafka_clients import connect
from tidemill.runs.settings import read_settings
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, SchemaRegistry
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
        had = {one.application_hash: one for one in map(load_plan, kept_applications(folder))}
        registry = ConfluentSchemaRegistry(infrastructure.registry_url)
        return audit_topics(plan, broker, registry, ArtifactStore(artifacts or instance.artifacts), had)


def audit_topics(plan: Plan, broker: Broker, registry: SchemaRegistry, artifacts: ArtifactStore, had: Mapping[str, Plan] | None = None) -> RunAudit:
    """Audit what a broker holds of an application, up to where scoring and features have come.

    Parameters
    ----------
    had
        Applications that the run had before, by their hash: what it answered then is held to them.

    Raises
    ------
    InstanceError
        The run had another application or version, which is not known here.
    """
    log = TopicLog(plan, broker, registry)
    extents: dict[int, Extent] = {}
    journal, covered, quarantined = 0, 0, 0
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
    had = {**(had or {}), plan.application_hash: plan}
    spans = {partition: application_spans(log.view_switches(partition), plan.application_hash) for partition in extents}
    results = []
    for digest in dict.fromkeys(span.application for own in spans.values() for span in own):
        if digest not in had:
            raise InstanceError(f"expected the applications that the run had, found no copy of {digest[:12]}: recompute it where its folder is whole")
        for number in range(max(len(own) for own in spans.values())):
            parts = {
                partition: replace(
                    extents[partition],
                    begin=span.begin,
                    shadow_scores=extents[partition].shadow_scores if span is own[-1] else None,
                    features=min(extents[partition].features, span.end),
                    scoring=min(extents[partition].scoring, span.end),
                )
                for partition, own in spans.items()
                if number < len(own) and (span := own[number]).application == digest
            }
            if parts:
                results.append(audit(had[digest], registry, artifacts, log, parts))
    return RunAudit(combined(results), journal, covered, quarantined)


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
    addresses = [*verdicts, *(progress.quarantined if progress else ())]
    return frozenset(offset for name, p, offset in addresses if (name, p) == (topic, partition))
