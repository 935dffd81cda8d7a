"""Challengers through every stage in one process: a worse one is stepped back without a human, a better one serves in the end, the audit is clean."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.linear_models import linear_artifact
from tests.unit.shared.models.test_assignment import hash_of
from tests.unit.tidemill.planning.one_process import APP, OneProcess, RememberingBroker, write
from tidemill.audit.run_log import TopicLog
from tidemill.backtest.public_log import PublicLog
from tidemill.backtest.recorded_run import recorded_switches
from tidemill.backtest.rerun import rerun
from tidemill.backtest.stages import StageWorld
from tidemill.backtest.virtual_time import VirtualClock
from tidemill.runs.topics import create_topics
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult, version_name
from tidemill.services.retraining.processes.trainer import Trainer
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.models.artifacts import ArtifactStore

pytestmark = pytest.mark.lasts(25)

SHARE, AB_SHARE = 0.3, 0.6
STAGES = f"{{canary: {{share: {SHARE}, for: 2d, labels: 50}}, ab: {{share: {AB_SHARE}}}, longest: 12d}}"
STAGED = APP.replace("budget_per_30d: 10", "budget_per_30d: 3").replace(
    "    fallback:", f"    gate: {{block: 6h}}\n    stages: {STAGES}\n    fallback:"
)
SLOPES = (0.3, -1.0, 1.2)
"""Of the trainings, one after the other: the first model, a much worse one that has passed its gate, a better one."""


class PlannedTrainer(Trainer):
    """Every candidate passes, whatever it is worth."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts, self._asked = artifacts, dict[str, float]()
        self._request: JobRequest | None = None

    def start(self, request: JobRequest) -> None:
        """Begin one."""
        self._request = request

    def poll(self) -> JobResult:
        """Return its result."""
        assert self._request is not None
        version = version_name(self._request.retraining)
        slope = self._asked.setdefault(version, SLOPES[min(len(self._asked), len(SLOPES) - 1)])
        made = linear_artifact("binary", np.array([[slope], [-slope]]), version, (), model="faulty")
        address = self._artifacts.put(made.to_bytes())
        return JobResult(
            finished=True, reason="because", version=version, passed=True,
            artifact_sha256=address, artifact_uri=self._artifacts.uri_of(address), details={"family": "linear"}
        )  # fmt: skip


class ManyMeters(OneProcess):
    """Forty meters, so that a share of them is one."""

    def _send(self, sink: Any, topic: str, row: Mapping[str, Any]) -> None:
        super()._send(sink, topic, {**row, "meter": f"m{int(row['reading_id'][1:]) % 40}"})


def test_a_bad_canary_is_stepped_back_and_a_good_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ManyMeters, "trainer", PlannedTrainer)
    run = ManyMeters(tmp_path)
    run.start(write(tmp_path / "one", STAGED))
    events: list[dict[str, Any]] = []
    while run._rows < 2_400 and [event["event"] for event in events].count("promoted") < 2:
        run.publish(120)
        events = run.records("meters-deployments", "deployment")
    run.publish(40)

    first, bad, good = list(dict.fromkeys(event["version"] for event in events))[:3]
    steps = [(event["event"], event["version"]) for event in events if event["event"] in ("canary", "ab", "stepped_back", "promoted")]
    assert steps == [("promoted", first), ("canary", bad), ("stepped_back", bad), ("canary", good), ("ab", good), ("promoted", good)]
    began, back = (next(event for event in events if event["event"] == name and event["version"] == bad) for name in ("canary", "stepped_back"))
    assert back["journal_time"] - began["journal_time"] <= 2 * 86_400_000 + 14_400_000 + 21_600_000, "within its baking time, horizon and a block"
    assert back["operator"] == "" and ("loss" in back["reason"] or "calibration" in back["reason"])

    answers = run.records("meters-predictions", "prediction")
    assert Counter(one["request_id"] for one in answers) == Counter(f"r{i}" for i in range(run._rows)), "every request is answered once"
    sequences = {event["sequence"]: event for event in events}
    runs = run.broker.reader().read(TopicPartition("meters-predictions", 0), 0)
    keys = [key for one in runs for key in one.keys]
    pairs = {one["request_id"]: one for one in run.records("meters-shadow-scores", "shadow-score")}
    for key, answer in zip(keys, answers, strict=True):
        pair = pairs.get(answer["request_id"])
        if pair is None:
            assert answer["variant"] in ("champion", "default")
            continue
        drawn = (hash_of(key or b"", sequences[pair["challenger_sequence"]]["artifact_sha256"]) >> 11) / 2**53
        assert (pair["draw"], pair["variant"]) == (drawn, answer["variant"])
        began_stage = sequences[pair["challenger_sequence"]]
        assert pair["stage"] == began_stage["event"] and pair["share"] == began_stage["share"] == {"canary": SHARE, "ab": AB_SHARE}[pair["stage"]]
        assert answer["variant"] == ("canary" if drawn < pair["share"] else "champion")
    assert {answer["variant"] for answer in answers} == {"default", "champion", "canary"}

    won = next(event for event in events if event["event"] == "promoted" and event["version"] == good)
    assert "in an A/B test: the challenger wins: loss" in won["reason"] and won["figures"]["loss_difference_high"] < 0
    assert {pair["stage"] for pair in pairs.values()} == {"canary", "ab"}
    outcomes = run.records("meters-outcomes", "outcome")
    assert all(one["draw"] == pairs[one["request_id"]]["draw"] for one in outcomes if one["request_id"] in pairs and one["status"] != "unmatched")
    compared = [one for one in run.records("meters-trials", "trial") if one["stage"] == "ab"]
    assert all(one["challenger_arm_labels"] > 0 and one["arm_difference"] is not None for one in compared if one["labels"] > 20)
    trials = run.records("meters-trials", "trial")
    assert {trial["challenger_version"] for trial in trials} == {bad, good}
    assert all(trial["difference_mean"] > 0 for trial in trials if trial["challenger_version"] == bad and trial["labels"])
    health = [one for one in run.records("meters-health", "health") if "log_loss" in one["metrics"] and one["model_version"] == first]
    assert max(one["metrics"]["log_loss"] for one in health[1:]) < 0.75, "the champion is judged by its own scores, not by the canary's"
    verdict = run.audit().result
    assert verdict.clean, verdict.examples
    assert (verdict.predictions_compared, verdict.shadow_scores_compared) == (len(answers), len(pairs))

    # The run's journal, given again with champions and challengers where it had them, makes the same bytes.
    log, clock = TopicLog(run.plan, run.broker, run.registry), VirtualClock()
    again = RememberingBroker(clock.now_ms, 0.0)
    create_topics(run.plan, again)
    world = StageWorld(run.plan, tmp_path / "one", tmp_path / "again", again, run.registry, clock, run.artifacts)
    public = PublicLog(run.plan, again, run.registry, lambda _: None)
    rerun(world, again, log, recorded_switches(run.plan, log, run.registry), public, lambda *_: None)
    for topic in (run.plan.topics.predictions, run.plan.topics.shadow_scores, run.plan.topics.outcomes):
        runs = again.reader().read(TopicPartition(topic, 0), 0)
        assert [value for one in runs for value in one.values if value is not None] == run.values(topic), topic
