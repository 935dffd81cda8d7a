"""A run that has been, once more in this process: the same journal, the same switches of models, so the same predictions and outcomes."""

from collections.abc import Callable, Sequence

from tidemill.audit.audit_run import check_versions, quarantined_offsets
from tidemill.audit.run_log import TopicLog, without
from tidemill.backtest.in_process import InProcess
from tidemill.backtest.public_log import PublicLog
from tidemill.backtest.recorded_run import END, JournalPieces, Switch
from tidemill.backtest.stages import StageWorld, archive_runner, drift_runner, explanations_runner, outcomes_runner, path_runner
from tidemill.runs.watch import RunState, record_codec
from tidemill.shared.application.plan import Plan
from tidemill.shared.log.records import Records
from tidemill.shared.memory.broker import MemoryBroker


def rerun(
    world: StageWorld,
    broker: MemoryBroker,
    run: TopicLog,
    switches: Sequence[Switch],
    public: PublicLog,
    on_progress: Callable[[int, int, RunState], None],
    skipped: Callable[[int], frozenset[int]] = lambda _: frozenset(),
    *,
    explains: bool = False,
) -> None:
    """Give a run's journal to features, scoring, outcomes and drift, and let scoring follow each deployment and revision where the run did.

    Nothing is ingested, and nothing is trained: that is decided already.

    Parameters
    ----------
    world
        Its registry is the run's: what is written holds the schemas' ids.
    on_progress
        Called with journal time, the records given so far, and what is seen.
    skipped
        Journal offsets of a partition that the run put aside after crashes.
    explains
        Whether predictions are explained.
    """
    plan, partitions = world.plan, range(world.plan.application.partitions)
    runners = {
        "features": path_runner(world, raw=False),
        "outcomes": outcomes_runner(world),
        **({"explanations": explanations_runner(world)} if explains else {}),
        "drift": drift_runner(world, revises=False),
        "archive": archive_runner(world),
    }
    stages = InProcess(plan.application.app, broker, runners, public)
    pieces = JournalPieces(run, partitions, lambda records: broker.copy(without(records, skipped(records.partition))))
    codecs = {plan.topics.deployments: "Deployment", plan.topics.revisions: "Revision"}
    writers = {topic: record_codec(world.registry, topic, name) for topic, name in codecs.items()}
    for partition in partitions:
        for records in run.ingestion(partition):
            broker.copy(records)
    sink, given = broker.sink(), 0

    def deal_with(records: Records) -> None:
        nonlocal given
        given += len(records)
        world.clock.reach(int(records.timestamps_ms.max()))
        on_progress(world.clock.now_ms(), given, stages.poll())

    for switch in switches:
        pieces.give_until(switch.offsets, deal_with)
        stages.poll()
        topic = plan.topics.revisions if switch.is_revision else plan.topics.deployments
        sink.publish(topic, str(switch.event["model"]).encode(), writers[topic].encode(dict(switch.event)))
        stages.poll()
    pieces.give_until(dict.fromkeys(partitions, END), deal_with)
    stages.poll()
    stages.write_out()
    stages.close()


def skipped_offsets(plan: Plan, log: TopicLog) -> Callable[[int], frozenset[int]]:
    """Return which journal records features put aside, by partition.

    Raises
    ------
    InstanceError
        The run was made with another application or version.
    """
    skipped = {}
    for partition in range(plan.application.partitions):
        features, scoring = log.progress("features", partition), log.progress("scoring", partition)
        for progress in (features, scoring):
            check_versions(plan, progress)
        skipped[partition] = quarantined_offsets(features, log.quarantined("features", partition), plan.topics.journal, partition)
    return skipped.__getitem__
