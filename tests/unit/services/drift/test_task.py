"""Drift end to end on records: findings, health against scikit-learn, any batching, restart anywhere, bad input."""

from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle

import tidemill.services.drift.task as task_module
from tests.long_forms import shortened
from tests.unit.services.drift.stream import DAY, SCHEMAS, START, Shop, Topics, season, shop
from tidemill.services.drift.task import DriftTask, task_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records, StateEntry, Step
from tidemill.shared.runner.task import StepContext

CONTEXT = StepContext(now_ms=0)
Written = list[tuple[str, bytes]]


class Pipeline:
    """Feeds a task the way a runner would, in uneven batches, and restarts it where asked."""

    def __init__(self, plan: Plan, rows: Shop) -> None:
        self.plan, self.rows, self.registry = plan, rows, MemorySchemaRegistry()
        self.topics = Topics(plan, self.registry, rows)

    def run(self, seed: int, restarts: tuple[int, ...] = (), steps: int = 25, snapshot_every: int = 1) -> Written:
        generator = np.random.default_rng(seed)
        task, said, blobs = DriftTask(self.plan, self.registry), [], {}
        ends = {
            topic: [*sorted(generator.integers(0, len(values) + 1, steps - 1).tolist()), len(values)] for topic, values in self.topics.values.items()
        }
        begin = dict.fromkeys(ends, 0)
        last: Step | None = None
        for step in range(steps):
            inputs: list[Records] = []
            for topic in generator.permutation(list(ends)):
                inputs.append(self.topics.records(topic, begin[topic], ends[topic][step]))
                begin[topic] = ends[topic][step]
            for topic in ends:
                if generator.random() < 0.5 or step == steps - 1:
                    time = START + int((self.rows.end_ms - START) * (step + 1) / steps) + (2 * DAY if step == steps - 1 else 0)
                    inputs.append(self.topics.covered(topic, 0, time))
            last = task.process(inputs, CONTEXT)
            said += [(one.topic, value) for one in last.emissions for value in one.values if value is not None]
            if step % snapshot_every == 0:
                task._rows_since_snapshot = 10**9
            checkpoint = task.checkpoint(1)
            for entry in checkpoint.entries:
                blobs[entry.key] = entry.value
            if step in restarts:
                task = DriftTask(self.plan, self.registry)
                task.restore([StateEntry(key, value) for key, value in blobs.items() if value is not None])
                task.resume(last.positions, {}, last.coverage.offset, last.coverage.time_ms)
                for run in self.topics.until(dict(last.positions), dict(checkpoint.marker)):
                    task.replay([run])
                held = [self.topics.records(topic, last.positions.get((topic, 0), 0), begin[topic]) for topic in ends]  # type: ignore[call-overload]  # plain integers at run time
                again = task.process(held, CONTEXT)
                said += [(one.topic, value) for one in again.emissions for value in one.values if value is not None]
                assert again.coverage.time_ms >= last.coverage.time_ms
        # How many windows a step closes is not promised, and so not the order of two topics either.
        return sorted(said, key=itemgetter(0))


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(shop(tmp_path), season())


def decoded(pipeline: Pipeline, said: Written) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    drift = RecordCodec(pipeline.registry, "d", (SCHEMAS / "drift.avsc").read_text())
    health = RecordCodec(pipeline.registry, "h", (SCHEMAS / "health.avsc").read_text())
    topics = pipeline.plan.topics
    return [drift.decode(v) for t, v in said if t == topics.drift], [health.decode(v) for t, v in said if t == topics.health]


