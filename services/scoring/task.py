"""Scoring as a task: vectors in, predictions and shadow scores out; models switch between steps, and every record says which switch it follows."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from tidemill.services.scoring.deployed_models import DeployedModels
from tidemill.services.scoring.domain.core import Predictions, ScoringCore
from tidemill.services.scoring.domain.latency import LATENCY, LatencySwitch
from tidemill.services.scoring.domain.scoring_times import LastRequest, ScoringTimes
from tidemill.services.scoring.domain.serving import Serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_codec, message_encoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.packed import taken
from tidemill.shared.log.records import Checkpoint, Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.merge.merge import MergeInput, Released
from tidemill.shared.merge.merging_task import MergingTask, decoded
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.clock_steps import STEP_MS, HostClock
from tidemill.shared.runner.task import StepContext, TaskInputs
from tidemill.shared.version import CODE_VERSION

_UPSTREAM = "features"
_COUNTS, _REVISIONS = b"counts", b"revisions"
_LOG = logging.getLogger(__name__)


def task_inputs(plan: Plan) -> TaskInputs:
    """Where scoring's records come from."""
    inputs = (plan.topics.vectors, plan.topics.progress(_UPSTREAM))
    who_serves = (plan.topics.deployments, plan.topics.revisions)
    return TaskInputs(
        inputs,
        broadcast=who_serves,
        read_first=who_serves,
        sole_outputs=(plan.topics.predictions, plan.topics.shadow_scores, plan.topics.scoring_times),
    )