def test_finds_what_was_put_in(pipeline: Pipeline) -> None:
    events, health = decoded(pipeline, pipeline.run(0))
    kinds = {(event["kind"], event["subject"]) for event in events}
    assert {("bootstrap", "labels"), ("loss", "excess_loss"), ("missing", "weight"), ("category", "country")} <= kinds
    assert ("feature", "weight") not in kinds or any(event["evidence"]["missing"] > 0.3 for event in events if event["subject"] == "weight")
    asked = [event for event in events if event["kind"] == "bootstrap"]
    assert [event["statistic"] for event in asked] == [500, 625, 782, 978]
    labels = [row for row in pipeline.rows.outcomes if row["label"] is not None]
    assert asked[0]["journal_offset"] == labels[499]["journal_offset"] and asked[0]["severity"] == "info"
    alarms = [event for event in events if event["severity"] == "alarm"]
    ended = [event for event in alarms if event["kind"] in ("volume", "labels")]
    assert {event["kind"] for event in alarms} - {"volume", "labels"} == {"loss", "quality"}
    assert all(event["journal_time"] >= START + 13 * DAY for event in ended), "nothing comes on the day after the last"
    assert all(event["journal_time"] >= START + 8 * DAY for event in alarms)
    assert all(event["severity"] == "warning" for event in events if event["kind"] in ("feature", "missing", "range", "category"))
    assert all(START + 9 * DAY <= event["journal_time"] for event in events if event["kind"] in ("missing", "range", "category"))
    assert len({event["drift_id"] for event in events}) == len(events)
    order = [(event["journal_time"], event["journal_partition"], event["journal_offset"]) for event in events]
    assert order == sorted(order)
    assert [one["window_start"] for one in health] == [START + day * DAY for day in range(13)]