class ScoringTask(MergingTask):
    """Answers the requests of one partition.

    Its state is a fold of the whole deployments log, read again at every start, each model's newest revision, and how many vectors it has read. A
    champion that cannot be loaded does not stop the stream: requests get the default with the reason ``model_failed``, and it is tried again
    (`DeployedModels`, processing time: every prediction says which model answered it, so a replay need not know when it came back). A challenger
    that cannot be loaded costs no answer: the champion gives it, and the shadow score says why there is none of the challenger's.

    Parameters
    ----------
    live
        Journal time is processing time, so that a request's wait can be measured and held against `fallback.latency_limit`.
    clock_ns
        Monotonic, in nanoseconds: measures how long champions and challengers take to score. None, as in replays: that is not measured.
    """

    def __init__(
        self,
        plan: Plan,
        registry: SchemaRegistry,
        artifacts: ArtifactStore,
        partition: int,
        metrics: Metrics | None = None,
        *,
        live: bool = True,
        clock_ns: Callable[[], int] | None = None,
    ) -> None:
        topics = plan.topics
        told = topics.progress(_UPSTREAM)
        super().__init__([MergeInput(topics.vectors, 0, (partition,), _UPSTREAM)], {told: message_codec(registry, told, "progress")})
        self._plan = plan
        self._partition = partition
        self._core = ScoringCore(plan, clock_ns=clock_ns)
        limits = {name: model.settings.stages.limits.scoring_time for name, model in plan.models.items()}
        self._times = ScoringTimes({name: limit.window for name, limit in limits.items() if limit is not None})
        self._deployments = TopicPartition(topics.deployments, 0)
        self._revisions = TopicPartition(topics.revisions, 0)
        self._vectors = ColumnDecoder(registry, plan.vector_schema)
        self._predictions = message_encoder(registry, topics.predictions, "prediction")
        self._shadow_scores = message_encoder(registry, topics.shadow_scores, "shadow-score")
        self._scoring_time = message_codec(registry, topics.scoring_times, "scoring-time")
        self._deployment = message_codec(registry, topics.deployments, "deployment")
        self._revision = message_codec(registry, topics.revisions, "revision")
        self._models = DeployedModels(plan, artifacts)
        self._host_clock = HostClock(STEP_MS)
        self._latency = LatencySwitch(plan.models.values() if live else ())
        self._metrics = metrics
        self._degraded: Counter[tuple[str, str]] = Counter()
        self._read_deployments = self._read_revisions = 0
        self._written = self._written_revisions = b""

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load how many vectors had been read, and each model's newest revision."""
        for entry in entries:
            if entry.key == _COUNTS and entry.value is not None:
                self._written = entry.value
                self.merge.restore(entry.value)
            elif entry.key == _REVISIONS and entry.value is not None:
                self._written_revisions, state = entry.value, json.loads(entry.value)
                self._read_revisions, self._models.newest = state["read"], state["newest"]

    def replay(self, inputs: Sequence[Records]) -> None:
        """Follow the deployments again and count what had been answered; the answers are out already, so nothing is kept."""
        super().replay(inputs)
        self.finish_replay()

    def refold(self, released: Released) -> None:
        """Nothing: an answer leaves no state."""

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Switch models if the log says so, then answer."""
        self.read(inputs)
        self._models.try_again(context.elapsed_ms)
        emissions: list[Emission] = []
        released = self.merge.release()
        runs = [(run, *run.payload) for run in released.runs()]
        oldest_ms = [int64_ms(batch.column("_journal_time"))[run.rows].min() for run, batch, _ in runs if len(run.rows)]
        serving = self._in_time(oldest_ms, self._now_ms(context, oldest_ms))
        for run, batch, keys in runs:
            if len(run.rows) < batch.num_rows or not (run.rows == np.arange(len(run.rows))).all():
                batch, keys = batch.take(run.rows), taken(keys, run.rows)
            answers = self._core.process(batch, serving, keys)
            self._count(answers.batch)
            emissions += self._emissions(answers, keys)
            if answers.times:
                emissions += self._measured(answers, batch)
        self.cover()
        return Step(emissions, self._positions(), self.coverage, self._models.head)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Write the count of vectors and the newest revisions, if they have changed; the deployments log is always read from its beginning."""
        counts = self.merge.state()
        changed = [StateEntry(_COUNTS, counts)] if counts != self._written else []
        self._written = counts
        if self._read_revisions:
            revisions = json.dumps({"read": self._read_revisions, "newest": self._models.newest}).encode()
            changed += [StateEntry(_REVISIONS, revisions)] if revisions != self._written_revisions else []
            self._written_revisions = revisions
        return Checkpoint(changed, {**self.merge.positions(), self._deployments: 0, self._revisions: self._read_revisions})

    def committed(self) -> None:
        """Count the answers without a model, now that they are out."""
        if self._metrics is not None and self._degraded:
            self._metrics.count_degraded(self._degraded)
        self._degraded.clear()

    def versions(self) -> Mapping[str, str]:
        """Code and application."""
        return {"code": CODE_VERSION, "application": self._plan.application_hash}

    def _positions(self) -> dict[TopicPartition, int]:
        read = {self._deployments: self._read_deployments, self._revisions: self._read_revisions}
        return {**self.merge.positions(), **{topic: position for topic, position in read.items() if position}}

    def take(self, records: Records) -> None:
        """Follow the deployments, or add vectors."""
        if records.topic == self._deployments.topic:
            self._follow(records)
            return
        if records.topic == self._revisions.topic:
            self._revise(records)
            return
        batch = decoded(self._vectors, records, _UPSTREAM)
        self.merge.add(
            records.topic,
            records.partition,
            offsets=records.offsets,
            journal_time=int64_ms(batch.column("_journal_time")),
            journal_offset=int64_ms(batch.column("_journal_offset")),
            payload=(batch, records.keys),
        )

    def _follow(self, records: Records) -> None:
        """Follow the lifecycle log."""
        self._models.follow(self._deployment.decode(value) for value in records.values if value is not None)
        self._read_deployments = int(records.offsets[-1]) + 1

    def _revise(self, records: Records) -> None:
        """Follow the revisions."""
        self._models.revise(self._revision.decode(value) for value in records.values if value is not None)
        self._read_revisions = int(records.offsets[-1]) + 1

    def _emissions(self, answers: Predictions, keys: Sequence[bytes | None]) -> list[Emission]:
        """Return predictions, and shadow scores where there are challengers, under the keys of their requests."""
        topics, partition = self._plan.topics, self._partition
        batch = self._predictions.conform(answers.batch)
        emissions = [Emission(topics.predictions, partition, taken(keys, answers.requests), self._predictions.encode(batch), columns=batch)]
        if answers.shadow_scores is not None:
            batch = self._shadow_scores.conform(answers.shadow_scores)
            emissions.append(
                Emission(topics.shadow_scores, partition, taken(keys, answers.shadowed), self._shadow_scores.encode(batch), columns=batch)
            )
        return emissions

    def _measured(self, answers: Predictions, vectors: pa.RecordBatch) -> list[Emission]:
        """Return the windows of scoring times that a batch ends."""
        partition, offset, time_ms = (vectors.column(f"_journal_{name}")[-1] for name in ("partition", "offset", "time"))
        over = self._times.take(answers.times, LastRequest(partition.as_py(), offset.as_py(), time_ms.value))
        if not over:
            return []
        values = [self._scoring_time.encode(record) for record in over]
        return [Emission(self._plan.topics.scoring_times, self._partition, [record["model"].encode() for record in over], values)]

    def _now_ms(self, context: StepContext, times_ms: Sequence[int]) -> int:
        """Return the host's time without its steps: after one of hours forward every request would seem to have waited for as long."""
        if context.steady_ms is None:
            return context.now_ms
        now_ms, step = self._host_clock.read(context.now_ms, context.steady_ms, np.array(times_ms, np.int64))
        if step is not None:
            (_LOG.warning if step.followed else _LOG.error)("partition %d: %s", self._partition, step)
        return now_ms

    def _in_time(self, oldest_ms: Sequence[int], now_ms: int) -> Mapping[str, Serving]:
        """Return what answers a step's requests: the fallback where they have waited too long."""
        if oldest_ms:
            wait_ms = now_ms - int(min(oldest_ms))
            for model, away in self._latency.observe(wait_ms).items():
                what = "requests have waited too long and are answered by the fallback" if away else "the model answers again"
                limit_ms = self._plan.models[model].settings.fallback.latency_limit
                _LOG.warning(what, extra={"model": model, "partition": self._partition, "waited_ms": wait_ms, "latency_limit_ms": limit_ms})
        serving = self._models.serving
        late = {name: now for name, now in serving.items() if now.scorer is not None and self._latency.answers_with_fallback(name)}
        if not late:
            return serving
        return {**serving, **{name: now.without_model(LATENCY).without_challenger(LATENCY) for name, now in late.items()}}

    def _count(self, answers: pa.RecordBatch) -> None:
        """Count answers by model and reason, if any has one."""
        if answers.column("reason").null_count == answers.num_rows:
            return
        grouped = pa.table(answers.select(["model", "reason"])).group_by(["model", "reason"]).aggregate([([], "count_all")])
        for row in grouped.to_pylist():
            if row["reason"] is not None:
                self._degraded[row["model"], row["reason"]] += row["count_all"]