def test_health_equals_scikit_learn(pipeline: Pipeline) -> None:
    _, health = decoded(pipeline, pipeline.run(1))
    outcomes, predictions = pd.DataFrame(pipeline.rows.outcomes), pd.DataFrame(pipeline.rows.predictions)
    vectors = pd.DataFrame(pipeline.rows.vectors)
    for one in health:
        mine = outcomes[(outcomes.journal_time >= one["window_start"]) & (outcomes.journal_time < one["window_end"])]
        asked = predictions[(predictions.journal_time >= one["window_start"]) & (predictions.journal_time < one["window_end"])]
        metrics = one["metrics"]
        assert (metrics["labels"], metrics["predictions"]) == (len(mine), len(asked))
        assert metrics["auc"] == pytest.approx(oracle.roc_auc_score(mine.label, mine.score))
        assert metrics["log_loss"] == pytest.approx(oracle.log_loss(mine.label, mine.score))
        assert metrics["accuracy"] == pytest.approx(oracle.accuracy_score(mine.label, mine.predicted))
        assert metrics["kappa"] == pytest.approx(oracle.cohen_kappa_score(mine.label, mine.predicted))
        assert metrics["label_delay_p50_ms"] == 3_600_000
        if len(asked):
            assert metrics["score_mean"] == pytest.approx(asked.score.mean())
            latencies = np.where(asked.index % 100 == 99, 2_000, 5 + asked.index % 20)  # see `stream.Topics.records`; three digits of 2,003
            for name, share in (("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)):
                assert metrics[name] == np.quantile(latencies, share, method="inverted_cdf")
        if one["window_start"] >= START + 5 * DAY and len(asked):
            assert one["model_version"] == "v1"
            first = predictions[predictions.model_version == "v1"].iloc[0]
            # The days that were over: they have most rows.
            before = vectors[vectors._journal_time < first.journal_time // DAY * DAY].country.value_counts(normalize=True)
            today = vectors[(vectors._journal_time >= one["window_end"] - 7 * DAY) & (vectors._journal_time < one["window_end"])].country
            shares = today.value_counts(normalize=True).reindex([*before.index, "new"] if "new" in set(today) else before.index).fillna(0)
            expected = before.reindex(shares.index).fillna(0)
            p, q = np.maximum(expected, 1e-4), np.maximum(shares, 1e-4)
            assert metrics["psi__country"] == pytest.approx(float(((q - p) * np.log(q / p)).sum()))


def test_a_champion_that_serves_again_is_compared_with_the_data_it_learned_from(tmp_path: Path) -> None:
    """v1 from day 4, v2 from day 6, rolled back to v1 at day 8: the reference of v1 is what had been seen by day 4, now and after restarts."""
    rows = season(days=10, drifting=6)
    for answer in rows.predictions:
        day = (answer["journal_time"] - START) // DAY
        if 6 <= day:
            answer |= {"model_version": "v2" if day < 8 else "v1", "deployment_sequence": 4 if day < 8 else 5}
    pipeline = Pipeline(shop(tmp_path), rows)
    said = pipeline.run(3)
    assert pipeline.run(3, restarts=(14, 18, 19, 20), snapshot_every=4) == said
    _, health = decoded(pipeline, said)
    served = {(one["window_start"] - START) // DAY: one for one in health}
    assert [served[day]["model_version"] for day in range(10)] == ["default"] * 4 + ["v1"] * 2 + ["v2"] * 2 + ["v1"] * 2
    vectors = pd.DataFrame(rows.vectors)
    before = vectors[vectors._journal_time < START + 4 * DAY].country.value_counts(normalize=True)
    for day in (8, 9):
        today = vectors[(vectors._journal_time >= START + (day - 6) * DAY) & (vectors._journal_time < START + (day + 1) * DAY)].country
        shares = today.value_counts(normalize=True)
        expected = before.reindex(shares.index).fillna(0)
        p, q = np.maximum(expected, 1e-4), np.maximum(shares, 1e-4)
        assert served[day]["metrics"]["psi__country"] == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=0.02)


@pytest.mark.parametrize("seed", shortened(range(3), 1))
def test_any_batching_says_the_same(pipeline: Pipeline, seed: int) -> None:
    first, second = pipeline.run(seed, steps=3), pipeline.run(seed + 10, steps=60)
    for topic in (pipeline.plan.topics.drift, pipeline.plan.topics.health):
        assert [value for name, value in first if name == topic] == [value for name, value in second if name == topic]


@pytest.mark.parametrize("snapshot_every", shortened([7, 1, 100], 1))
def test_restart_anywhere_is_no_restart(pipeline: Pipeline, snapshot_every: int) -> None:
    whole = pipeline.run(5)
    for restarts in [(3,), (0, 11, 12), tuple(range(24))]:
        assert pipeline.run(5, restarts, snapshot_every=snapshot_every) == whole


def test_nothing_is_said_before_upstream_has_covered_it(pipeline: Pipeline) -> None:
    task = DriftTask(pipeline.plan, pipeline.registry)
    step = task.process([pipeline.topics.records(topic, 0, 10**6) for topic in pipeline.topics.values if "outcomes" not in topic], CONTEXT)
    assert not step.emissions and step.coverage.time_ms < 0
    idle = task.process([pipeline.topics.covered(topic, 0, START) for topic in pipeline.topics.values], CONTEXT)
    assert idle.coverage.time_ms == START and not idle.emissions


def test_coverage_advances_without_rows(pipeline: Pipeline) -> None:
    task = DriftTask(pipeline.plan, pipeline.registry)
    for time in (START - 5 * DAY, START - 2 * DAY):
        step = task.process([pipeline.topics.covered(topic, 3, time) for topic in pipeline.topics.values], CONTEXT)
        assert (step.coverage.time_ms, list(step.emissions)) == (time, [])


def test_an_undecodable_record_is_named(pipeline: Pipeline) -> None:
    topic = pipeline.plan.topics.predictions
    broken = Records(topic, 0, np.array([7]), np.zeros(1, np.int64), [None], [b"\x00\x00\x00\x00\x63rubbish"])
    with pytest.raises(ValueError, match=f"{topic}:0 offset 7, got unknown_schema_id"):
        DriftTask(pipeline.plan, pipeline.registry).process([broken], CONTEXT)


def test_one_task_reads_everything(pipeline: Pipeline) -> None:
    inputs = task_inputs(pipeline.plan)
    assert inputs.gathered and "shop-scoring-progress" in inputs.partitioned and "shop-vectors" in inputs.partitioned


def test_a_snapshot_waits_for_the_more_rows_the_larger_it_is(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a day's labels at thousands a second took seconds, and came every few seconds."""
    task = DriftTask(pipeline.plan, pipeline.registry)
    entries = task.checkpoint(1).entries
    size = sum(len(entry.value or b"") for entry in entries)
    monkeypatch.setattr(task_module, "_SNAPSHOT_ROWS", 20)
    monkeypatch.setattr(task_module, "_SNAPSHOT_BYTES", size // 5)
    again = DriftTask(pipeline.plan, pipeline.registry)
    again.restore(entries)
    written: list[list[int]] = [[], []]
    for number, one in enumerate((task, again)):
        one._rows_since_snapshot = 0
        for step in range(1, 13):
            one._rows_since_snapshot += 20
            one.checkpoint(1)
            if not one._rows_since_snapshot:
                written[number].append(step)
    assert written == [[5, 10], [5, 10]], "a restart knows how large it is"
